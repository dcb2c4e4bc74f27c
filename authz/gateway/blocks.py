"""Pieces of a template that are files of their own, set in at a depth."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jinja2 import Environment


def render_blocks(environment: Environment, template: str, values: Mapping[str, Any]) -> str:
    """The template, in which `part(name, spaces)` is another one, indented."""
    known = dict(values)
    known["part"] = partial(_indented, environment, known)
    return environment.get_template(template).render(known)


def _indented(environment: Environment, values: Mapping[str, Any], template: str, spaces: int) -> str:
    text = environment.get_template(template).render(values).rstrip("\n")
    return "\n".join(" " * spaces + line if line else "" for line in text.split("\n"))
