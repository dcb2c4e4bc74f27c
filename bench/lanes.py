"""A whole decision over gRPC beside null servers: an API key, three limits, one of them in tokens and so reserved."""

import sys
from contextlib import ExitStack

from bench.figures import Spread
from bench.load import GRPC, framed, h2load
from bench.machine import SERVER_CORE, pin
from bench.oracle import ASKED, QUOTA, judge
from bench.ours import CHAT, GATEWAY, Credentials, Ours, admitted, answer, message, serve_help
from bench.replay import Replay
from bench.rounds import Contestant, interleave
from bench.section import RATES, Claim, Context, Section, kept, rated, with_admitted
from bench.servers import CHECK
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers

CALLS = 20_000
OF_LANE = 100_000  # where one takes so little, as many as last long enough to be compared
NULL_GRPC, NULL_LANE, OURS = "null grpc.aio", "null lane", "authz, memory"


def null_server(stack: ExitStack, context: Context, kind: str, told: bytes) -> tuple[int, int]:
    """Its port and process id."""
    port = free_port()
    file = context.scratch / f"{kind}-{port}.bin"
    file.write_bytes(told)
    argv = [sys.executable, "-m", "bench.servers", kind, str(port), str(file)]
    process = Process(argv, log=context.scratch / f"{kind}-{port}.log")
    stack.callback(process.stop)
    process.wait_until(lambda: port_answers(port))
    pin(process.pid, SERVER_CORE)
    return port, process.pid


def run(context: Context) -> Section:
    credentials = Credentials()
    key = credentials.key()
    limited = [credentials.key(f"user{at}", f"requests={QUOTA}/day") for at in range(4)]
    asked = message(key.key)
    with ExitStack() as stack:
        services = {OURS: Ours(context.scratch / "memory", credentials, "memory://")}
        if "--grpc-server" in serve_help():
            options = ["--grpc-server", "grpcio"]
            services["authz, memory, on grpcio"] = Ours(
                context.scratch / "grpcio", credentials, "memory://", options
            )
        services["authz, SQLite"] = Ours(context.scratch / "sqlite", credentials)
        for service in services.values():
            stack.enter_context(service)
        told = answer(services[OURS], asked)
        if not admitted(told):
            raise RuntimeError("the request of the bench is not admitted")
        ports = {
            NULL_GRPC: null_server(stack, context, "null-grpc", told),
            NULL_LANE: null_server(stack, context, "null-lane", told),
        } | {name: (service.grpc, service.pid) for name, service in services.items()}
        headers = {**GRPC, "x-authz-gateway-token": f"{GATEWAY}-grpc"}
        contestants = [
            Contestant(
                name,
                h2load(
                    f"http://127.0.0.1:{port}{CHECK}",
                    framed(asked),
                    headers,
                    context.scratch / "check.bin",
                    pid,
                    calls=OF_LANE if name == NULL_LANE else CALLS,
                ),
                null=name.startswith("null"),
            )
            for name, (port, pid) in ports.items()
        ]
        outcome = interleave(contestants, context.rounds, context.say)
        verdicts = {}
        requests = [framed(message(each.key)) for each in limited]
        for name, service in services.items():
            with Replay(service.connect(32), 4) as replay:
                verdicts[name] = str(judge(replay, requests, QUOTA, ASKED, admitted))
    rounds = outcome.rounds
    whole = Spread.of([each[OURS].cpu_us / each[NULL_GRPC].cpu_us for each in rounds])
    beyond = Spread.of(
        [(each[OURS].cpu_us - each[NULL_LANE].cpu_us) / each[NULL_GRPC].cpu_us for each in rounds]
    )
    return Section(
        name="grpc",
        title="A decision over gRPC (Envoy's ext_authz)",
        how=f"`Check` of a `POST {CHAT}` with an API key and three limits, one of them in tokens, so that a share is reserved; "
        "`h2load -c4 -m32`. The null servers answer the same bytes without reading the question.",
        columns=RATES,
        rows=with_admitted(rated(outcome, dict.fromkeys(ports, NULL_GRPC)), verdicts),
        claims=[
            Claim(
                "a whole decision costs at most 1/8 of null grpc.aio's CPU",
                whole.median <= 1 / 8,
                f"1/{1 / whole.median:.1f}",
            ),
            Claim(
                "a whole decision less the null lane at most 1/12",
                beyond.median <= 1 / 12,
                f"1/{1 / beyond.median:.1f}" if beyond.median > 0 else "less than nothing",
            ),
        ],
        notes=outcome.dropped,
        rounds=kept(outcome),
        drawn="cpu_us",
    )
