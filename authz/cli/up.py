from cyclopts import App

app = App(name="up")


@app.default
def x() -> None:
    print(1)
