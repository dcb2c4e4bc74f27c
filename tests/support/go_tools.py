"""Programs written in Go that only `make soak` runs: of the PATH, or where a variable of the environment says."""

import os
import shutil

MODULES = {
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec",
    "ghz": "github.com/bojand/ghz/cmd/ghz",
}


def go_tool(name: str) -> str:
    """The path of one. A missing one is a failure, never a skip."""
    variable = f"AUTHZ_{name.upper()}"
    found = shutil.which(os.environ.get(variable) or name)
    assert found is not None, (
        f"{name} is needed: `go install {MODULES[name]}@latest`, "
        f"then put it on the PATH or set {variable} to its path"
    )
    return os.path.abspath(found)
