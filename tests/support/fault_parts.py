"""Runs microphone and speaker on the sound card of the environment, as a separate process.

``python -m support.fault_parts FUNCTION JSON`` calls the function with the arguments and prints its result as JSON.
"""

from __future__ import annotations

import array
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.audio.devices.device import open_sink, open_source
from agent.audio.format import SPEECH, Format
from agent.daemon.supervisor import Supervisor
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Event, Gap, PlaybackStarted, Underruns, UtterancePlayed
from agent.pipeline.playback.jitter_buffer import JitterBuffer
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.system.threads import Deadline
from support.fakepa import FakePortAudio
from support.timing import DelayMonitor

CARD = "USB PnP"
TIMEOUT_SECONDS = 60.0


def counted(frames: int, first: int = 1) -> bytes:
    """Audio in which every sample encodes its position."""
    return array.array("h", [(first + n) % 32000 + 1 for n in range(frames)]).tobytes()


class Report:
    """The reported events with their monotonic times. Thread-safe."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append((time.monotonic(), event))
            self._changed.notify_all()

    def of(self, kind: type[Event]) -> list[tuple[float, Any]]:
        with self._changed:
            return [(at, event) for at, event in self.events if isinstance(event, kind)]

    def wait(self, kind: type[Event], count: int = 1) -> None:
        with self._changed:
            met = self._changed.wait_for(
                lambda: sum(isinstance(event, kind) for _, event in self.events) >= count, TIMEOUT_SECONDS
            )
            assert met, f"no {kind.__name__}; there was {self.events}"


def speaking(frames: int, rate: int, drain: bool = True) -> Callable[[ReconnectingSink], None]:
    sound = counted(frames)
    format = Format(rate)
    period = format.bytes_of(0.02)

    def speak(sink: ReconnectingSink) -> None:
        for start in range(0, len(sound), period):
            assert sink.write(sound[start : start + period], format, lambda: True)
        if drain:
            sink.drain()

    return speak


def sweep(folder: str, rule: str, upto: int, frames: int, rate: int) -> dict[str, Any]:
    """Play ``frames`` once for each call number up to ``upto``, with the fault of ``rule`` at that call."""
    fake = FakePortAudio(Path(folder))
    wrong, losses, backs = [], 0, []
    for number in range(1, upto + 1):
        fake.order(rule.format(number))
        before = len(fake.heard())
        report = Report()
        sink = ReconnectingSink(lambda format: open_sink(CARD, format, 0.02, 0.04), report, threading.Event())
        speaking(frames, rate)(sink)
        sink.close()
        # After the last sample the card plays only silence.
        if fake.heard()[before:].rstrip(b"\0") != counted(frames):
            wrong.append(number)
        losses += len(report.of(DeviceLost))
        backs += [event.seconds for _, event in report.of(DeviceBack)]
    return {"wrong": wrong, "losses": losses, "backs": backs}


def underruns(frames: int, rate: int) -> dict[str, Any]:
    """Play on a card with a buffer for all audio, which underruns only on request."""
    report = Report()
    sink = ReconnectingSink(lambda format: open_sink(CARD, format, 0.02, 2.0), report, threading.Event())
    speaking(frames, rate, drain=False)(sink)
    counts = sink.underruns
    sink.close()
    return {"underruns": counts, "losses": len(report.of(DeviceLost))}


class MicrophoneRecorder:
    """A microphone whose audio is collected. Not thread-safe."""

    def __init__(self, report: Report, device: str = CARD) -> None:
        self.report = report
        self.frames = FrameQueue(30.0)
        self.microphone = Microphone(self.frames, lambda: open_source(device, 0.1), report)
        self.sound = bytearray()

    def record(self, seconds: float) -> None:
        """Wait for this much more audio."""
        deadline = Deadline(TIMEOUT_SECONDS)
        more = len(self.sound) + SPEECH.bytes_of(seconds)
        while len(self.sound) < more:
            assert not deadline.is_expired, f"no audio received; {self.report.events}"
            self.sound += self.frames.get(timeout_seconds=1.0) or b""

    def end(self) -> None:
        self.microphone.stop()
        assert self.microphone.join(Deadline(TIMEOUT_SECONDS))

    def jumps(self) -> list[int]:
        """Return the number of missing samples at each place where the samples do not count up by one."""
        samples = array.array("h", bytes(self.sound))
        steps = [(b - a) % 65536 for a, b in zip(samples, samples[1:], strict=False)]
        return [step - 1 for step in steps if step != 1]

    def gaps(self) -> list[Gap]:
        return [event for _, event in self.report.of(Gap)]


def listen(seconds: float) -> dict[str, Any]:
    recorder = MicrophoneRecorder(Report())
    with DelayMonitor() as monitor:
        recorder.microphone.start()
        began = time.monotonic()
        recorder.record(seconds)
        took = time.monotonic() - began
    recorder.end()
    return {
        "late": monitor.worst_seconds,
        "jumps": recorder.jumps(),
        "gaps": [[gap.start_seconds, gap.seconds, gap.reason] for gap in recorder.gaps()],
        "losses": len(recorder.report.of(DeviceLost)),
        "waiting": recorder.frames.dropped_frames,
        "took": took,
    }


def unplug(folder: str, away_seconds: float, shift: int) -> dict[str, Any]:
    """Record and play; the card disappears and returns later at another index."""
    fake = FakePortAudio(Path(folder))
    report = Report()
    recorder = MicrophoneRecorder(report)
    ring = RingBuffer(1 << 22)
    speaker = Speaker(ring, lambda format: open_sink(CARD, format, 0.02, 0.04), report, jitter_buffer=JitterBuffer(0.0))
    with DelayMonitor() as monitor:
        began = time.monotonic()
        recorder.microphone.start()
        speaker.start()
        recorder.record(0.5)
        # Long enough that some of it is not yet played when the card disappears.
        sound = counted(16000 * 4)
        stream_id = ring.begin("one", SPEECH)
        ring.write(stream_id, sound)
        ring.end(stream_id)
        recorder.record(0.5)
        heard = SPEECH.seconds_of(len(recorder.sound))
        fake.set("gone", "")
        gone = time.monotonic()
        report.wait(DeviceLost, 2)
        threading.Event().wait(away_seconds)
        fake.set("shift", str(shift))
        back = time.monotonic()
        fake.set("gone", None)
        report.wait(DeviceBack, 2)
        report.wait(Gap)
        report.wait(UtterancePlayed)
        recorder.record(0.5)
        recorder.end()
        ring.close()
        assert speaker.join(Deadline(TIMEOUT_SECONDS))
    backs = {event.device: at - back for at, event in report.of(DeviceBack)}
    return {
        "lost": sorted(event.device for _, event in report.of(DeviceLost)),
        "back": backs,
        "away": back + max(backs.values()) - gone,
        "gone": [heard, gone - began],
        "late": monitor.worst_seconds,
        "heard exactly": sound in fake.heard(),
        "jumps": recorder.jumps(),
        "gaps": [[gap.start_seconds, gap.seconds, gap.reason] for gap in recorder.gaps()],
    }


def _both(seconds: float, spin: bool) -> dict[str, Any]:
    """Record and play for ``seconds``."""
    report = Report()
    opened: dict[str, Any] = {}

    def source() -> Any:
        opened["microphone"] = open_source(CARD, 0.1)
        return opened["microphone"]

    def sink(format: Format) -> Any:
        opened["speaker"] = open_sink(CARD, format, 0.02, 0.1)
        return opened["speaker"]

    recorder = MicrophoneRecorder(report)
    recorder.microphone = Microphone(recorder.frames, source, report)
    ring = RingBuffer(1 << 17)
    speaker = Speaker(ring, sink, report)
    supervisor = Supervisor([recorder.microphone, speaker])
    over = threading.Event()

    def burn() -> None:
        while spin and not over.is_set():
            sum(range(1000))

    sound = counted(round(16000 * seconds))
    most, stuck = 0, set()

    # The ring is full before the start, so that a gap can only come from the card.
    stream_id = ring.begin("one", SPEECH)
    ring.write(stream_id, sound[: 1 << 17])

    def reply() -> None:
        for start in range(1 << 17, len(sound), 6400):
            ring.write(stream_id, sound[start : start + 6400])
        ring.end(stream_id)

    threads = [threading.Thread(target=burn), threading.Thread(target=reply)]
    began = time.monotonic()
    supervisor.start()
    for thread in threads:
        thread.start()
    while not report.of(UtterancePlayed) or len(recorder.sound) < SPEECH.bytes_of(seconds):
        recorder.sound += recorder.frames.get(timeout_seconds=1.0) or b""
        most = max(most, ring.buffered_bytes)
        stuck.update(supervisor.check_heartbeats())
        assert time.monotonic() - began < TIMEOUT_SECONDS, report.events
    took = time.monotonic() - began
    over.set()
    recorder.end()
    ring.close()
    assert speaker.join(Deadline(TIMEOUT_SECONDS))
    for thread in threads:
        thread.join()
    late = sum(event.times for _, event in report.of(Underruns))
    return {
        "took": took,
        "jumps": recorder.jumps(),
        "gaps": [[gap.start_seconds, gap.seconds, gap.reason] for gap in recorder.gaps()],
        "dropped": recorder.frames.dropped_frames,
        "ring most": most,
        "ring holds": 1 << 17,
        "stuck": sorted(stuck),
        "heard": sound,
        "underruns": opened["speaker"].underruns + late,
        "drifts": {which: device.drift.ppm for which, device in opened.items()},
    }


def both(folder: str, seconds: float, spin: bool = False) -> dict[str, Any]:
    done = _both(seconds, spin)
    heard = array.array("h", FakePortAudio(Path(folder)).heard())
    return {**done, "heard": array.array("h", filter(None, heard)).tobytes() == done["heard"]}


def survive(rate: int, until: str) -> dict[str, Any]:
    """Use ``default``, whose server the caller kills and restarts; print one line per step."""
    report = Report()
    recorder = MicrophoneRecorder(report, "default")
    format = Format(rate)
    ring = RingBuffer(1 << 22)
    speaker = Speaker(ring, lambda format: open_sink("default", format, 0.02, 2.0), report)
    supervisor = Supervisor([recorder.microphone, speaker])
    supervisor.start()
    recorder.record(0.5)
    stream_id = ring.begin("endless", format)
    ring.write(stream_id, counted(60 * rate))  # a speaker without audio does not notice a dead card
    report.wait(PlaybackStarted)
    print("at work", flush=True)
    report.wait(DeviceLost, 2)
    print("lost", flush=True)
    ring.clear("the test")
    assert sys.stdin.readline() == "go on\n"
    after = counted(rate // 2, 7)
    stream_id = ring.begin("after", format)
    ring.write(stream_id, after)
    ring.end(stream_id)
    report.wait(DeviceBack, 2)
    print("back", flush=True)
    report.wait(UtterancePlayed)
    began = time.monotonic()
    while bytes.fromhex(until) not in recorder.sound and time.monotonic() - began < TIMEOUT_SECONDS:
        recorder.sound += recorder.frames.get(timeout_seconds=1.0) or b""
    recorder.end()
    ring.close()
    assert speaker.join(Deadline(TIMEOUT_SECONDS))
    # Measured from the last failed attempt, without the downtime of the server.
    lost = max(at for at, _ in report.of(DeviceLost))
    return {
        "said": bytes.fromhex(until) in recorder.sound,
        "back": max(at for at, _ in report.of(DeviceBack)) - lost,
        "sound after": after.hex(),
        "gaps": len(recorder.gaps()),
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
