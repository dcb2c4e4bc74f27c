"""Why a command stops, and with which exit code."""

from enum import IntEnum


class Exit(IntEnum):
    """Stable: scripts rely on them."""

    OK = 0
    FAILED = 1  # the command was understood and could not be done
    USAGE = 2  # the command line is wrong
    REFUSED = 3  # the answer is no: `authz check` on a request that would be refused


class CommandError(Exception):
    """Ends a command. `hint` says what to do next; neither part ever repeats a secret."""

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(CommandError):
    """The command line is wrong."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=Exit.USAGE)
