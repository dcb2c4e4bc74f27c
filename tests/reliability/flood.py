"""A flood of wrong passwords and of tokens by unknown keys: `python -m tests.reliability.flood PORT TOKEN`.

Asks authz as Traefik does, from few addresses and many connections, until its standard input ends; then
prints how often it got which status, by what it sent. Says `under way` once it was answered often enough
to be a flood.
"""

import asyncio
import base64
import json
import os
import random
import sys
from collections import Counter

from tests.authenticate.fakes import claims, private_key, sign

ORIGINS = 8
PASSWORDS, TOKENS = 100, 8  # connections
MANY = {"password 503": 50, "token 401": 50}  # answers: more than can be computed were asked for
PAUSE = {"password": 0.1, "token": 0.03}  # seconds between an answer and the next question


def question(authorization: str, origin: str, token: str, path: str) -> bytes:
    """One auth call about a client at `origin`."""
    lines = [
        "GET /auth/traefik HTTP/1.1",
        "host: authz",
        f"x-authz-gateway-token: {token}",
        "x-forwarded-method: GET",
        f"x-forwarded-uri: {path}",
        "x-forwarded-host: llm.test",
        "x-forwarded-proto: https",
        f"x-forwarded-for: {origin}",
        f"authorization: {authorization}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of the next response, read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return int(head.split(" ", 2)[1])


def credential(kind: str, number: int) -> str:
    if kind == "password":
        return "Basic " + base64.b64encode(f"user{number % 7}:{random.random()}".encode()).decode()
    kid = f"unknown-{number}-{random.random()}"
    return "Bearer " + sign(claims(), alg="ES256", key=private_key("p256"), kid=kid)


async def ask_on(
    kind: str, number: int, port: int, token: str, counted: Counter[str], under_way: asyncio.Event
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        origin = f"198.51.100.{number % ORIGINS}"
        writer.write(question(credential(kind, number), origin, token, f"/echo/{kind}"))
        counted[f"{kind} {await answer(reader)}"] += 1
        if not under_way.is_set() and all(counted[each] > count for each, count in MANY.items()):
            under_way.set()
            print("under way", flush=True)
        await asyncio.sleep(PAUSE[kind] * random.uniform(0.5, 1.5))


async def main(port: int, token: str) -> None:
    counted: Counter[str] = Counter()
    under_way = asyncio.Event()
    asking = [
        asyncio.create_task(ask_on(kind, number, port, token, counted, under_way))
        for kind, connections in (("password", PASSWORDS), ("token", TOKENS))
        for number in range(connections)
    ]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for one in asking:
        one.cancel()
    failures = [
        each for each in await asyncio.gather(*asking, return_exceptions=True) if isinstance(each, Exception)
    ]
    counted["failed"] = len(failures)
    print(json.dumps(counted))


if __name__ == "__main__":
    os.nice(5)  # what it takes itself is not what is measured
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
