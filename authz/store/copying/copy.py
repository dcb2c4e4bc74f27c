"""The copy itself: pass after pass over what has changed, the counters last, then the comparison."""

from collections.abc import Callable, Sequence

from authz.store.copying.compare import Part, compare, compare_entries
from authz.store.copying.records import Records
from authz.store.copying.side import DENIALS_KEPT_MS, Side
from authz.store.days import Days
from authz.store.protocols import Clock
from authz.store.records import Entry


class Copy:
    """From `source` into `target`. `told` hears of entries as they are copied."""

    def __init__(
        self, source: Side, target: Side, clock: Clock, told: Callable[[int], None] = lambda count: None
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._told = told
        self._records = Records(source.registry, target.registry)
        self._is_fitted = False

    def go_over(self) -> None:
        """Copy what has changed since the last time; at first everything. The counters stay as they are."""
        source, target = self._source, self._target
        if not self._is_fitted:
            target.fit(source.frame())
            self._is_fitted = True
        self._records.copy()
        for entries in source.news():
            self._save(entries)
        recent = self._clock() - DENIALS_KEPT_MS
        for rows in source.denials():
            target.save_denials([row for row in rows if row.last_at >= recent])
        target.save_trials(source.trials())

    def finish(self) -> Sequence[Part]:
        """The last pass, with the counters; then what both stores hold.

        To be exact nothing may use the source any more.
        """
        source, target = self._source, self._target
        self.go_over()
        entries = compare_entries(source, target, self._save)
        self._raise_old_sums()
        counting = source.counting()
        target.set_counting(counting)
        return [entries, *compare(source, target, counting, self._clock())]

    def _save(self, entries: Sequence[Entry]) -> None:
        self._target.save(entries)
        self._told(len(entries))

    def _raise_old_sums(self) -> None:
        """Of days of which not every entry is kept: the sums of all others follow from the entries."""
        frame = self._source.frame()
        if not frame.kept_from:
            return
        first = Days(frame.timezone).at(frame.kept_from).name
        sums = self._source.sums()
        self._target.raise_sums({day: table for day, table in sums.items() if day <= first})
