"""End to end through a virtual card: exact audio, reconnection, and the quality of the conversion."""

from __future__ import annotations

import array
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import TIMEOUT_SECONDS, Process
from support.timing import fastest
from support.vcard import VirtualCard
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from agent.audio.devices.device import Sink, open_sink, open_source
from agent.audio.format import SPEECH, Format
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Event
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.system.threads import Deadline

RATES = (16000, 22050, 24000, 44100, 48000)


def sine(seconds: float, rate: int, hertz: float) -> list[float]:
    return [16000 * math.sin(2 * math.pi * hertz * n / rate) for n in range(round(seconds * rate))]


def tone(seconds: float, rate: int, hertz: float = 1000) -> bytes:
    return array.array("h", map(round, sine(seconds, rate, hertz))).tobytes()


def noise(seconds: float, rate: int) -> bytes:
    return random.Random(5).randbytes(2 * round(seconds * rate)).replace(b"\0", b"\1")


def decibels_over_the_rest(pcm: bytes, rate: int, hertz: float = 1000) -> float:
    """Return the level of a tone of any phase over everything else in dB."""
    samples = array.array("h", pcm)
    samples = samples[: len(samples) // (rate // 1000) * (rate // 1000)]  # about a whole number of periods
    angles = [2 * math.pi * hertz * n / rate for n in range(len(samples))]
    # Least squares fit of a sine and a cosine.
    sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
    ss, cc = sum(s * s for s in sines), sum(c * c for c in cosines)
    sc = sum(s * c for s, c in zip(sines, cosines, strict=True))
    ys = sum(y * s for y, s in zip(samples, sines, strict=True))
    yc = sum(y * c for y, c in zip(samples, cosines, strict=True))
    bottom = ss * cc - sc * sc
    a, b = (ys * cc - yc * sc) / bottom, (yc * ss - ys * sc) / bottom
    ideal = [a * s + b * c for s, c in zip(sines, cosines, strict=True)]
    rest = sum((y - i) ** 2 for y, i in zip(samples, ideal, strict=True))
    return 10 * math.log10(sum(i * i for i in ideal) / rest)


def middle(pcm: bytes, rate: int) -> bytes:
    """Return the audio without its first and last 50 ms."""
    edge = 2 * (rate // 20)
    return pcm[edge:-edge]


def test_a_minute_is_played_exactly(card: VirtualCard) -> None:
    """The clock of the card runs ten times as fast: errors happen between periods, so the duration does not matter."""
    card.add(f'pcm.fast {{ type vcard playback_file "{card.folder}/out.raw" control "{card.folder}/ctl" ppm 9000000 }}')
    sound = noise(60.0, 24000)
    events: list[Event] = []
    sink = ReconnectingSink(lambda format: open_sink("fast", format, 0.02, 1.0), events.append, threading.Event())
    format = Format(24000)
    period = format.bytes_of(0.02)
    for start in range(0, len(sound), period):
        assert sink.write(sound[start : start + period], format, lambda: True)
    sink.drain()
    sink.close()
    # The record has zeros for the idle time after an underrun; the audio has none.
    heard = array.array("h", card.played())
    assert array.array("h", filter(None, heard)).tobytes() == sound
    assert not events


@pytest.mark.parametrize("rate", RATES)
def test_48_khz_stereo_card_plays_every_rate_with_80_db(card: VirtualCard, rate: int) -> None:
    sink = open_sink("speaker48", Format(rate), 0.02, 0.1)
    sink.write(tone(0.6, rate))
    sink.drain()
    sink.close()
    stereo = array.array("h", card.played())
    left = stereo[::2].tobytes().strip(b"\0")
    assert stereo[::2] == stereo[1::2]
    assert decibels_over_the_rest(middle(left[: len(left) // 2 * 2], 48000), 48000) > 80


def test_48_khz_stereo_card_records_speech_with_80_db(card: VirtualCard) -> None:
    speech = array.array("h")
    for sample in array.array("h", tone(1.0, 48000)):
        speech.extend((sample, sample))
    source = open_source("mic48", 0.1)
    source.read()
    card.inject(speech.tobytes(), Format(48000, 2))
    heard = b"".join(source.read() for _ in range(15)).strip(b"\0")
    source.close()
    assert decibels_over_the_rest(middle(heard[: len(heard) // 2 * 2], SPEECH.rate), SPEECH.rate) > 80


def test_playback_continues_after_an_unplugged_card_returns(card: VirtualCard) -> None:
    """Through ALSA itself, where an unplugged card blocks every wait inside PortAudio."""
    sound = array.array("h", [n % 30000 + 1 for n in range(24000 * 6)])
    events: list[tuple[float, Event]] = []
    started, lost, back = threading.Event(), threading.Event(), threading.Event()

    def report(event: Event) -> None:
        events.append((time.monotonic(), event))
        (lost if isinstance(event, DeviceLost) else back).set()

    sink = ReconnectingSink(lambda format: open_sink("speaker", format, 0.02, 0.1), report, threading.Event())
    replugged: list[float] = []

    def play() -> None:
        for start in range(0, len(sound), 480):
            assert sink.write(sound[start : start + 480].tobytes(), Format(24000), lambda: True)
            if start > 24000:
                started.set()
        sink.drain()
        sink.close()

    player = threading.Thread(target=play)
    player.start()
    assert started.wait(TIMEOUT_SECONDS)
    card.fault("unplug")
    assert lost.wait(TIMEOUT_SECONDS)
    threading.Event().wait(2.5)
    card.fault("unplug", on=False)
    replugged.append(time.monotonic())
    assert back.wait(TIMEOUT_SECONDS)
    player.join(TIMEOUT_SECONDS)
    ((_, first), (back_at, second)) = events
    assert isinstance(first, DeviceLost) and isinstance(second, DeviceBack)
    assert back_at - replugged[0] < 10.0
    heard = array.array("h", filter(None, array.array("h", card.played())))
    discontinuities = [n for n in range(1, len(heard)) if heard[n] != heard[n - 1] % 30000 + 1]
    # Only the buffer of the unplugged card was not played; everything else was, once.
    assert len(discontinuities) <= 1
    missing = len(sound) - len(heard)
    assert 0 <= missing <= 24000 * 0.3, missing
    assert heard[0] == sound[0] and heard[-1] == sound[-1]


def test_stopped_card_is_lost_before_the_stall_timeout(card: VirtualCard) -> None:
    """With equal limits the watchdog would restart the daemon for a card that only needs to be reopened."""
    microphone = Microphone(FrameQueue(1.0), lambda: open_source("none", 0.1), print)
    limit = min(microphone.stall_timeout, ReconnectingSink(open_none, print, threading.Event()).stall_timeout)
    assert fastest(lambda: longest_stall_seconds(card), limit - 0.3) < limit - 0.3


def open_none(format: Format) -> Sink:
    return open_sink("none", format, 0.02, 0.1)


def longest_stall_seconds(card: VirtualCard) -> float:
    """Return the longest time without a heartbeat before a stopped card was declared lost."""
    changed = threading.Condition()
    lost: dict[str, float] = {}

    def report(event: Event) -> None:
        with changed:
            if isinstance(event, DeviceLost):
                lost[event.device] = time.monotonic()
            changed.notify_all()

    card.forget()
    ring = RingBuffer(1 << 22)
    microphone = Microphone(FrameQueue(60.0), lambda: open_source("mic", 0.1), report)
    speaker = Speaker(ring, lambda format: open_sink("speaker", format, 0.02, 0.1), report)
    workers = {worker.name: worker for worker in (microphone, speaker)}
    heartbeats_before = {name: worker.heartbeats for name, worker in workers.items()}
    heartbeat_times: dict[str, list[float]] = {name: [] for name in workers}
    deadline = Deadline(TIMEOUT_SECONDS)
    for worker in workers.values():
        worker.start()
    stream_id = ring.begin("long", SPEECH)
    ring.write(stream_id, noise(60.0, SPEECH.rate))
    while len(lost) < 2:
        assert not deadline.is_expired
        for name, worker in workers.items():
            if worker.heartbeats != heartbeats_before[name]:
                heartbeats_before[name] = worker.heartbeats
                heartbeat_times[name].append(time.monotonic())
        if card.played() and heartbeat_times["microphone"]:
            card.fault("hang")
        with changed:
            changed.wait(0.01)
    card.fault("hang", on=False)
    for worker in workers.values():
        worker.abort()
        assert worker.join(deadline)
    return max(at - max(moment for moment in heartbeat_times[name] if moment < at) for name, at in lost.items())


class Transcriber:
    """A transcription service that records all audio and closes the connection after ``eof``."""

    def __init__(self) -> None:
        self.sound = b""
        self.ended = False
        self.changed = threading.Condition()

    def __call__(self, connection: ServerConnection) -> None:
        try:
            for message in connection:
                with self.changed:
                    if isinstance(message, bytes):
                        self.sound += message
                    elif message == "eof":
                        self.ended = True
                    self.changed.notify_all()
                if self.ended:
                    return
        except ConnectionClosed:
            return

    def wait(self, met: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(met, TIMEOUT_SECONDS), f"only {len(self.sound)} bytes were received"


@contextmanager
def transcribing() -> Iterator[tuple[Transcriber, int]]:
    service = Transcriber()
    with serve(service, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service, server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def test_recorded_speech_reaches_the_service_bit_exact(card: VirtualCard, tmp_path: Path) -> None:
    speech = noise(3.0, SPEECH.rate)
    config = tmp_path / "config.yaml"
    with transcribing() as (service, port):
        config.write_text(
            "conversation: {mode: captions}\nmicrophone: {device: mic}\ncontrol: {socket: none}\n"
            f"transcription: {{url: 'ws://127.0.0.1:{port}/'}}\nserver: {{start: false}}\n"
        )
        process = Process("run", "--config", str(config), env={**os.environ, **card.env}, cwd=tmp_path)
        try:
            service.wait(lambda: len(service.sound) >= SPEECH.bytes_of(0.3))
            card.inject(speech, SPEECH)
            service.wait(lambda: speech in service.sound)
            process.signal(signal.SIGTERM)
            assert process.end() == 0, process.errors
        finally:
            process.kill()
        service.wait(lambda: service.ended)  # eof was sent
        assert service.sound.strip(b"\0") == speech
