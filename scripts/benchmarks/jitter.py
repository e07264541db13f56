"""Measures the jitter buffer: replays simulated sessions through it on a simulated clock.

    scripts/bench jitter [--json]

A *trace* is a session: the arrival times of twenty utterances of one service over one network, from a seeded generator.
For each utterance, with piece i arriving at a(i) and containing the audio from position c(i):

- *start delay*: time from the first arrival to the first played sample;
- *gap*: time between two played samples without audio to play; *gap time* is the sum of the gaps of an utterance;
- *delay* = start delay + gap time: how much later the last sample plays than it would if everything had arrived at
  once;
- *D** = max(a(i) - c(i)) - a(0): the required delay. No player that plays every sample in order has a smaller delay;
  with knowledge of the future it has exactly this delay, as start delay, without a gap;
- *piece*: duration of the audio in one message;
- J = (delay + 2 x gap time + piece) / (D* + piece).

J of a trace uses the sums over its utterances; the jitter buffer meets the first one without observations. The column
"each" is the mean of J of the single utterances, "bare" is J without the piece, over the sums of all traces of a row.

The comparison players are *on arrival*, which plays whatever is there, *fixed*, which waits for the same amount of
audio before each start and after each gap, with the best amount for all traces, chosen in hindsight, and *hindsight*,
which starts each utterance of a trace after the same delay, with the best delay for this trace, chosen in hindsight,
and resumes with the next message. *informed* does the same with the best delay for the network: it knows all parameters
of the network and the piece, but not this utterance. A player that has to learn the network from the utterances before
can be better than *informed* only by what the first pieces of an utterance say about the rest of it.

The row "all" has the networks for which the constants of the jitter buffer were chosen, on other seeds. The kinds below
it were not used for that: *tcp* loses packets in bursts and waits 200 ms or more for each retransmission; *sentences*
is a service that computes a sentence after the other and sends each one much faster than real time. Not included: the
reserve of the speaker (30 ms), which delays services that are not faster than real time, because a card needs its audio
before it underruns.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.pipeline.playback.jitter_buffer import JitterBuffer
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

Arrivals = list[tuple[float, float]]
"""Arrival time and seconds of audio of each message of one utterance."""

UTTERANCES = 20
SEEDS = range(8)
OTHER_UTTERANCES = 200
FIXED_SECONDS = tuple(round(0.02 * step, 2) for step in range(101))
MAX_SCORE = 1.25
EPSILON_SECONDS = 1e-6  # less is rounding, not a gap


@dataclass(frozen=True)
class Trace:
    """The arrivals of one session. Immutable."""

    kind: str
    seed: int
    chunk_seconds: float
    utterances: list[Arrivals]


# --- the network and the service


@dataclass(frozen=True)
class Network:
    """The behavior of a service and its network. Immutable.

    ``speed``: rate of the synthesis relative to real time. ``losses_per_second``: rate of lost packets; each waits for
    its retransmission, 200 ms, twice as long each time that it is lost again. ``stalls_per_second``: rate of stalls of
    ``stall`` seconds (minimum, maximum), in which nothing arrives and after which everything arrives at once.
    ``burst``: seconds for which the service collects audio before it sends it. ``jitter``: maximum additional delay of
    a message in seconds.
    ``is_by_sentence``: the service sends nothing before a sentence of 0.6 to 5 s is computed, then all of it.
    """

    speed: float = 1.0
    stalls_per_second: float = 0.0
    stall: tuple[float, float] = (0.0, 0.0)
    burst: tuple[float, float] = (0.0, 0.0)
    jitter: float = 0.0
    losses_per_second: float = 0.0
    is_by_sentence: bool = False


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
"""The successive networks of a session; the last mixture changes the network within the session."""


OTHER_KINDS: dict[str, Callable[[random.Random], list[Network]]] = {
    "tcp": lambda r: [Network(speed=r.uniform(1.0, 1.2), losses_per_second=r.uniform(0.12, 0.33), jitter=0.005)],
    "sentences": lambda r: [Network(speed=r.uniform(2.0, 8.0), is_by_sentence=True)],
}
"""Networks for which the constants of the jitter buffer were not chosen."""

RETRANSMISSION_SECONDS = 0.2
LOST_AGAIN = 0.3
SENDING_SPEED = 20.0


def trace(kind: str, seed: int) -> Trace:
    """Generate a trace; the same seed generates the same trace."""
    generator, chunk, networks = _session(kind, seed)
    each = UTTERANCES // len(networks)
    return Trace(
        kind, seed, chunk, [_utterance(network, chunk, generator) for network in networks for _ in range(each)]
    )


def _session(kind: str, seed: int) -> tuple[random.Random, float, list[Network]]:
    """Return the generator of a session, its piece in seconds and its networks."""
    generator = random.Random(f"{kind} {seed}")
    chunk = generator.choice([0.04, 0.08, 0.1, 0.2])
    return generator, chunk, (KINDS | OTHER_KINDS)[kind](generator)


def _utterance(network: Network, chunk: float, generator: random.Random) -> Arrivals:
    if network.is_by_sentence:
        return _sentences(network, chunk, generator)
    count = max(2, round(generator.uniform(2.0, 12.0) / chunk))
    arrivals: Arrivals = []
    last = 0.0
    stalls = _stalls(network, generator, 3 * count * chunk + 10)
    burst_ends = 0.0
    for index in range(count):
        sent = index * chunk / network.speed
        if network.burst[1]:
            while burst_ends < sent:
                burst_ends += generator.uniform(*network.burst)
            sent = burst_ends
        received = sent + generator.uniform(0.0, network.jitter)
        for begin, end in stalls:
            if begin <= received < end:
                received = end
        last = max(last, received)
        arrivals.append((last, chunk))
    return arrivals


def _sentences(network: Network, chunk: float, generator: random.Random) -> Arrivals:
    arrivals: Arrivals = []
    computed = 0.0
    for _ in range(generator.randint(1, 4)):
        count = max(1, round(generator.uniform(0.6, 5.0) / chunk))
        computed += count * chunk / network.speed + generator.uniform(0.1, 0.4)
        begin = max(computed, arrivals[-1][0] if arrivals else 0.0)
        arrivals += [(begin + index * chunk / SENDING_SPEED, chunk) for index in range(count)]
    return arrivals


def _stalls(network: Network, generator: random.Random, until: float) -> list[tuple[float, float]]:
    stalls: list[tuple[float, float]] = []
    at = 0.0
    while network.losses_per_second and at < until:
        at += generator.expovariate(network.losses_per_second)
        length = RETRANSMISSION_SECONDS
        while length < 1.0 and generator.random() < LOST_AGAIN:
            length = 2 * length + RETRANSMISSION_SECONDS
        stalls.append((at, at + length))
        at += length
    while network.stalls_per_second and at < until:
        at += generator.expovariate(network.stalls_per_second)
        length = generator.uniform(*network.stall)
        stalls.append((at, at + length))
        at += length
    return stalls


def traces(seeds: Sequence[int] = SEEDS, kinds: Iterable[str] = KINDS) -> list[Trace]:
    return [trace(kind, seed) for kind in kinds for seed in seeds]


# --- the players


class Player(Protocol):
    """The interface of ``JitterBuffer`` and of the comparison players."""

    def begin(self) -> None: ...
    def add(self, at: float, seconds: float) -> None: ...
    def start_at(self, played_seconds: float) -> float | None: ...
    def finish(self, *, is_complete: bool) -> None: ...


class Fixed:
    """Plays when ``seconds`` of audio are buffered; 0: plays on arrival."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begin()

    def begin(self) -> None:
        self._arrivals: Arrivals = []
        self._received_seconds = 0.0

    def add(self, at: float, seconds: float) -> None:
        self._received_seconds += seconds
        self._arrivals.append((at, self._received_seconds))

    def start_at(self, played_seconds: float) -> float | None:
        wanted = max(self._seconds, EPSILON_SECONDS) - EPSILON_SECONDS
        if self._received_seconds - played_seconds < wanted or self._received_seconds <= played_seconds:
            return None
        return self._arrivals[-1][0]

    def finish(self, *, is_complete: bool) -> None:
        pass


class Constant(Fixed):
    """Starts ``seconds`` after the first arrival, and resumes with the next message after a gap."""

    def start_at(self, played_seconds: float) -> float | None:
        if self._received_seconds <= played_seconds:
            return None
        return self._arrivals[-1][0] if played_seconds else self._arrivals[0][0] + self._seconds


class Informed(Constant):
    """Starts each utterance after the delay that is the best one for its network, of which it knows the parameters.

    One second of delay costs 1 and one second of gap 2 more, so this is the quantile 2/3 of the required delays.
    """

    def __init__(self, trace: Trace) -> None:
        _, chunk, networks = _session(trace.kind, trace.seed)
        generator = random.Random(f"other utterances {trace.kind} {trace.seed}")
        self._delays = []
        for network in networks:
            others = [required_delay(_utterance(network, chunk, generator)) for _ in range(OTHER_UTTERANCES)]
            self._delays += [sorted(others)[OTHER_UTTERANCES * 2 // 3]] * (UTTERANCES // len(networks))
        super().__init__(0.0)

    def finish(self, *, is_complete: bool) -> None:
        del self._delays[0]

    def start_at(self, played_seconds: float) -> float | None:
        self._seconds = self._delays[0]
        return super().start_at(played_seconds)


@dataclass(frozen=True)
class Outcome:
    """The result of one utterance: seconds and the number of gaps. Immutable."""

    start_delay: float
    gaps: int
    gap_time: float
    best: float
    chunk: float

    @property
    def delay(self) -> float:
        return self.start_delay + self.gap_time

    @property
    def score(self) -> float:
        return (self.delay + 2 * self.gap_time + self.chunk) / (self.best + self.chunk)


def required_delay(arrivals: Arrivals) -> float:
    """Return D*, the smallest possible delay."""
    begins, best = 0.0, 0.0
    for at, seconds in arrivals:
        best = max(best, at - begins - arrivals[0][0])
        begins += seconds
    return best


def play(player: Player, arrivals: Arrivals, chunk: float) -> Outcome:
    """Play one utterance; the player learns of each message at its arrival."""
    first, total = arrivals[0][0], sum(seconds for _, seconds in arrivals)
    player.begin()
    delivered, received, played, gaps, silent = 0, 0.0, 0.0, 0, 0.0
    now = since = first
    start_delay: float | None = None
    while True:
        # Buffering: until the player starts, or everything has arrived.
        while True:
            while delivered < len(arrivals) and arrivals[delivered][0] <= now + EPSILON_SECONDS:
                player.add(*arrivals[delivered])
                received += arrivals[delivered][1]
                delivered += 1
            if delivered == len(arrivals):
                break
            wanted = player.start_at(played)
            if wanted is not None and wanted <= now:
                break
            now = min(arrivals[delivered][0], wanted if wanted is not None else float("inf"))
        if start_delay is None:
            start_delay = now - since
        elif now - since > EPSILON_SECONDS:
            gaps += 1
            silent += now - since
        # Playing: until the buffer is empty.
        while delivered < len(arrivals) and arrivals[delivered][0] <= now + received - played + EPSILON_SECONDS:
            player.add(*arrivals[delivered])
            received += arrivals[delivered][1]
            delivered += 1
        now += received - played
        played = received
        since = now
        if delivered == len(arrivals):
            player.finish(is_complete=True)
            assert abs(played - total) < EPSILON_SECONDS
            return Outcome(start_delay, gaps, silent, required_delay(arrivals), chunk)


def session(player: Player, trace: Trace) -> list[Outcome]:
    return [play(player, arrivals, trace.chunk_seconds) for arrivals in trace.utterances]


def score(outcomes: Sequence[Outcome]) -> float:
    """Return J of a trace."""
    cost = sum(each.delay + 2 * each.gap_time + each.chunk for each in outcomes)
    return cost / sum(each.best + each.chunk for each in outcomes)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# --- the comparison


@dataclass(frozen=True)
class Row:
    """One player on one kind of trace. Immutable.

    ``score``: mean J of the traces; ``each``: mean J of the utterances; ``bare``: J of all traces without the piece,
    ``None`` if no delay is required; delays and times are means per utterance.
    """

    player: str
    kind: str
    traces: int
    score: float
    each: float
    bare: float | None
    gaps: int
    start_delay: float
    gap_time: float
    best: float


def compare(traces: Sequence[Trace]) -> list[Row]:
    """Compare the jitter buffer with the other players, on each kind of trace and on all kinds of ``KINDS``."""
    makers: dict[str, Callable[[Trace], Player]] = {
        "adaptive": lambda _: JitterBuffer(),
        "hindsight": lambda trace: Constant(_best(Constant, [trace], FIXED_SECONDS[::4])),
        "informed": Informed,
        "on arrival": lambda _: Fixed(0.0),
    }
    mixed = [each for each in traces if each.kind in KINDS]
    seconds = _best(Fixed, mixed)
    makers[f"fixed {seconds:.2f} s"] = lambda _: Fixed(seconds)
    rows = []
    for player, make in makers.items():
        played = [(each.kind, session(make(each), each)) for each in traces]
        for kind in dict.fromkeys(each.kind for each in mixed):
            rows.append(_row(player, kind, [outcomes for its, outcomes in played if its == kind]))
        rows.append(_row(player, "all", [outcomes for its, outcomes in played if its in KINDS]))
        for kind in dict.fromkeys(each.kind for each in traces if each.kind in OTHER_KINDS):
            rows.append(_row(player, kind, [outcomes for its, outcomes in played if its == kind]))
    return rows


def _best(
    make: Callable[[float], Player], traces: Sequence[Trace], candidates: Sequence[float] = FIXED_SECONDS
) -> float:
    return min(candidates, key=lambda seconds: mean([score(session(make(seconds), each)) for each in traces]))


def _row(player: str, kind: str, sessions: list[list[Outcome]]) -> Row:
    every = [outcome for outcomes in sessions for outcome in outcomes]
    best = sum(outcome.best for outcome in every if outcome.best > EPSILON_SECONDS)
    return Row(
        player,
        kind,
        len(sessions),
        score=mean([score(outcomes) for outcomes in sessions]),
        each=mean([outcome.score for outcome in every]),
        bare=sum(outcome.delay + 2 * outcome.gap_time for outcome in every) / best if best else None,
        gaps=sum(outcome.gaps for outcome in every),
        start_delay=mean([outcome.start_delay for outcome in every]),
        gap_time=mean([outcome.gap_time for outcome in every]),
        best=mean([outcome.best for outcome in every]),
    )


def result(rows: Sequence[Row]) -> Result:
    """Return the table, and the verdict on the jitter buffer."""
    columns = (
        Column("traces", 0),
        Column("J"),
        Column("each"),
        Column("bare"),
        Column("gaps", 0),
        Column("start, s", 3),
        Column("gap time, s", 3),
        Column("D*, s", 3),
    )
    cells = [
        (each.player, each.kind, each.traces, each.score, each.each, each.bare)
        + (each.gaps, each.start_delay, each.gap_time, each.best)
        for each in rows
    ]
    judged = {row.kind: row.score for row in rows if row.player == "adaptive" and row.kind in ("all", *OTHER_KINDS)}
    return Result(
        [Table(("player", "trace"), columns, cells)],
        [at_most(f"J of the jitter buffer is at most {MAX_SCORE:g}", MAX_SCORE, judged)],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench jitter", description="Measure the jitter buffer on simulated networks."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    progress("jitter: replaying all traces")
    return result(compare(traces(kinds=[*KINDS, *OTHER_KINDS]))).show(as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
