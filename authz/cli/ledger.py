"""`authz ledger`: what the running service's ledger lacks, told again."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPException
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter
from msgspec import Struct

from authz.cli import context, envoy_journal, nginx_journal, output
from authz.cli.as_gateway import connection_to, proof_headers
from authz.cli.context import Context
from authz.cli.envoy_journal import Skipped, read_lines
from authz.cli.errors import CommandError, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.gateway.from_config import entry_name
from authz.gateway.preflight import reached
from authz.gateway.settings import UnusableSettings
from authz.store.protocols import Outcome

app = App(name="ledger", help="The ledger of what was used: tell it again what it lacks.")

Reader = Callable[[bytes, str], dict[str, object] | Skipped]
"""Of a line, as an item of `POST /v1/usage` if it is that gateway's."""

INVALID: Final = "invalid"
_READERS: Final[Mapping[str, Reader]] = {
    "envoy": envoy_journal.read_report,
    "nginx": nginx_journal.read_report,
}
_BATCH: Final = 500
_PATIENCE: Final = (0.2, 1.0, 3.0)  # seconds between two tries


class _Result(Struct):
    outcome: str


class _Results(Struct):
    results: list[_Result]


_results = msgspec.json.Decoder(_Results)


@app.command
def replay(
    files: Annotated[list[str], Parameter(allow_leading_hyphen=True)],
    /,
    *,
    gateway: str | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Tell the running service what a gateway's own log says was used. What it knows changes nothing.

    For what it told while nobody listened, or not at all: the service was away, the gateway was killed.

    Parameters
    ----------
    files
        What the rendered Envoy or nginx wrote to its standard output, plain or .gz; `-` for standard input.
    gateway
        The entry of `gateways` whose log it is, where there are several of that kind, or of both kinds.
    """
    at = context.read(common)
    kind = _kind(at, gateway)
    name = _gateway(at, kind, gateway)
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        streams = [_open(file, stack) for file in files]
        service = _Service(at, name)
        stack.callback(service.close)
        batch: list[dict[str, object]] = []
        for report in _reports(streams, _READERS[kind], name, counts):
            batch.append(report)
            if len(batch) == _BATCH:
                counts.update(service.tell(batch))
                batch = []
        if batch:
            counts.update(service.tell(batch))
    outcomes = [each.value for each in Outcome] + [INVALID]
    row = {outcome: counts[outcome] for outcome in [*outcomes, *(each.value for each in Skipped)]}
    output.show_record(row, as_json=common.json)


def _kind(at: Context, wanted: str | None) -> str:
    """Of the gateway that is meant: the named one's, else that of which there is one; Envoy first."""
    entry = at.config.gateways.get(wanted) if wanted is not None else None
    kinds = [each.kind.value for each in ([entry] if entry is not None else at.config.gateways.values())]
    return next((kind for kind in _READERS if kind in kinds), "envoy")


def _gateway(at: Context, kind: str, wanted: str | None) -> str:
    try:
        name = entry_name(at.config, kind, wanted)
    except UnusableSettings as error:
        raise UsageError(f"{error}.", hint="Choose one with --gateway NAME.") from None
    if name is None:
        raise CommandError(
            f"{at.path} has no gateway of kind envoy or nginx.",
            hint="Only those keep such a log.",
        )
    return name


def _open(file: str, stack: ExitStack) -> BufferedReader:
    """Standard input through a descriptor of our own: closing it closes nothing else."""
    if file == "-":
        return stack.enter_context(open(sys.stdin.fileno(), "rb", closefd=False))
    return stack.enter_context(Path(file).open("rb"))


def _reports(
    streams: Sequence[BufferedReader], read_report: Reader, gateway: str, counts: Counter[str]
) -> Iterator[dict[str, object]]:
    for stream in streams:
        for line in read_lines(stream):
            report = line if isinstance(line, Skipped) else read_report(line, gateway)
            if isinstance(report, Skipped):
                counts[report.value] += 1
            else:
                yield report


class _Service:
    """The running service, told in the name of a gateway."""

    def __init__(self, at: Context, gateway: str) -> None:
        self._headers = proof_headers(at, gateway) | {"content-type": "application/json"}
        self._connection = connection_to(at, gateway)
        self._address = reached(at.config.decisions.http)

    def close(self) -> None:
        self._connection.close()

    def tell(self, reports: Sequence[dict[str, object]]) -> Counter[str]:
        """What became of them, counted. Tries again for a while if nobody answers. Raises CommandError."""
        body = msgspec.json.encode(reports)
        for wait in (*_PATIENCE, None):
            status, answer = self._post(body)
            if status == HTTPStatus.OK:
                return Counter(result.outcome for result in _results.decode(answer).results)
            if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise CommandError(
                    f"the service at {self._address} refuses this gateway's reports (HTTP {status}).",
                    hint="It and this command must read the same config, token included.",
                )
            if wait is not None:
                time.sleep(wait)
        raise CommandError(
            f"the service at {self._address} does not take reports"
            + (f" (HTTP {status})." if status else "; nobody answers there."),
            hint="Start it and repeat the whole command: nothing is charged twice.",
        )

    def _post(self, body: bytes) -> tuple[int | None, bytes]:
        """Status and body; None for no answer."""
        try:
            self._connection.request("POST", "/v1/usage", body, self._headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            self._connection.close()
            return None, b""
