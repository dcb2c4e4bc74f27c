"""Folds the ledger again and again until it is killed: `python -m tests.redis.fold_child PORT SHARDS`."""

import sys
import time
from contextlib import suppress

import redis

from authz.store.protocols import StoreUnavailable
from authz.store.redis.ledger.fold import Folder


def main() -> None:
    port, shards = int(sys.argv[1]), sys.argv[2].split(",")
    with redis.Redis(port=port, socket_timeout=10) as client:
        folder = Folder(client, shards, lambda: time.time_ns() // 1_000_000)
        print("ready", flush=True)
        while True:
            with suppress(StoreUnavailable):
                folder.fold()


if __name__ == "__main__":
    main()
