"""Counts the events of the daemon, and renders the metrics in the text format of Prometheus."""

from __future__ import annotations

import bisect
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agent import __version__
from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    FRAME_QUEUE_OVERRUN,
    MICROPHONE_OVERRUN,
    AudioArrived,
    DeviceLost,
    Gap,
    Heard,
    NearMiss,
    PlaybackStarted,
    ServiceDown,
    ServiceUp,
    SpeechEnded,
    Underruns,
    Woken,
)
from agent.pipeline.state import State
from agent.pipeline.status import FAILED, READY, Status
from agent.pipeline.utterance import NOTICE, Urgency
from agent.services.connection.standby import CLOSED, HALF_OPEN, OPEN

FIRST_AUDIO_SECONDS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
ANSWER_SECONDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0)

_ENDS = ("played", "cancelled", "failed", "expired", "dropped", "interrupted")
_OVERRUNS = {MICROPHONE_OVERRUN: "microphone", FRAME_QUEUE_OVERRUN: "frame queue"}
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Labels = tuple[str, ...]


class Metric:
    """A counter or gauge: one number for each combination of labels.

    Not thread-safe; guarded by the lock of ``Metrics``.

    Args:
        name: The name of the metric.
        help: The help text, one line.
        labels: The names of the labels.
        kind: ``counter`` or ``gauge``.
    """

    def __init__(self, name: str, help: str, labels: Labels = (), kind: str = "counter") -> None:
        self._name, self._help, self._labels, self._kind = name, help, labels, kind
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, amount: float, *labels: str) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        """Yield the lines of the metric; none while it has no value."""
        if self.values:
            yield from _header(self._name, self._help, self._kind)
        for labels, value in self.values.items():
            yield f"{self._name}{_label_text(zip(self._labels, labels, strict=True))} {value:.12g}"


class Histogram:
    """The distribution of durations for each combination of labels.

    Not thread-safe; guarded by the lock of ``Metrics``.

    Args:
        name: The name of the metric.
        help: The help text, one line.
        bounds: The upper bounds of the buckets in seconds, ascending.
        labels: The names of the labels.
    """

    def __init__(self, name: str, help: str, bounds: tuple[float, ...], labels: Labels = ()) -> None:
        self._name, self._help, self._bounds, self._labels = name, help, bounds, labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self._add_series(())

    def observe(self, seconds: float, *labels: str) -> None:
        if labels not in self._counts:
            self._add_series(labels)
        self._counts[labels][bisect.bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def lines(self) -> Iterator[str]:
        """Yield the lines of the metric; none while it has no value."""
        if self._counts:
            yield from _header(self._name, self._help, "histogram")
        for labels, counts in self._counts.items():
            pairs, total = list(zip(self._labels, labels, strict=True)), 0
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                total += count
                yield f"{self._name}_bucket{_label_text([*pairs, ('le', bound)])} {total}"
            yield f"{self._name}_sum{_label_text(pairs)} {self._sums[labels]:.12g}"
            yield f"{self._name}_count{_label_text(pairs)} {total}"

    def _add_series(self, labels: Labels) -> None:
        self._counts[labels] = [0] * (len(self._bounds) + 1)
        self._sums[labels] = 0.0


class Metrics:
    """The metrics of one daemon. Thread-safe.

    Args:
        card_underruns: Returns the number of card underruns since the start.
        clock: Returns the monotonic time in seconds.
    """

    def __init__(
        self, card_underruns: Callable[[], int] = lambda: 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read_card_underruns, self._clock = card_underruns, clock
        self._lock = threading.Lock()
        self._started_at = time.time()
        self._status: Status | None = None
        self._current: str | None = None  # the utterance that is being spoken
        self._current_at = 0.0
        self._is_reply = False
        self._speech_ended_at: float | None = None
        self._turns = Metric("voice_agent_turns_total", "Final transcripts with words.")
        self._wakes = Metric("voice_agent_wake_words_total", "Wake words that were heard.", ("word",))
        self._near_misses = Metric(
            "voice_agent_wake_near_misses_total", "Sounds similar to a wake word, below its threshold.", ("word",)
        )
        self._utterances = Metric(
            "voice_agent_utterances_total", "Utterances by recorded end and priority.", ("state", "priority")
        )
        for state in _ENDS:
            for urgency in Urgency:
                self._utterances.add(0, state, urgency.value)
        self._spoken = Metric("voice_agent_spoken_seconds_total", "Seconds of audio played.")
        self._first_audio = Histogram(
            "voice_agent_first_audio_seconds",
            "Time from the start of an utterance until its first audio arrived, by service and origin.",
            FIRST_AUDIO_SECONDS,
            ("service", "origin"),
        )
        self._answers = Histogram(
            "voice_agent_answer_seconds",
            "Time from the end of the user's speech until the first audio of the reply is played.",
            ANSWER_SECONDS,
        )
        self._underruns = Metric("voice_agent_underruns_total", "Times that audio of a service came too late.")
        self._silence = Metric("voice_agent_underrun_seconds_total", "Seconds of silence inserted in underruns.")
        self._card_underruns = Metric(
            "voice_agent_card_underruns_total", "Times that the sound card ran out of audio, on a busy machine."
        )
        self._overruns = Metric("voice_agent_overruns_total", "Overruns of captured audio by buffer.", ("buffer",))
        for buffer in _OVERRUNS.values():
            self._overruns.add(0, buffer)
        self._gaps = Metric("voice_agent_gaps_total", "Gaps in captured audio, for any reason.")
        self._gap_seconds = Metric("voice_agent_gap_seconds_total", "Seconds of captured audio that were lost.")
        self._failures = Metric(
            "voice_agent_service_failures_total", "Failures of a service that was available.", ("service",)
        )
        self._reconnects = Metric(
            "voice_agent_service_reconnects_total", "Recoveries of a service after failures.", ("service",)
        )
        self._phrases = Metric(
            "voice_agent_phrase_lookups_total",
            "First audio of utterances from the disk (hit) or from a service (miss).",
            ("result",),
        )
        for result in ("hit", "miss"):
            self._phrases.add(0, result)
        self._lost = Metric("voice_agent_device_losses_total", "Losses of a sound device.", ("device",))
        self._counted: tuple[Metric | Histogram, ...] = (
            self._turns,
            self._wakes,
            self._near_misses,
            self._utterances,
            self._spoken,
            self._first_audio,
            self._answers,
            self._underruns,
            self._silence,
            self._card_underruns,
            self._overruns,
            self._gaps,
            self._gap_seconds,
            self._failures,
            self._reconnects,
            self._phrases,
            self._lost,
        )
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            Status: self._take_status,
            Record: self._count_record,
            Woken: lambda event: self._wakes.add(1, event.word),
            NearMiss: lambda event: self._near_misses.add(1, event.word),
            Heard: self._count_turn,
            SpeechEnded: self._note_end_of_speech,
            AudioArrived: self._count_first_audio,
            PlaybackStarted: self._count_answer,
            Underruns: self._count_underruns,
            Gap: self._count_gap,
            ServiceDown: lambda event: self._failures.add(1, event.service),
            ServiceUp: lambda event: self._reconnects.add(1, event.service),
            DeviceLost: lambda event: self._lost.add(1, event.device),
        }

    def update(self, notification: Notification) -> None:
        """Count a notification. Called by the main thread."""
        handler = self._handlers.get(type(notification))
        if handler is not None:
            with self._lock:
                handler(notification)

    def render(self) -> str:
        """Return all metrics as text."""
        with self._lock:
            self._card_underruns.values[()] = self._read_card_underruns()
            lines = [line for metric in self._counted for line in metric.lines()]
            status = self._status
        for gauge in (*_status_gauges(status), *_process_metrics(self._started_at)):
            lines += gauge.lines()
        return "\n".join([*lines, ""])

    def _take_status(self, status: Status) -> None:
        self._status = status
        for service in status.services:
            self._failures.add(0, service.name)
            self._reconnects.add(0, service.name)
        saying = status.saying
        if (utterance := None if saying is None else saying.utterance) != self._current:
            self._current, self._current_at = utterance, self._clock()
            self._is_reply = saying is not None and saying.source == "reply"

    def _count_record(self, record: Record) -> None:
        self._utterances.add(1, record.state, record.utterance.urgency.value)
        self._spoken.add(record.seconds)

    def _count_turn(self, heard: Heard) -> None:
        if heard.text:
            self._turns.add(1)
        else:
            self._speech_ended_at = None

    def _note_end_of_speech(self, event: SpeechEnded) -> None:
        self._speech_ended_at = self._clock() - event.silence_seconds

    def _count_first_audio(self, event: AudioArrived) -> None:
        if event.service != NOTICE:
            self._phrases.add(1, "hit" if event.is_phrase else "miss")
        if event.utterance == self._current:
            origin = "phrase" if event.is_phrase else "service"
            self._first_audio.observe(self._clock() - self._current_at, event.service, origin)

    def _count_answer(self, event: PlaybackStarted) -> None:
        if self._speech_ended_at is not None and self._is_reply and event.utterance == self._current:
            self._answers.observe(self._clock() - self._speech_ended_at)
            self._speech_ended_at = None

    def _count_underruns(self, event: Underruns) -> None:
        self._underruns.add(event.times)
        self._silence.add(event.silence_seconds)

    def _count_gap(self, gap: Gap) -> None:
        self._gaps.add(1)
        self._gap_seconds.add(gap.seconds)
        if (buffer := _OVERRUNS.get(gap.reason)) is not None:
            self._overruns.add(1, buffer)


def _status_gauges(status: Status | None) -> Iterator[Metric]:
    if status is None:
        return
    yield _gauge("voice_agent_queue_length", "Announcements that wait.", status.queue)
    yield _gauge("voice_agent_problems", "Problems that the status names.", len(status.problems))
    states = _gauge("voice_agent_state", "1 for the state of the conversation, 0 for the others.", labels=("state",))
    for name in (state.value for state in State):
        states.add(name == status.state, name)
    yield states
    if status.can_speak is not None:
        help = "Whether a service and the speaker are usable."
        yield _gauge("voice_agent_can_speak", help, status.can_speak)
    if status.can_listen is not None:
        help = "Whether the transcription service and the microphone are usable."
        yield _gauge("voice_agent_can_listen", help, status.can_listen)
    if status.volume is not None:
        yield _gauge("voice_agent_volume_ratio", "Playback volume, 0 to 1.", status.volume / 100)
    help = "1 after a result, 0 after a failure, 0.5 before the first of both."
    services = _gauge("voice_agent_service_up", help, labels=("service", "role"))
    help = "1 for the state of the service's circuit breaker, 0 for the others."
    breakers = _gauge("voice_agent_circuit_breaker", help, labels=("service", "state"))
    for service in status.services:
        up = {READY: 1.0, FAILED: 0.0}.get(service.state, 0.5)
        services.add(up, service.name, service.role)
        if service.breaker is not None:
            for state in (CLOSED, OPEN, HALF_OPEN):
                breakers.add(state == service.breaker, service.name, state)
    yield services
    yield breakers
    devices = _gauge("voice_agent_device_up", "0 while a sound device is lost.", labels=("device",))
    for device in status.devices:
        devices.add(device.state != "lost", device.name)
    yield devices


def _process_metrics(started_at: float) -> Iterator[Metric]:
    cpu = Metric("process_cpu_seconds_total", "CPU time of the daemon in user and system mode, without children.")
    cpu.add(time.process_time())
    yield cpu
    with open("/proc/self/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    yield _gauge("process_resident_memory_bytes", "Resident memory of the daemon, without children.", memory)
    yield _gauge("process_open_fds", "Open file descriptors.", len(os.listdir("/proc/self/fd")))
    yield _gauge("process_start_time_seconds", "Start of the daemon in seconds since 1970.", started_at)
    yield _gauge("voice_agent_threads", "Threads of the daemon.", threading.active_count())
    labels = {"version": __version__, "python": sys.version.split()[0], "machine": os.uname().machine}
    info = _gauge("voice_agent_build_info", "1, with the versions as labels.", labels=tuple(labels))
    info.add(1, *labels.values())
    yield info


def _gauge(name: str, help: str, value: float | None = None, labels: Labels = ()) -> Metric:
    gauge = Metric(name, help, labels, "gauge")
    if value is not None:
        gauge.values[()] = float(value)
    return gauge


def _header(name: str, help: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {help}", f"# TYPE {name} {kind}"


def _label_text(pairs: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""
