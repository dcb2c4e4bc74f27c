"""What Redis says when it does not do what it was asked, in words that say what to do."""

import re

from authz.store.protocols import StoreUnavailable

_WORDS = {
    "READONLY": "it is a replica and takes no writes: name the master, or let Sentinels name it "
    "(redis+sentinel://)",
    "LOADING": "it is loading its data from the disk; it answers once that is done",
    "OOM": "its memory is full: raise its maxmemory",
    "NOREPLICAS": "too few replicas follow it to take a write (its min-replicas-to-write)",
    "MASTERDOWN": "it is a replica that lost its master",
    "CLUSTERDOWN": "the Cluster is down or has slots that no server keeps: see CLUSTER INFO",
    "MISCONF": "it cannot save to its disk and takes no writes: see its log",
    "BUSY": "somebody's script runs for too long in it: see SCRIPT KILL",
    "NOAUTH": "it wants a password: give it in the URL, or in a file named by ?password_file=",
    "WRONGPASS": "it does not accept the user or the password: see the URL, or the file of ?password_file=",
    "NOPERM": "its ACL does not let this user do that; what we need: "
    "resetchannels ~az:* &az:* +@all -@admin -@dangerous +info +cluster|slots",
    "TRYAGAIN": "the slot of this owner is just moving to another server",
    "MOVED": "it is one server of a Cluster: write redis+cluster:// in the URL",
    "ASK": "it is one server of a Cluster: write redis+cluster:// in the URL",
    "NOSCRIPT": "it does not keep scripts",
    "NOPROTO": "it does not speak this protocol",
}

TROUBLES = frozenset(
    {
        "READONLY", "LOADING", "OOM", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "BUSY", "NOAUTH",
        "WRONGPASS", "NOPERM",
    }
)  # fmt: skip
"""The server is in trouble, whatever it was asked."""

_NOT_RUN = frozenset(_WORDS)

# Redis 6: "ERR Error running script (call to f_SHA): @user_script:1: @user_script: 1: -OOM command not ..."
_INSIDE = re.compile(r": -([A-Z]+) ")
_CODE = re.compile(r"([A-Z]+)(?: |$)")


class Refused(Exception):
    """An error reply."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        found = _CODE.match(text)
        self.code = found.group(1) if found else "ERR"
        if self.code == "ERR" and (inside := _INSIDE.search(text)) and inside.group(1) in _WORDS:
            self.code = inside.group(1)
        # Raised within a script, even these may come between two of its writes.
        self.ran = self.code not in _NOT_RUN or "@user_script" in text
        """Whether anything may have been changed."""

    def words(self) -> str:
        """What is wrong. A command that is quoted in it is left out: it may hold a password."""
        known = _WORDS.get("TRYAGAIN" if "a non local key" in self.text else self.code)
        return known or f"it says: {self.text.partition(', with args')[0][:200]}"

    def unavailable(self, where: str) -> StoreUnavailable:
        return StoreUnavailable(f"Redis at {where} refuses: {self.words()}")
