"""What the text below an attribute of a section says of it, read from the source when somebody asks.

pydantic can do that (`use_attribute_docstrings`), but for every section at every start.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise


def descriptions(section: type) -> dict[str, str]:
    """By attribute, those that a section inherits among them."""
    found: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        if owner.__module__.startswith(__package__):
            found |= _classes(owner.__module__).get(owner.__name__, {})
    return found


@cache
def _classes(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:  # installed without its source
        return {}
    return {node.name: dict(_attributes(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _attributes(node: ast.ClassDef) -> list[tuple[str, str]]:
    return [
        (statement.target.id, inspect.cleandoc(after.value.value))
        for statement, after in pairwise(node.body)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    ]
