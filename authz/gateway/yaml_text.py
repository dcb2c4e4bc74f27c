"""Scalars of a YAML file that a template writes."""

import json
import re

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})  # YAML 1.1 words


def quoted(text: str) -> str:
    """Plain where that is safe, else in double quotes (a JSON string is one)."""
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return json.dumps(text)


def single_quoted(text: str) -> str:
    """In single quotes: for text full of double ones."""
    return "'" + text.replace("'", "''") + "'"
