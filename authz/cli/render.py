from cyclopts import App

app = App(name="render")


@app.default
def x() -> None:
    print(1)
