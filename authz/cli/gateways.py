"""`authz gateways`: what a gateway does, seen from outside."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from authz.cli import context, output
from authz.cli.context import Context
from authz.cli.credential import headers_of, key_from_stdin
from authz.cli.errors import CommandError, Exit, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.config.base import nearest
from authz.config.gateways import GatewayEntry
from authz.probe.finding import Finding, Verdict
from authz.probe.run import probe
from authz.probe.scene import FEW, Scene
from authz.probe.wire import Target, Unreachable, target
from authz.probe.witness import Witness
from authz.store.protocols import StoreUnavailable

app = App(name="gateways", help="Gateways: test one from outside.")

COLUMNS: Final = ("probe", "expected", "seen", "verdict", "advice")


@app.command(name="test")
def probe_gateway(
    name: str,
    /,
    *,
    url: str,
    key: Annotated[str, Parameter(allow_leading_hyphen=True)],
    model: str | None = None,
    echo: str | None = None,
    header: list[str] | None = None,
    ca: Path | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Probe a gateway that you run: spoofed headers, paths, refusals, limits, streaming, settlement.

    It asks some 30 requests, at most ten of them chats of at most 8 tokens. Whom authz took a caller for, and
    what it settled, is seen in the store: run it where the service runs, or those rows say that they were
    not seen. For the 429 a key that may ask once a minute is made in the store, and revoked afterwards.
    The exit code is 1 where something is wrong.

    Parameters
    ----------
    name
        Its name in `gateways` of the config.
    url
        Where clients reach it: https://llm.lab
    key
        `-`: read a key or token that may use it from standard input.
    model
        The model to chat with. Left out: the first that the key may use.
    echo
        A path where the model server answers what it received (GET), to see what the gateway hands on.
    header
        NAME=VALUE to send with every request; repeat for more.
    ca
        The authority in PEM that signed the gateway's certificate, where the system does not know it.
    """
    at = context.read(common)
    entry = _entry(at, name)
    where = _target(url, ca)
    secret = key_from_stdin(key)
    headers = list(headers_of(header or ()).items())
    with _witness(at) as witness:
        scene = Scene(
            where,
            gateway=name,
            kind=entry.kind.value,
            key=secret,
            model=model,
            max_body=entry.max_body,
            rate_headers=at.config.rate_headers == "always",
            reported=entry.kind.value != "caddy" or entry.usage == "backend",
            headers=headers,
            echo=echo,
            witness=witness,
        )
        try:
            findings = list(probe(scene))
        except Unreachable as error:
            raise CommandError(
                f"nothing answers at {where.origin} ({error}).",
                hint="Start the gateway, or name its authority with --ca FILE.",
            ) from None
    _show(findings, scene, as_json=common.json)
    return Exit.FAILED if any(each.verdict is Verdict.WRONG for each in findings) else Exit.OK


def _entry(at: Context, name: str) -> GatewayEntry:
    entry = at.config.gateways.get(name)
    if entry is None:
        known = sorted(at.config.gateways)
        meant = nearest(name, known)
        hint = f"Did you mean {meant!r}?" if meant else f"`gateways` has {', '.join(known) or 'none'}."
        raise CommandError(f"{at.path} has no gateway {name!r}.", hint=hint)
    return entry


def _target(url: str, ca: Path | None) -> Target:
    try:
        return target(url, ca)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    except OSError as error:
        raise CommandError(f"{ca} holds no certificate that can be read: {error}.") from None


@contextmanager
def _witness(at: Context) -> Iterator[Witness | None]:
    """What the service behind the gateway noted; None where this command cannot reach it."""
    if at.loaded.store.scheme != "sqlite":
        yield None
        return
    try:
        opened = context.view(at)
        store = opened.__enter__()
    except (CommandError, StoreUnavailable) as error:
        output.note(f"note: the store is out of reach ({error}).")
        yield None
        return
    try:
        yield Witness(store, context.now)
    finally:
        opened.__exit__(None, None, None)


def _show(findings: Sequence[Finding], scene: Scene, *, as_json: bool) -> None:
    rows: list[output.Row] = [
        {
            "probe": each.probe,
            "expected": each.expected,
            "seen": each.seen,
            "verdict": each.verdict.value,
            "advice": each.advice,
        }
        for each in findings
    ]
    cost = {"requests": scene.requests, "chats": scene.chats, "most_tokens_each": FEW}
    counts = Counter(each.verdict for each in findings)
    if as_json:
        output.show_json(
            {"gateway": scene.gateway, **{verdict.name.lower(): counts[verdict] for verdict in Verdict}}
            | {"asked": cost, "findings": rows}
        )
        return
    if sys.stdout.isatty():
        output.show_rows(rows, COLUMNS[:-1], as_json=False, none="")
        for each in findings:
            if each.advice:
                output.say(f"{each.probe}: {each.advice}.")
    else:
        output.show_rows(rows, COLUMNS, as_json=False, none="")
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    output.note(f"{told}; {scene.requests} requests, {scene.chats} chats of at most {FEW} tokens")
