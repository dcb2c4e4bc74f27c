"""How long answers are: the length that hardly one of a hundred exceeds, by key and model.

Answers that were cut at their limit are known to be at least so long, no more. They are
reckoned by the product-limit estimator (Kaplan and Meier 1958), which makes of them no
short answers: a limit that was learned never teaches a shorter one.
"""

from bisect import bisect_left

from authz.store.records import Facts
from authz.subject import Subject
from authz.usage import Usage

QUANTILE = 0.99
LEAST_SEEN = 50  # answers
ENOUGH_SEEN = 500  # answers: so rare a length is known of fewer by luck only
FLOOR = 64  # tokens: no answer is limited to less
MEMORY = 2_000  # answers: an observation counts half after about 1,400 others
MOST_KEPT = 2_048  # histograms

_STEP = 2 ** (1 / 16)
_GROWTH = 1.5  # where the quantile lies beyond all that was seen
_RENORM = 1e9


def _edges() -> list[int]:
    edges = [1]
    while edges[-1] < 1 << 21:
        edges.append(max(edges[-1] + 1, int(edges[-1] * _STEP)))
    return edges


EDGES = _edges()
"""Upper bounds of the buckets, in tokens: each by itself at first, then 16 an octave."""


class Lengths:
    """The lengths of answers, the latest counting most."""

    __slots__ = ("_cut", "_ended", "_stale", "_weight", "high", "seen")

    def __init__(self) -> None:
        self._ended = [0.0] * len(EDGES)
        self._cut = [0.0] * len(EDGES)
        self._weight = 1.0
        self._stale = 0
        self.seen = 0
        self.high: int | None = None  # tokens

    def add(self, tokens: int, *, cut: bool) -> None:
        """An answer of so many tokens; `cut`: it would have gone on."""
        bucket = min(bisect_left(EDGES, tokens), len(EDGES) - 1)
        (self._cut if cut else self._ended)[bucket] += self._weight
        self._weight *= 1 + 1 / MEMORY
        if self._weight > _RENORM:
            self._ended = [weight / self._weight for weight in self._ended]
            self._cut = [weight / self._weight for weight in self._cut]
            self._weight = 1.0
        self.seen += 1
        self._stale += 1
        if self.seen >= LEAST_SEEN and self._stale >= min(self.seen // 16, 32):
            self._stale = 0
            self.high = self._quantile()

    def _quantile(self) -> int:
        """The least length that no more than 1 - QUANTILE of the answers exceed."""
        at_risk = sum(self._ended) + sum(self._cut)
        exceeding, longest = 1.0, 1
        for edge, ended, cut in zip(EDGES, self._ended, self._cut, strict=True):
            if ended or cut:
                longest = edge
                exceeding *= 1 - ended / at_risk if at_risk > ended else 0.0
                if exceeding <= 1 - QUANTILE:
                    return edge
                at_risk -= ended + cut
        return EDGES[min(bisect_left(EDGES, int(longest * _GROWTH)), len(EDGES) - 1)]


class Learned:
    """What was seen of answers. Lost with the process, and learned again from the ledger."""

    def __init__(self) -> None:
        self._lengths: dict[tuple[str, str], Lengths] = {}

    def observe(self, facts: Facts, usage: Usage) -> None:
        """An answer has ended by itself or at its limit, and a model server counted it.

        Of several answers only the sum is known, which tells nothing of the longest: not learned from.
        """
        if not facts.asked_output or not facts.model or facts.answers != 1 or usage.output <= 0:
            return
        cut = usage.output >= facts.asked_output
        tokens = min(usage.output, facts.asked_output)
        for whose in (facts.key or _user(facts.user), ""):
            self._of(whose, facts.model).add(tokens, cut=cut)

    def _of(self, whose: str, model: str) -> Lengths:
        """The one seen longest ago makes room."""
        lengths = self._lengths.pop((whose, model), None) or Lengths()
        if len(self._lengths) >= MOST_KEPT:
            del self._lengths[next(iter(self._lengths))]
        self._lengths[whose, model] = lengths
        return lengths

    def high(self, subject: Subject, model: str) -> int | None:
        """Tokens that hardly an answer exceeds: this key's, else the model's; None: too little was seen.

        Of a key with few answers yet, what is more of both: its longest ones may be yet to come.
        """
        own = self._lengths.get((subject.key or _user(subject.user), model))
        of_all = self._lengths.get(("", model))
        known = [each.high for each in (own, of_all) if each is not None and each.high is not None]
        if own is not None and own.high is not None and own.seen >= ENOUGH_SEEN:
            known = [own.high]
        return max(*known, FLOOR) if known else None


def _user(name: str) -> str:
    return f"user:{name}"
