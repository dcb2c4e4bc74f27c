from cyclopts import App

app = App(name="check")


@app.default
def x() -> None:
    print(1)
