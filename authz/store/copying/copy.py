"""The copy itself: pass after pass over what has changed, the counters last, then the comparison."""

from authz.store.copying.compare import Part, compare, compare_entries
from authz.store.copying.records import Records
from authz.store.copying.side import DENIALS_KEPT_MS, Side
from authz.store.days import Days
from authz.store.protocols import Clock


class Copy:
    """From `source` into `target`."""

    def __init__(self, source: Side, target: Side, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._records = Records(source.registry, target.registry)
        self._refused: dict[str, int] = {}  # how many of each flood are there
        self._is_fitted = False

    def go_over(self) -> None:
        """Copy what has changed since the last time; at first everything. The counters stay as they are."""
        if not self._is_fitted:
            self._target.fit(self._source.frame())
            self._is_fitted = True
            self._copy_refusals()
        self._records.copy()
        for entries in self._source.news():
            self._target.save(entries)

    def finish(self) -> list[Part]:
        """The last pass, with the counters; then what both stores hold, but for single entries.

        To be exact nothing may use the source any more, and nothing the target yet.
        """
        source, target = self._source, self._target
        self.go_over()
        self._copy_refusals()
        self._raise_old_sums()
        counting = source.counting()
        target.set_counting(counting)
        return list(compare(source, target, counting, self._clock()))

    def compare_entries(self) -> Part:
        """Every single one. What is missing all the same is handed over once more, and looked for."""
        return compare_entries(self._source, self._target, self._target.save)

    def _copy_refusals(self) -> None:
        recent = self._clock() - DENIALS_KEPT_MS
        for rows in self._source.denials():
            new = [row for row in rows if row.last_at >= recent and self._refused.get(row.name) != row.count]
            if new:
                self._target.save_denials(new)
                self._refused.update((row.name, row.count) for row in new)
        self._target.save_trials(self._source.trials())

    def _raise_old_sums(self) -> None:
        """Of days of which not every entry is kept: the sums of all others follow from the entries."""
        frame = self._source.frame()
        if not frame.kept_from:
            return
        first = Days(frame.timezone).at(frame.kept_from).name
        sums = self._source.sums()
        self._target.raise_sums({day: table for day, table in sums.items() if day <= first})
