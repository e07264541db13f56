"""Adaptive playout delay: when playback of an utterance starts, and resumes after an underrun."""

from __future__ import annotations

from collections import deque

from agent.system.named_tuple import NamedTuple

QUANTILE = 2 / 3
"""Fraction of the remembered utterances that the chosen delay would have played without a gap. It is the optimum for a
known distribution if one second of start delay costs 1 and one second of gap costs 3."""

DECAY = 0.9
"""Weight of an utterance relative to the next one. After a change of the network, the new utterances have more than
half of the total weight after seven utterances."""

MAX_REMEMBERED = 32
FIRST_REFILL_SECONDS = 0.004
REFILL_GROWTH = 1.6


class _Observation(NamedTuple):
    """One utterance: the start delay that avoids every gap, and its longest stall. Immutable; in seconds.

    ``later_delay`` is the highest delay of the pieces after the first one. It is negative for a service that is faster
    than real time.
    """

    required_delay: float
    stall: float
    later_delay: float


class JitterBuffer:
    """Chooses the time at which playback starts. Not thread-safe; owned by the speaker thread.

    It reads no clock: the caller passes the times.

    The *delay* of a piece of audio is its arrival time relative to the first arrival, minus the duration of the audio
    before it. The *required delay* of an utterance is the maximum of this delay: playback that starts this long after
    the first arrival has no gap. The longest *stall* of an utterance is the largest rise of the delay. Playback starts
    when the start delay reaches the quantile of the required delays of earlier utterances, or when the buffered audio
    lasts longer than the quantile of their stalls. Older utterances have less weight.

    The player passes a *reserve*: how many seconds before its playback the player needs each piece, including the
    jitter of its own threads. A service that was faster than real time in earlier utterances already provides this
    reserve. For other services, the start is delayed by up to the reserve.

    An underrun shows that the estimate was too low, but not by how much. So the first refill is short, and each further
    refill in the same utterance lasts ``REFILL_GROWTH`` times as long as the previous one. This way the audio of a
    service that is much too slow is played in a few pieces instead of single syllables.

    For each utterance: ``begin``, then ``add`` and ``start_at`` as often as necessary, then ``finish``.

    Args:
        initial_seconds: Start delay without any observation.
        max_seconds: Longest wait.
    """

    def __init__(self, initial_seconds: float = 0.1, max_seconds: float = 3.0) -> None:
        self.initial_seconds, self.max_seconds = initial_seconds, max_seconds
        self._observations: deque[_Observation] = deque(maxlen=MAX_REMEMBERED)
        self.begin()

    def begin(self) -> None:
        """Start the next utterance."""
        self._first_at: float | None = None
        self._received_seconds = 0.0
        self._delay = self._max_delay = self._min_delay = self._stall = 0.0
        self._later_delay: float | None = None
        self._underrun_position = 0.0  # seconds that were played at the last underrun
        self._delay_at_underrun = 0.0
        self._underruns = 0

    def add(self, at: float, seconds: float) -> None:
        """Note that ``seconds`` of audio arrived at the time ``at``."""
        if self._first_at is None:
            self._first_at = at
        self._delay = at - self._first_at - self._received_seconds
        if self._received_seconds:
            self._later_delay = self._delay if self._later_delay is None else max(self._later_delay, self._delay)
        self._max_delay = max(self._max_delay, self._delay)
        self._stall = max(self._stall, self._delay - self._min_delay)
        self._min_delay = min(self._min_delay, self._delay)
        self._received_seconds += seconds

    def start_at(self, played_seconds: float, reserve_seconds: float = 0.0) -> float | None:
        """Return the time at which playback starts or resumes if no more audio arrives before.

        Args:
            played_seconds: Audio of this utterance that was played. A positive value that is higher than in earlier
                calls reports an underrun.
            reserve_seconds: How long before its playback the player needs each piece.

        Returns:
            The time on the clock of ``add``, or ``None`` if there is no audio to play.
        """
        if self._first_at is None or self._received_seconds <= played_seconds:
            return None
        if played_seconds:
            delay = self._refill_delay(played_seconds) + reserve_seconds
        else:
            delay = self._start_delay(reserve_seconds)
        return self._first_at + played_seconds + delay

    def finish(self, *, is_complete: bool) -> None:
        """End the utterance.

        An incomplete utterance shows only a lower bound of its required delay. It is remembered only if this bound is
        above the current estimate.
        """
        if self._first_at is None:
            return
        if is_complete or self._max_delay > self._quantile([each.required_delay for each in self._observations]):
            later_delay = self._max_delay if self._later_delay is None else self._later_delay
            self._observations.append(_Observation(self._max_delay, self._stall, later_delay))

    def _start_delay(self, reserve_seconds: float) -> float:
        required = self._quantile([each.required_delay for each in self._observations])
        later = self._quantile([each.later_delay for each in self._observations]) if self._observations else 0.0
        covered = self._delay + max(self._stall, self._quantile([each.stall for each in self._observations]))
        return min(max(required, later + reserve_seconds), covered + reserve_seconds, self.max_seconds)

    def _refill_delay(self, played_seconds: float) -> float:
        if played_seconds > self._underrun_position:
            self._underrun_position = played_seconds
            self._delay_at_underrun = self._max_delay
            self._underruns += 1
        exponent = min(self._underruns - 1, 30)
        return self._delay_at_underrun + min(FIRST_REFILL_SECONDS * REFILL_GROWTH**exponent, self.max_seconds)

    def _quantile(self, values: list[float]) -> float:
        """Return the weighted quantile of ``values``, oldest first; newer values weigh more."""
        if not values:
            return self.initial_seconds
        weighted = sorted((value, DECAY**age) for age, value in enumerate(reversed(values)))
        remaining = QUANTILE * sum(weight for _, weight in weighted)
        for value, weight in weighted:
            remaining -= weight
            if remaining <= 0:
                return value
        return weighted[-1][0]
