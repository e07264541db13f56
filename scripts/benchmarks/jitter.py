"""How well the prebuffer chooses: simulated sessions replayed through the real one in a simulated clock.

    scripts/bench jitter [--json]

A *trace* is a session: the arrival times of twenty utterances of one service over one network, made by seeded code. Of
each utterance, with chunk i arriving at a(i) and carrying the sound that begins at c(i):

- *start delay*: from the first arrival to the first sample played;
- *gap*: from a sample after which there is nothing to play, or nothing that is played, to the next one played; *gap
  time* is how long all gaps of the utterance are together, *gaps* is how many there are;
- *lateness* = start delay + gap time: by how much the last sample is played later than it could be if everything had
  arrived at once ("start delay + all gaps");
- *D** = max(a(i) - c(i)) - a(0): no player that plays every sample in order has less lateness, and whoever knows the
  future has just that, all of it as start delay and without a gap;
- *one chunk*: how long the sound of one message lasts;
- J = (lateness + 2 x gap time + one chunk) / (D* + one chunk).

J of a trace takes each of these as the sum over its utterances, the first of which the prebuffer meets without any
memory; the column "each" is the mean of J taken of every utterance for itself. The rivals are *on arrival*, which plays
whatever is there, and *fixed*, which waits for the same amount of sound before each start and after each gap; the best
of these is chosen in hindsight, once for all traces, as the person who sets one number at best would. The prebuffer's
own numbers were chosen on other seeds than those shown here. Not in here: the speaker waits three quarters of a period
(15 ms) longer than the prebuffer says, because a card must be given its sound before it runs dry.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from agent.pipeline.playback.jitter_buffer import JitterBuffer

Arrivals = list[tuple[float, float]]
"""Of one utterance: when each message came, and how many seconds of sound it held."""

UTTERANCES = 20
SEEDS = range(8)
FIXED_SECONDS = tuple(round(0.02 * step, 2) for step in range(101))
NOTHING = 1e-6  # seconds: less is rounding, not a gap


@dataclass(frozen=True)
class Trace:
    kind: str
    seed: int
    chunk_seconds: float
    utterances: list[Arrivals]


# --- the network and the service


@dataclass(frozen=True)
class Network:
    """``speed``: how much faster than real time the service makes sound. ``stalls_per_second``, each of ``stall``
    seconds, in which nothing comes and after which everything held back comes at once. ``burst``: how long the service
    gathers sound before it sends all of it. ``jitter``: how late, at most, any message is."""

    speed: float = 1.0
    stalls_per_second: float = 0.0
    stall: tuple[float, float] = (0.0, 0.0)
    burst: tuple[float, float] = (0.0, 0.0)
    jitter: float = 0.0


KINDS: dict[str, Callable[[random.Random], list[Network]]] = {
    "ideal": lambda r: [Network(speed=r.choice([1.0, 1.0, 2.0, 5.0]))],
    "wifi stalls": lambda r: [
        Network(speed=r.uniform(1.0, 1.1), stalls_per_second=r.uniform(0.7, 1.5), stall=(0.05, 0.5), jitter=0.02)
    ],
    "bursts": lambda r: [Network(speed=r.uniform(1.0, 1.3), burst=(0.3, 0.45), jitter=0.01)],
    "5 % too slow": lambda r: [Network(speed=1 / 1.05, jitter=0.01)],
    "mixture": lambda r: r.choice(
        [
            [Network(speed=1 / 1.05, stalls_per_second=0.5, stall=(0.05, 0.5), jitter=0.02)],
            [Network(speed=1.1, burst=(0.3, 0.45), stalls_per_second=0.5, stall=(0.05, 0.5), jitter=0.02)],
            [Network(speed=1 / 1.05, burst=(0.3, 0.45), jitter=0.02)],
            r.sample([KINDS[kind](r)[0] for kind in list(KINDS)[:4]], 2),
        ]
    ),
}
"""The networks of a session, one after the other: the last mixture is a session in which one becomes another."""


def trace(kind: str, seed: int) -> Trace:
    """The same for the same seed."""
    made = random.Random(f"{kind} {seed}")
    chunk = made.choice([0.04, 0.08, 0.1, 0.2])
    networks = KINDS[kind](made)
    each = UTTERANCES // len(networks)
    return Trace(kind, seed, chunk, [_utterance(network, chunk, made) for network in networks for _ in range(each)])


def _utterance(network: Network, chunk: float, made: random.Random) -> Arrivals:
    count = max(2, round(made.uniform(2.0, 12.0) / chunk))
    arrivals: Arrivals = []
    last = 0.0
    stalls = _stalls(network, made, 3 * count * chunk + 10)
    burst_ends = 0.0
    for index in range(count):
        sent = index * chunk / network.speed
        if network.burst[1]:
            while burst_ends < sent:
                burst_ends += made.uniform(*network.burst)
            sent = burst_ends
        came = sent + made.uniform(0.0, network.jitter)
        for begin, end in stalls:
            if begin <= came < end:
                came = end
        last = max(last, came)
        arrivals.append((last, chunk))
    return arrivals


def _stalls(network: Network, made: random.Random, until: float) -> list[tuple[float, float]]:
    stalls: list[tuple[float, float]] = []
    at = 0.0
    while network.stalls_per_second and at < until:
        at += made.expovariate(network.stalls_per_second)
        length = made.uniform(*network.stall)
        stalls.append((at, at + length))
        at += length
    return stalls


def traces(seeds: Sequence[int] = SEEDS) -> list[Trace]:
    return [trace(kind, seed) for kind in KINDS for seed in seeds]


# --- the players


class Player(Protocol):
    """What ``Prebuffer`` does, and its rivals too."""

    def begin(self) -> None: ...
    def arrived(self, at: float, seconds: float) -> None: ...
    def start_at(self, played_seconds: float) -> float | None: ...
    def finish(self, *, whole: bool) -> None: ...


class Fixed:
    """Waits until ``seconds`` of sound are there; 0 is play on arrival."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begin()

    def begin(self) -> None:
        self._held: Arrivals = []
        self._came = 0.0

    def arrived(self, at: float, seconds: float) -> None:
        self._came += seconds
        self._held.append((at, self._came))

    def start_at(self, played_seconds: float) -> float | None:
        wanted = max(self._seconds, NOTHING) - NOTHING
        if self._came - played_seconds < wanted or self._came <= played_seconds:
            return None
        return self._held[-1][0]

    def finish(self, *, whole: bool) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    start_delay: float
    gaps: int
    gap_time: float
    best: float
    chunk: float

    @property
    def lateness(self) -> float:
        return self.start_delay + self.gap_time

    @property
    def score(self) -> float:
        return (self.lateness + 2 * self.gap_time + self.chunk) / (self.best + self.chunk)


def best_lateness(arrivals: Arrivals) -> float:
    """D*: the least lateness any player can have."""
    begins, best = 0.0, 0.0
    for at, seconds in arrivals:
        best = max(best, at - begins - arrivals[0][0])
        begins += seconds
    return best


def play(player: Player, arrivals: Arrivals, chunk: float) -> Outcome:
    """One utterance. The player is told of a message when it comes, and of nothing before."""
    first, total = arrivals[0][0], sum(seconds for _, seconds in arrivals)
    player.begin()
    told, came, played, gaps, silent = 0, 0.0, 0.0, 0, 0.0
    now = since = first
    start_delay: float | None = None
    while True:
        # Waiting: until it wants to play, or all is there.
        while True:
            while told < len(arrivals) and arrivals[told][0] <= now + NOTHING:
                player.arrived(*arrivals[told])
                came += arrivals[told][1]
                told += 1
            if told == len(arrivals):
                break
            wanted = player.start_at(played)
            if wanted is not None and wanted <= now:
                break
            now = min(arrivals[told][0], wanted if wanted is not None else float("inf"))
        if start_delay is None:
            start_delay = now - since
        elif now - since > NOTHING:
            gaps += 1
            silent += now - since
        # Playing: until there is nothing left.
        while told < len(arrivals) and arrivals[told][0] <= now + came - played + NOTHING:
            player.arrived(*arrivals[told])
            came += arrivals[told][1]
            told += 1
        now += came - played
        played = came
        since = now
        if told == len(arrivals):
            player.finish(whole=True)
            assert abs(played - total) < NOTHING
            return Outcome(start_delay, gaps, silent, best_lateness(arrivals), chunk)


def session(player: Player, trace: Trace) -> list[Outcome]:
    return [play(player, arrivals, trace.chunk_seconds) for arrivals in trace.utterances]


def score(outcomes: Sequence[Outcome]) -> float:
    """J of a trace."""
    cost = sum(each.lateness + 2 * each.gap_time + each.chunk for each in outcomes)
    return cost / sum(each.best + each.chunk for each in outcomes)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# --- the comparison


@dataclass(frozen=True)
class Row:
    """One player on some traces. ``score``: mean J; ``each``: mean of J of every utterance; the seconds are means of an
    utterance."""

    player: str
    kind: str
    traces: int
    score: float
    each: float
    gaps: int
    start_delay: float
    gap_time: float
    best: float


def compare(traces: Sequence[Trace]) -> list[Row]:
    """On each kind of trace, and on all: the prebuffer, playing on arrival, and the best fixed amount."""
    makers: dict[str, Callable[[], Player]] = {"prebuffer": JitterBuffer, "on arrival": lambda: Fixed(0.0)}
    seconds = min(FIXED_SECONDS, key=lambda seconds: mean([score(session(Fixed(seconds), each)) for each in traces]))
    makers[f"fixed {seconds:.2f} s"] = lambda: Fixed(seconds)
    rows = []
    for player, make in makers.items():
        played = [(each.kind, session(make(), each)) for each in traces]
        for kind in [*dict.fromkeys(each.kind for each in traces), "all"]:
            rows.append(_row(player, kind, [outcomes for its, outcomes in played if kind in (its, "all")]))
    return rows


def _row(player: str, kind: str, sessions: list[list[Outcome]]) -> Row:
    every = [outcome for outcomes in sessions for outcome in outcomes]
    return Row(
        player,
        kind,
        len(sessions),
        score=mean([score(outcomes) for outcomes in sessions]),
        each=mean([outcome.score for outcome in every]),
        gaps=sum(outcome.gaps for outcome in every),
        start_delay=mean([outcome.start_delay for outcome in every]),
        gap_time=mean([outcome.gap_time for outcome in every]),
        best=mean([outcome.best for outcome in every]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench jitter", description="How well the prebuffer chooses.")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    rows = compare(traces())
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return 0
    print("player         trace          traces     J  each   gaps  start s  gaps s    D* s")
    for row in rows:
        print(
            f"{row.player:14} {row.kind:14} {row.traces:6} {row.score:5.2f} {row.each:5.2f} {row.gaps:6} "
            f"{row.start_delay:8.3f} {row.gap_time:7.3f} {row.best:7.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
