"""From a file to a config in force, or to every mistake in it."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from authz.config.base import WEEKDAYS, ConditionCompiler, LoadContext, TokenizerReader
from authz.config.checks import checks
from authz.config.explain import explain
from authz.config.model import Config
from authz.config.problem import ConfigErrors, ConfigNotFound, Problem
from authz.config.raw_checks import raw_checks
from authz.config.store import Store, default_store
from authz.config.warnings import warnings
from authz.config.yaml_source import MAX_BYTES, Source, parse

SECTIONS = ("gateways", "authenticators", "models", "backends", "limits")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid config."""

    config: Config
    store: Store  # the config's, or the file beside it
    warnings: tuple[Problem, ...]
    digest: str  # 12 hex digits of SHA-256 over the file and the secret files
    files: frozenset[Path]  # the config and every secret file: what to watch


def find_config(explicit: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """`--config`, `AUTHZ_CONFIG`, `./authz.yaml`, in this order. Raises ConfigNotFound."""
    named = explicit or (os.environ if environ is None else environ).get("AUTHZ_CONFIG")
    if named:
        return Path(named)
    usual = Path("authz.yaml")
    if not usual.is_file():
        raise ConfigNotFound("no config file: name one with --config or AUTHZ_CONFIG, or create ./authz.yaml")
    return usual


def load(
    path: str | Path,
    *,
    compile_condition: ConditionCompiler | None = None,
    read_tokenizer: TokenizerReader | None = None,
    environ: Mapping[str, str] | None = None,
    secrets_required: bool = True,
) -> Loaded:
    """Reads and checks a config file. Raises ConfigErrors with everything that is wrong.

    With `secrets_required=False` a secret whose variable or file is missing is no mistake; revealing it
    later raises SecretMissing. That is for commands that need the config, not its secrets.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        problem = Problem(str(path), 1, 1, f"the file cannot be read: {error.strerror or error}")
        raise ConfigErrors([problem], [path]) from None
    return loads(
        content,
        file=str(path),
        directory=path.resolve().parent,
        compile_condition=compile_condition,
        read_tokenizer=read_tokenizer,
        environ=environ,
        secrets_required=secrets_required,
    )


def loads(
    content: bytes | str,
    *,
    file: str = "authz.yaml",
    directory: Path | None = None,
    compile_condition: ConditionCompiler | None = None,
    read_tokenizer: TokenizerReader | None = None,
    environ: Mapping[str, str] | None = None,
    secrets_required: bool = True,
) -> Loaded:
    """As `load`, from text. Relative paths start at `directory`."""
    content = content.encode() if isinstance(content, str) else content
    here = Path(file)
    try:
        source = parse(content, file)
    except ConfigErrors as errors:
        raise ConfigErrors(errors.problems, [here]) from None
    context = LoadContext(
        directory=directory or Path.cwd(),
        environ=os.environ if environ is None else environ,
        names={section: tuple(_mapping(source.data, section)) for section in SECTIONS},
        compile_condition=compile_condition,
        read_tokenizer=read_tokenizer,
        secrets_required=secrets_required,
        timezone=_timezone(source.data),
        week_start=_week_start(source.data),
    )
    config, problems = _validate(source, context)
    files = frozenset({here, *context.files})
    if config is None or problems:
        raise ConfigErrors(problems, files)
    return Loaded(
        config=config,
        store=config.store or default_store(context.directory),
        warnings=_in_order(finding.at(source) for finding in warnings(config)),
        digest=_digest(content, context.files),
        files=files,
    )


def _validate(source: Source, context: LoadContext) -> tuple[Config | None, list[Problem]]:
    """The config, and everything that is wrong with it: YAML, shape and meaning together."""
    findings = tuple(raw_checks(source))
    problems = [*source.problems, *(finding.at(source) for finding in findings)]
    config, errors = _try(source.data, context)
    known = {finding.path for finding in findings}
    problems += [problem for path, problem in explain(errors, source) if path not in known]
    if config is None:
        # What is right is looked at as a whole too, without the entries that are wrong by themselves.
        broken = [tuple(error["loc"]) for error in errors]
        config, _ = _try(_without(source.data, broken), context)
    if config is not None:
        problems += [finding.at(source) for finding in checks(config, source)]
    return (None if errors else config), problems


def _try(data: Any, context: LoadContext) -> tuple[Config | None, list[ErrorDetails]]:
    try:
        return Config.model_validate(data, context=context), []
    except ValidationError as error:
        # Nothing of the exception but these details may go on: it holds the file's values, secrets included.
        return None, error.errors(include_url=False, include_input=False)


def _without(data: Any, paths: Sequence[tuple[Any, ...]]) -> Any:
    """The data less the smallest whole entries that hold a mistake."""
    rest = deepcopy(data)
    for path in paths:
        if path[0] in SECTIONS and len(path) > 1 and isinstance(rest.get(path[0]), dict):
            rest[path[0]].pop(path[1], None)
        else:
            rest.pop(path[0], None)
    return rest


def _mapping(data: Any, section: str) -> Mapping[str, Any]:
    value = data.get(section)
    return value if isinstance(value, dict) else {}


def _timezone(data: Any) -> str:
    """What limits fall back on; a wrong one is reported where it stands."""
    zone = data.get("timezone")
    return zone if isinstance(zone, str) else "UTC"


def _week_start(data: Any) -> str:
    day = data.get("week_start")
    return day if day in WEEKDAYS else WEEKDAYS[0]


def _digest(content: bytes, files: set[Path]) -> str:
    digest = hashlib.sha256(content)
    for path in sorted(files):
        try:
            digest.update(b"\0" + path.read_bytes())
        except OSError:
            digest.update(b"\0")
    return digest.hexdigest()[:12]


def _in_order(problems: Iterator[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.message)))
