"""The options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

_COMMON = Group("Common", sort_key=100)

Models = Annotated[
    list[str] | None, Parameter(name="--model", help="A model that may be used; repeat for more.")
]
NoModels = Annotated[bool, Parameter(name="--no-models", help="No model at all may be used.")]
Limits = Annotated[
    list[str] | None,
    Parameter(
        name="--limit", help="UNIT=N/WINDOW, such as requests=60/m or tokens=200k/day; repeat for more."
    ),
]
Roles = Annotated[list[str] | None, Parameter(name="--role", help="A role; repeat for more.")]

ConfigFile = Annotated[
    Path | None,
    Parameter(name="--config", help="The config file. Left out: AUTHZ_CONFIG, then ./authz.yaml."),
]


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, slots=True)
class Common:
    """What every command takes."""

    config: ConfigFile = None
    json: Annotated[bool, Parameter(help="Print JSON.")] = False


DEFAULTS = Common()
