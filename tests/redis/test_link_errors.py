"""What Redis says, in words that say what to do."""

import pytest

from authz.store.redis.errors import TROUBLES, Refused

SHA = "0" * 40
SAID = {
    "READONLY You can't write against a read only replica.": ("READONLY", "it is a replica", False),
    "LOADING Redis is loading the dataset in memory": ("LOADING", "loading its data", False),
    "OOM command not allowed when used memory > 'maxmemory'.": ("OOM", "maxmemory", False),
    "NOREPLICAS Not enough good replicas to write.": ("NOREPLICAS", "min-replicas-to-write", False),
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": (
        "MASTERDOWN",
        "lost its master",
        False,
    ),
    "CLUSTERDOWN Hash slot not served": ("CLUSTERDOWN", "CLUSTER INFO", False),
    "MISCONF Redis is configured to save RDB snapshots": ("MISCONF", "see its log", False),
    "BUSY Redis is busy running a script.": ("BUSY", "SCRIPT KILL", False),
    "NOAUTH Authentication required.": ("NOAUTH", "password_file", False),
    "WRONGPASS invalid username-password pair or user is disabled.": ("WRONGPASS", "password_file", False),
    "NOPERM this user has no permissions to run the 'evalsha' command": ("NOPERM", "~az:*", False),
    "TRYAGAIN Multiple keys request during rehashing of slot": ("TRYAGAIN", "just moving", False),
    "ERR max number of clients reached": ("ERR", "it says: ERR max number of clients reached", True),
    # Redis 6, from within a script
    f"ERR Error running script (call to f_{SHA}): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'. ": (
        "OOM",
        "maxmemory",
        True,
    ),
    f"ERR Error running script (call to f_{SHA}): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica. ": (
        "READONLY",
        "it is a replica",
        True,
    ),
    f"ERR Error running script (call to f_{SHA}): @user_script:2: @user_script: 2: Lua script attempted to access a non local key in a cluster node ": (
        "ERR",
        "just moving",
        True,
    ),
    # Redis 7, likewise
    f"OOM command not allowed when used memory > 'maxmemory'. script: {SHA}, on @user_script:1.": (
        "OOM",
        "maxmemory",
        True,
    ),
    "ERR unknown command `AUTH`, with args beginning with: `hunter2`, ": (
        "ERR",
        "it says: ERR unknown",
        True,
    ),
    "": ("ERR", "it says", True),
    "lower case": ("ERR", "it says: lower case", True),
}


@pytest.mark.parametrize("text", SAID, ids=[f"{place}-{said[0]}" for place, said in enumerate(SAID.values())])
def test_words(text: str) -> None:
    code, words, ran = SAID[text]
    error = Refused(text)
    assert (error.code, error.ran) == (code, ran)
    said = str(error.unavailable("h:6379"))
    assert said.startswith("Redis at h:6379 refuses: ")
    assert words in said
    assert "hunter2" not in said
    assert len(said) < 300


def test_what_is_trouble_has_words_of_its_own() -> None:
    assert not any("it says" in Refused(f"{code} x").words() for code in TROUBLES)
