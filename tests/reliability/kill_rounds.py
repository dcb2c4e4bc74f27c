"""Each kind of death, as many rounds as are asked for."""

import os
import signal
import time
from functools import partial
from pathlib import Path

from authz.gateway.ports import is_free
from tests.reliability.drill import Drill, Findings, drilled
from tests.reliability.processes import kept_waiting, wait_for

GONE_WITHIN = 2.0  # seconds, on a machine that starts all of it as fast as usual


def kill_child(name: str, directory: Path, rounds: int) -> Findings:
    """kill -9 of `serve` or `envoy`: `authz up` starts it again. Now and then the next one dies at its start."""
    with drilled(f"kill -9 of {name}", directory) as drill:
        stack = drill.stack
        for number in range(rounds):
            strike = stack.kill_twice if number % 4 == 3 else stack.kill
            drill.round(partial(strike, name), lambda: kept_waiting(stack.child(name).pid))
        assert len(stack.left()) == 3, stack.left()  # up, serve, envoy
        drill.conclude()
    return drill.findings


def end_up(number: signal.Signals, directory: Path, rounds: int) -> Findings:
    """A signal to `authz up`: everything ends with it, and the next one takes up where it was."""
    with drilled(f"{number.name} to up", directory, recording=False) as drill:
        for _ in range(rounds):
            drill.round(lambda: _end_and_start(drill, number), lambda: _kept_waiting(drill))
        drill.conclude()
    return drill.findings


def _end_and_start(drill: Drill, number: signal.Signals) -> float:
    stack = drill.stack
    running = stack.left()
    assert len(running) == 4, running  # up, serve, envoy, model
    old_key = stack.key
    begun = time.monotonic()
    os.kill(stack.up.pid, number)
    stack.deaths += 1
    wait_for(
        f"the end of all after {number.name}",
        lambda: not any(seen.lives for seen in running) and all(map(_is_free, stack.ports)),
        seconds=GONE_WITHIN * stack.slowness,
    )
    drill.findings.gone_after.append(time.monotonic() - begun)
    assert stack.up.wait() == (-number if number is signal.SIGKILL else 0)
    assert not stack.left()
    again = time.monotonic()
    stack.start()
    refused = drill.ask(old_key)
    assert (refused.status, refused.json()["error"]["code"]) == (401, "revoked_api_key")
    assert drill.ask(stack.key).status == 200
    return again


def _is_free(port: int) -> bool:
    return is_free("127.0.0.1", port)


def _kept_waiting(drill: Drill) -> float:
    """The one began when the other was ready to begin it."""
    return kept_waiting(drill.stack.up.pid) + kept_waiting(drill.stack.child("serve").pid)
