"""When to begin: how long the speaker lets sound gather before it plays, learned from how sound has come so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

QUANTILE = 0.75
"""Of the utterances remembered, how many would have been played without a gap. A second of waiting costs one second,
a second of gap is felt as two more: 2/3 would be right for a distribution that is known, and this one is guessed."""

FORGETTING = 0.8
"""What an utterance counts for, compared with the one after it: a network that has changed is known after three."""

UNNOTICED_SECONDS = 0.1
"""A second too much is worse where hardly any was needed: an utterance counts for 1 / (what it needed + this)."""

REMEMBERED = 32
FIRST_REFILL_SECONDS = 0.01
REFILL_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class _Past:
    """One utterance: the delay that would have spared it every gap, and its longest dry spell."""

    needed: float
    dry: float


class JitterBuffer:
    """Chooses the moment at which playing begins, and goes on after an underrun. Pure: it is told what time it is.

    The *lateness* of what arrives is how much later than the first arrival it came, beyond the sound that had come
    before it: whoever starts so long after the first arrival never waits for it. Each utterance has had its highest
    lateness, which is the delay it needed, and its longest *dry spell*, the highest rise of the lateness. Playing
    begins when the delay is the quantile of what the utterances before needed, or when what is there already lasts
    longer than the quantile of their dry spells. The remembered ones count the less the older they are.

    After an underrun nothing is known but that the guess was too low: the first wait is short, and each further one
    in the same utterance half as long again as the one before, so that a service that is far too slow is heard in a
    few pieces instead of syllables.

    Seconds everywhere; ``initial_seconds`` is the delay while nothing is remembered, ``most_seconds`` the longest
    wait of all. For each utterance: ``begin``, then ``arrived`` and ``start_at`` as often as wanted, then ``finish``.
    """

    def __init__(self, initial_seconds: float = 0.1, most_seconds: float = 3.0) -> None:
        self._initial, self._most = initial_seconds, most_seconds
        self._past: deque[_Past] = deque(maxlen=REMEMBERED)
        self.begin()

    def begin(self) -> None:
        """Another utterance."""
        self._first: float | None = None
        self._came = 0.0  # seconds of sound
        self._late = self._highest = self._lowest = self._dry = 0.0
        self._resumed_from = 0.0  # what had been played when the last underrun was noticed
        self._paused_at = 0.0  # the lateness of what ended it
        self._underruns = 0

    def arrived(self, at: float, seconds: float) -> None:
        """``seconds`` of sound came at the moment ``at``."""
        if self._first is None:
            self._first = at
        self._late = at - self._first - self._came
        self._highest = max(self._highest, self._late)
        self._dry = max(self._dry, self._late - self._lowest)
        self._lowest = min(self._lowest, self._late)
        self._came += seconds

    def start_at(self, played_seconds: float) -> float | None:
        """The moment to play on, ``played_seconds`` having been played, unless something arrives before; ``None`` where
        nothing is there to play. Asked after sound was played, it is taken for an underrun."""
        if self._first is None or self._came <= played_seconds:
            return None
        return self._first + played_seconds + (self._refilled(played_seconds) if played_seconds else self._started())

    def finish(self, *, whole: bool) -> None:
        """The utterance is over. One that was cut tells only that at least so much was needed."""
        if self._first is None:
            return
        if whole or self._highest > self._quantile([past.needed for past in self._past]):
            self._past.append(_Past(self._highest, self._dry))

    def _started(self) -> float:
        needed = self._quantile([past.needed for past in self._past])
        lasting = self._late + max(self._dry, self._quantile([past.dry for past in self._past]))
        return min(needed, lasting, self._most)

    def _refilled(self, played_seconds: float) -> float:
        if played_seconds > self._resumed_from:
            self._resumed_from = played_seconds
            self._paused_at = self._highest
            self._underruns += 1
        growths = min(self._underruns - 1, 30)
        return self._paused_at + min(FIRST_REFILL_SECONDS * REFILL_GROWTH**growths, self._most)

    def _quantile(self, values: list[float]) -> float:
        """Of ``values``, oldest first, the newer and the smaller ones counting more."""
        if not values:
            return self._initial
        weighted = sorted(
            (value, FORGETTING**age / (value + UNNOTICED_SECONDS)) for age, value in enumerate(reversed(values))
        )
        wanted = QUANTILE * sum(weight for _, weight in weighted)
        for value, weight in weighted:
            wanted -= weight
            if wanted <= 0:
                return value
        return weighted[-1][0]
