"""The lane stands by itself: it could be taken out and used for anything else."""

import ast
import sys
from pathlib import Path

import authz.transport.lane as lane


def test_it_imports_nothing_of_what_it_serves() -> None:
    allowed = {"hpack", "msgspec", *sys.stdlib_module_names}
    for file in Path(lane.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in allowed or name.startswith("authz.transport.lane"), (
                    file.name,
                    name,
                )
