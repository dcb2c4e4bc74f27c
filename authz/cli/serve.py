from cyclopts import App

app = App(name="serve")


@app.default
def x() -> None:
    print(1)
