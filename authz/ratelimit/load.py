"""The files of a directory, to limits that can be in force or to every mistake in them."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from authz.config.problem import ConfigErrors, Problem
from authz.config.yaml_source import MAX_BYTES, parse
from authz.ratelimit.limits import Node, Rules
from authz.ratelimit.read import Reading

ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class LoadedLimits:
    """Limits without a mistake."""

    rules: Rules
    digest: str  # 12 hex digits of SHA-256 over names and contents
    files: frozenset[Path]  # the directory and what was read from it: what to watch


def load_limits(directory: Path, environ: Mapping[str, str] | None = None) -> LoadedLimits:
    """Every file of the directory that ends in .yaml or .yml; hidden ones and directories are left out.

    A domain stands in one file, unless MERGE_DOMAIN_CONFIG is `true` in the environment. Raises ConfigErrors.
    """
    merge = (os.environ if environ is None else environ).get("MERGE_DOMAIN_CONFIG", "").lower() == "true"
    paths, problems = _files_of(directory)
    watched = frozenset({directory, directory / "limits.yaml", *paths})  # the directory too while it is empty
    digest = hashlib.sha256(str(merge).encode())
    rules: dict[str, Node] = {}
    first: dict[str, Path] = {}
    for path in paths:
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
            source = parse(content, str(path))
        except OSError as error:
            problems.append(Problem(str(path), 1, 1, f"the file cannot be read: {error.strerror or error}"))
            continue
        except ConfigErrors as errors:
            problems += errors.problems
            continue
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
        reading = Reading(source)
        domain, descriptors = reading.read()
        if domain in first and not merge:
            at = source.value_position(("domain",))
            message = f"the domain `{domain}` is that of {first[domain]} too; join the files"
            hint = f"{message}, or set MERGE_DOMAIN_CONFIG=true"
            problems.append(Problem(str(path), at.line, at.column, hint))
        if domain:
            first.setdefault(domain, path)
        reading.add(rules.setdefault(domain, Node()) if merge or domain not in rules else Node(), descriptors)
        problems += reading.problems
    if problems:
        raise ConfigErrors(problems, watched)
    return LoadedLimits(rules, digest.hexdigest()[:12], watched)


def _files_of(directory: Path) -> tuple[list[Path], list[Problem]]:
    try:
        found = sorted(
            path
            for path in directory.iterdir()
            if path.suffix in ENDINGS and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        message = (
            f"the directory cannot be read: {error.strerror or error}; name one that holds files of limits"
        )
        return [], [Problem(str(directory), 1, 1, message)]
    if found:
        return found, []
    return [], [Problem(str(directory), 1, 1, "no file here ends in .yaml; put the files of limits here")]
