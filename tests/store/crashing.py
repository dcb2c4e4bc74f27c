"""The end of the process, at the moments where it could matter."""

import pytest

from authz.store import writer
from authz.store.embedded import EmbeddedStore
from authz.store.journal import Journal
from authz.store.open import open_store
from authz.store.protocols import Clock, StoreUnavailable

WAYS = ("between-commits", "turned-not-committed", "committed-not-noted", "while-recovering")


def crash(store: EmbeddedStore) -> None:
    """Let go of the files as the end of the process would: nothing more is written."""
    store._writer._thread.shutdown(wait=True)
    store._read_thread.shutdown(wait=True)
    store._on_close(False)


def crash_and_recover(store: EmbeddedStore, url: str, clock: Clock, way: str) -> EmbeddedStore:
    """The store of the next process. `way` is one of WAYS."""
    with pytest.MonkeyPatch.context() as patched:
        if way == "turned-not-committed":
            patched.setattr(writer, "commit", _gone)
            store.keep_up()
        elif way == "committed-not-noted":
            store.keep_up()
        crash(store)
    if way == "while-recovering":
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Journal, "begin", _gone)  # all of it is committed, the journal not yet begun anew
            with pytest.raises(StoreUnavailable, match="the process ended here"):
                open_store(url, clock=clock)
    return open_store(url, clock=clock)


def _gone(*_: object) -> None:
    raise StoreUnavailable("the process ended here")
