from cyclopts import App

app = App(name="decisions")


@app.default
def x() -> None:
    print(1)
