from cyclopts import App

app = App(name="limits")


@app.default
def x() -> None:
    print(1)
