from cyclopts import App

app = App(name="config")


@app.default
def x() -> None:
    print(1)
