"""A decision over HTTP as nginx, Traefik and Caddy ask for it, beside a null application on uvicorn."""

from contextlib import ExitStack
from functools import partial

from bench.connections import Http1
from bench.lanes import null_server
from bench.litellm import LITELLM, litellm
from bench.load import h2load
from bench.oracle import ASKED, QUOTA, judge
from bench.ours import BODY, Credentials, Ours, http_headers, http_request
from bench.replay import Replay
from bench.rounds import Contestant, interleave
from bench.section import RATES, Context, Section, kept, rated, with_admitted

CALLS = 20_000
NULL = "null uvicorn"


def admitted(status_line: bytes) -> bool:
    """What nginx lets pass."""
    return b" 200" in status_line


def run(context: Context) -> Section:
    credentials = Credentials()
    key = credentials.key()
    limited = [credentials.key(f"user{at}", f"requests={QUOTA}/day") for at in range(4)]
    with ExitStack() as stack:
        services = {
            "authz, memory": Ours(context.scratch / "memory", credentials, "memory://"),
            "authz, SQLite": Ours(context.scratch / "sqlite", credentials),
        }
        for service in services.values():
            stack.enter_context(service)
        ports = {NULL: null_server(stack, context, "null-http", b"")} | {
            name: (service.http, service.pid) for name, service in services.items()
        }
        contestants = [
            Contestant(
                name,
                h2load(
                    f"http://127.0.0.1:{port}/auth/nginx", BODY, http_headers(key.key), context.scratch / "post.bin", pid,
                    calls=CALLS, http1=True,
                ),
                null=name == NULL,
            )
            for name, (port, pid) in ports.items()
        ]  # fmt: skip
        peer = litellm(stack, context)
        if peer is not None:
            contestants.append(peer)
        outcome = interleave(contestants, context.rounds, context.say)
        verdicts = {}
        requests = [http_request(each.key) for each in limited]
        for name, service in services.items():
            with Replay(partial(Http1, service.http), 64) as replay:
                verdicts[name] = str(judge(replay, requests, QUOTA, ASKED, admitted))
    return Section(
        name="http",
        title="A decision over HTTP (nginx's auth_request)",
        how="The same request, key and limits as over gRPC, asked in nginx's words; `h2load --h1 -c4`. The null application reads the body "
        "and answers 200 on uvicorn with uvloop and httptools. LiteLLM is a whole proxy: checking its one master key and making up the answer "
        "of a model is all in its figure, limits are not.",
        columns=RATES,
        rows=with_admitted(
            rated(outcome, dict.fromkeys([each.name for each in contestants], NULL)), verdicts
        ),
        notes=[
            *([] if peer is not None else [f"{LITELLM} is not installed: `make bench-peers`"]),
            *outcome.dropped,
        ],
        rounds=kept(outcome),
        drawn="cpu_us",
    )
