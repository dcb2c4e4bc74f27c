"""kill -9 under load: nothing acknowledged is lost, no quota is given back, nothing is charged twice."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.store.child import HELD, USED

ROUNDS = 20
ROOT = Path(__file__).parents[2]


class Ledger:
    """What the killed children said, over all rounds."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.revoked: set[str] = set()

    def read(self, line: str) -> None:
        word, _, name = line.partition(" ")
        self.said[word] += 1
        if word == "key":
            self.keys.add(name)
        elif word == "revoked":
            self.revoked.add(name)

    def check(self, found: dict[str, Any]) -> None:
        said = self.said
        assert self.keys <= set(found["keys"]), "an acknowledged key was lost"
        assert all(found["keys"][name] is not None for name in self.revoked), "a revocation was lost"
        assert said["ok"] <= found["requests"] <= said["try"], "requests given back, or charged twice"
        least = HELD * said["ok"] - (HELD - USED) * said["settling"]
        most = HELD * said["try"] - (HELD - USED) * said["settled"]
        assert least <= found["tokens"] <= most, "tokens given back, or charged twice"
        entries, tokens = found["ledger"]
        assert said["settled"] <= entries <= said["settling"], "an entry was lost, or is there twice"
        assert tokens == USED * entries


def test_twenty_kills(tmp_path: Path) -> None:
    url, ledger, chance, slowest = f"sqlite://{tmp_path}/authz.db", Ledger(), random.Random(7), 0.0
    for number in range(ROUNDS + 1):
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store.child", url, str(number)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            try:
                start = child.stdout.readline()
                slowest = max(slowest, time.monotonic() - began)
                assert start.startswith("start "), f"round {number} did not come up"
                ledger.check(json.loads(start.removeprefix("start ")))
                end = time.monotonic() + chance.uniform(0.05, 0.6)
                while time.monotonic() < end:
                    ledger.read(child.stdout.readline().strip())
            finally:
                child.kill()
            for line in child.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    ledger.read(line.strip())
    assert ledger.said["ok"] > 1000, "too little load to prove anything"
    assert ledger.revoked
    assert slowest < 30, "the interpreter's start included, beside whatever else this machine does"
