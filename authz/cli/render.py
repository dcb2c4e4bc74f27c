"""`authz render`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from authz.cli import context, output
from authz.cli.errors import CommandError, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.gateway.from_config import entry_name, settings_for
from authz.gateway.render import RENDERERS, render
from authz.gateway.settings import UnusableSettings

app = App(name="render")


@app.default
def render_(
    kind: Literal["envoy", "traefik", "nginx", "caddy"],
    /,
    *,
    part: str | None = None,
    output_directory: Annotated[Path | None, Parameter(name="--output")] = None,
    gateway: str | None = None,
    version: str | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Write the config of a gateway, made from authz.yaml: complete, commented, ready to run.

    Parameters
    ----------
    kind
        Which gateway.
    part
        Only this part, to paste into a config that exists.
    output_directory
        Write the files there. Left out: print the main one.
    gateway
        The entry of `gateways` where there are several of this kind.
    version
        The version of your gateway, such as 1.31.
    """
    if part is not None and part not in RENDERERS[kind].parts:
        raise UsageError(
            f"{kind} has no part {part!r}.", hint=f"Its parts are {', '.join(RENDERERS[kind].parts)}."
        )
    at = context.read(common)
    try:
        name = entry_name(at.config, kind, gateway)
        files = render(kind, settings_for(at.config, name, version=version), part)
    except UnusableSettings as error:
        raise CommandError(f"{error}.") from None
    if name is None:
        output.note(
            f"note: {at.path} has no gateway of kind {kind}, so it gets plain decisions only.\n"
            f"  Add `gateways: {{edge: {{kind: {kind}, token: {{file: PATH}}}}}}`."
        )
    if not at.config.backends and part is None:
        output.note(f"note: {at.path} has no `backends`; http://127.0.0.1:8000 stands for your model server.")
    if output_directory is not None:
        _write(files, output_directory, as_json=common.json)
    elif common.json:
        output.show_json(files)
    else:
        main, *others = files.values()
        sys.stdout.write(main)
        if others:
            rest = ", ".join(list(files)[1:])
            output.note(
                f"note: this is {next(iter(files))}; it needs {rest} too. --output DIR writes all of them."
            )


def _write(files: dict[str, str], directory: Path, *, as_json: bool) -> None:
    written = []
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            written.append(str(path))
    except OSError as error:
        raise CommandError(f"{directory} cannot be written: {error.strerror}.") from None
    if as_json:
        output.show_json(written)
    else:
        for name in written:
            output.say(name)
