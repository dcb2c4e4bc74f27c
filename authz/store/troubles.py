"""What does not work right now, said in the log once and not every 200 ms."""

import logging

log = logging.getLogger("authz.store")


class Troubles:
    """By what was being done. `note` every outcome; one without an error ends the trouble."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}

    def note(self, doing: str, error: BaseException | None) -> str | None:
        """The error in words, or None."""
        if error is None:
            self._now.pop(doing, None)
            return None
        text = str(error)
        if self._now.get(doing) != text:
            log.error("%s the store failed: %s", doing, text)
        self._now[doing] = text
        return text

    @property
    def first(self) -> str | None:
        return next(iter(self._now.values()), None)
