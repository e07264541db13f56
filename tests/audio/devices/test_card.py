"""Sound cards through PyAudio and ALSA on a virtual card: exact playback, recording, loss and return."""

from __future__ import annotations

import array
import itertools
import math
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from support.timing import fastest
from support.vcard import VirtualCard

from agent.audio.convert import measure_level
from agent.audio.devices.card import CardSink, CardSource, LossMeter
from agent.audio.devices.device import open_sink, open_source
from agent.audio.devices.portaudio import PORTAUDIO_LOCK, STALL_SECONDS, CardStream
from agent.audio.format import SPEECH, Format
from agent.errors import DeviceError

RATE = 24000


def noise(seconds: float, format: Format, seed: int = 1) -> bytes:
    count = round(seconds * format.rate) * format.channels
    generator = random.Random(seed)
    return array.array("h", [generator.randint(-20000, 20000) or 1 for _ in range(count)]).tobytes()


def tone(seconds: float, rate: int, hertz: float) -> bytes:
    count = round(seconds * rate)
    return array.array("h", [round(16000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(count)]).tobytes()


def hertz(pcm: bytes, rate: int) -> float:
    samples = array.array("h", pcm)
    return sum(1 for a, b in zip(samples, samples[1:], strict=False) if a < 0 <= b) * rate / len(samples)


def periods(pcm: bytes, format: Format) -> list[bytes]:
    step = format.bytes_of(0.02)
    return [pcm[n : n + step] for n in range(0, len(pcm), step)]


@contextmanager
def sink(name: str, format: Format, buffer_seconds: float = 0.1) -> Iterator[CardSink]:
    opened = open_sink(name, format, 0.02, buffer_seconds)
    assert isinstance(opened, CardSink)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def source(name: str, frame_seconds: float = 0.1) -> Iterator[CardSource]:
    opened = open_source(name, frame_seconds)
    assert isinstance(opened, CardSource)
    try:
        yield opened
    finally:
        opened.close()


def audible(card: VirtualCard) -> bytes:
    """The played audio without the silence around it."""
    return card.played().strip(b"\0")


# --- playing


@pytest.mark.parametrize("seconds", [0.01, 0.013, 1.0])
@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100])
def test_every_sample_is_played(card: VirtualCard, rate: int, seconds: float) -> None:
    """Stopping a PortAudio stream discards the buffer of the card, so a drain must push everything out before."""
    format = Format(rate)
    sound = noise(seconds, format)
    with sink("speaker", format) as speaker:
        for period in periods(sound, format):
            speaker.write(period)
        speaker.drain()
        assert sound in card.played()
        assert audible(card) == sound.strip(b"\0")
        assert speaker.card_format == format


def test_consecutive_utterances_are_played(card: VirtualCard) -> None:
    sounds = [noise(0.05, Format(RATE), seed) for seed in range(5)]
    with sink("default", Format(RATE)) as speaker:
        for sound in sounds:
            speaker.write(sound)
            speaker.drain()
    rest = card.played()
    for sound in sounds:
        silence, found, rest = rest.partition(sound)
        assert found and not silence.strip(b"\0")


def test_card_buffer_has_about_the_desired_size(card: VirtualCard) -> None:
    format = Format(RATE)

    def play() -> float:
        with sink("speaker", format) as speaker:
            started_at = time.monotonic()
            for period in periods(noise(1.0, format), format):
                speaker.write(period)
            elapsed = time.monotonic() - started_at
            speaker.drain()
        return elapsed

    assert 0.8 <= fastest(play, 2.0) <= 2.0


def test_drop_stops_at_once_and_discards_the_rest(card: VirtualCard) -> None:
    format = Format(RATE)
    old, new = noise(3.0, format, 1), noise(0.1, format, 2)
    with sink("speaker", format) as speaker:

        def drop() -> float:
            for period in periods(old, format)[:20]:
                speaker.write(period)
            started_at = time.monotonic()
            speaker.drop()
            return time.monotonic() - started_at

        assert fastest(drop, 0.3) < 0.3
    card.forget()
    with sink("speaker", format) as speaker:
        drop()
        until = len(card.played())
        speaker.write(new)
        speaker.drain()
    played = card.played()
    assert 0 < until < format.bytes_of(0.5), "at most the 0.4 s that were written can have been played"
    assert old.startswith(played[:until].strip(b"\0"))
    assert played[until:].strip(b"\0") == new.strip(b"\0")


def test_48_khz_stereo_card_plays_every_rate(card: VirtualCard) -> None:
    for rate in (16000, 22050, 24000, 44100, 48000):
        card.forget()
        sound = tone(0.5, rate, 1000)
        with sink("speaker48", Format(rate)) as speaker:
            assert speaker.card_format == Format(48000, 2)
            speaker.write(sound)
            speaker.drain()
        samples = array.array("h", card.played())
        left, right = samples[0::2], samples[1::2]
        assert left == right
        assert abs(len(left.tobytes().strip(b"\0")) / 2 - 24000) < 50
        assert abs(hertz(left.tobytes().strip(b"\0"), 48000) - 1000) < 10
        if rate == 48000:
            assert left.tobytes().strip(b"\0") == sound.strip(b"\0"), "only the channels had to change"


@pytest.mark.parametrize(
    ("rates", "channels", "opened"),
    [
        ("48000", "4", Format(48000, 4)),
        ("48000", "6 8", Format(48000, 6)),
        ("8000", "1 2", Format(8000, 1)),
        ("32000", "2", Format(32000, 2)),
        ("96000", "8", Format(96000, 8)),
        ("11025 37800", "3", Format(37800, 3)),
    ],
)
def test_card_of_unusual_formats_plays_on_all_channels(
    card: VirtualCard, rates: str, channels: str, opened: Format
) -> None:
    add_unusual_card(card, rates, channels)
    with sink("unusual", Format(24000)) as speaker:
        assert speaker.card_format == opened
        speaker.write(tone(0.5, 24000, 500))
        speaker.drain()
    samples = array.array("h", card.played())
    first = samples[:: opened.channels]
    assert all(samples[each :: opened.channels] == first for each in range(opened.channels))
    heard = first.tobytes().strip(b"\0")
    assert abs(len(heard) / 2 / opened.rate - 0.5) < 0.01
    assert abs(hertz(heard[: len(heard) // 2 * 2], opened.rate) - 500) < 10


def add_unusual_card(card: VirtualCard, rates: str, channels: str) -> None:
    card.add(
        f'pcm.unusual {{ type vcard playback_file "{card.folder}/out.raw" capture_file "{card.folder}/in.wav" '
        f"rates [ {rates} ] channels [ {channels} ] }}"
    )


def test_stereo_keeps_its_sides_on_a_card_of_four_channels(card: VirtualCard) -> None:
    add_unusual_card(card, "48000", "4")
    stereo = noise(0.3, Format(48000, 2))
    with sink("unusual", Format(48000, 2)) as speaker:
        speaker.write(stereo)
        speaker.drain()
    samples = array.array("h", audible(card))
    assert samples[0::4] == samples[2::4] == array.array("h", stereo)[0::2]
    assert samples[1::4] == samples[3::4] == array.array("h", stereo)[1::2]


def test_mono_card_plays_stereo(card: VirtualCard) -> None:
    sound = tone(0.3, 44100, 500)
    stereo = array.array("h")
    for sample in array.array("h", sound):
        stereo.extend((sample, sample))
    with sink("radio", Format(44100, 2)) as speaker:
        speaker.write(stereo.tobytes())
        speaker.drain()
    assert audible(card) == sound.strip(b"\0")


def test_underrun_is_counted_and_playback_continues(card: VirtualCard) -> None:
    format = Format(RATE)
    first, second = noise(0.2, format, 1), noise(0.2, format, 2)
    with sink("speaker", format) as speaker:
        speaker.write(first)
        threading.Event().wait(0.4)
        speaker.write(second)
        speaker.drain()
        assert speaker.underruns >= 1
    assert first in card.played() and second in card.played()


def test_punctual_audio_has_no_underrun(card: VirtualCard) -> None:
    format = Format(RATE)
    with sink("speaker", format, buffer_seconds=4.0) as speaker:  # a busy machine may be as late as that
        for period in periods(noise(6.0, format), format):
            speaker.write(period)
        assert speaker.underruns == 0
        speaker.drop()


def test_playback_continues_after_a_forced_underrun(card: VirtualCard) -> None:
    format = Format(RATE)
    with sink("speaker", format) as speaker:
        sound = periods(noise(0.6, format), format)
        for period in sound[:15]:
            speaker.write(period)
        card.fault("xrun")
        for period in sound[15:]:
            speaker.write(period)
        speaker.drain()
    assert not (card.folder / "ctl.xrun").exists(), "there was one"
    assert sound[-1] in card.played()


# --- recording


def record(microphone: CardSource, seconds: float) -> bytes:
    count = round(seconds / 0.1)
    return b"".join(microphone.read() for _ in range(count))


def test_recording_is_bit_exact(card: VirtualCard) -> None:
    speech = noise(1.0, SPEECH)
    with source("mic") as microphone:
        assert microphone.format == SPEECH
        before = microphone.read()
        card.inject(speech, SPEECH)
        assert speech in before + record(microphone, 1.5)


@pytest.mark.parametrize("frame_seconds", [0.1, 0.25, 1.0])
def test_frames_have_the_desired_length_and_arrive_in_real_time(card: VirtualCard, frame_seconds: float) -> None:
    opened = time.monotonic()
    with source("default", frame_seconds) as microphone:
        counted = itertools.count(1)

        def read() -> float:
            started_at = time.monotonic()
            assert len(microphone.read()) == SPEECH.bytes_of(frame_seconds)
            assert time.monotonic() - opened > 0.99 * next(counted) * frame_seconds, (
                "earlier than it can have been recorded"
            )
            return time.monotonic() - started_at

        read()
        assert fastest(read, 1.5 * frame_seconds + 0.5) < 1.5 * frame_seconds + 0.5


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("mic48", Format(48000, 2)),
        ("radio", Format(44100)),
        ("unusual", Format(16000, 4)),
        ("unusual", Format(48000, 6)),
        ("unusual", Format(8000, 1)),
        ("unusual", Format(32000, 2)),
        ("unusual", Format(96000, 8)),
    ],
)
def test_card_of_another_format_records_speech(card: VirtualCard, name: str, format: Format) -> None:
    add_unusual_card(card, str(format.rate), str(format.channels))
    speech = array.array("h")
    for sample in array.array("h", tone(1.0, format.rate, 1000)):
        speech.extend([sample] * format.channels)
    with source(name) as microphone:
        assert microphone.format == format
        card.inject(speech.tobytes(), format)
        recorded = record(microphone, 1.5).strip(b"\0")
    recorded = recorded[: len(recorded) // 2 * 2]
    assert abs(SPEECH.seconds_of(len(recorded)) - 1.0) < 0.02
    assert abs(hertz(recorded, SPEECH.rate) - 1000) < 10


@pytest.mark.parametrize("name", ["unusual", "plugged"])
@pytest.mark.parametrize("channel", [1, 2, 6])
def test_one_channel_of_a_microphone_array_is_heard_at_its_own_level(
    card: VirtualCard, name: str, channel: int
) -> None:
    format = Format(48000, 6)
    add_unusual_card(card, "48000", "6")
    card.add("pcm.plugged { type plug slave.pcm unusual }")
    levels = (4000, 8000, 100, 200, 300, 16000)
    speech = array.array("h")
    for sample in array.array("h", tone(1.0, format.rate, 1000)):
        speech.extend(sample * level // 32768 for level in levels)
    microphone = open_source(name, 0.1, channel=channel)
    card.inject(speech.tobytes(), format)
    recorded = b"".join(microphone.read() for _ in range(15)).strip(b"\0")
    microphone.close()
    middle = recorded[SPEECH.bytes_of(0.3) : SPEECH.bytes_of(0.7)]  # without the transients of ALSA's resampler
    expected = measure_level(tone(1.0, SPEECH.rate, 1000))[0] * levels[channel - 1] / 32768
    assert measure_level(middle)[0] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("gain_db", "factor"), [(-6.0, 0.5), (0.0, 1.0), (20.0, 10.0), (40.0, 100.0)])
def test_gain_changes_the_level_of_the_microphone(card: VirtualCard, gain_db: float, factor: float) -> None:
    quiet = array.array("h", [sample // 200 for sample in array.array("h", tone(1.0, SPEECH.rate, 1000))]).tobytes()
    microphone = open_source("mic", 0.1, gain_db=gain_db)
    card.inject(quiet, SPEECH)
    recorded = b"".join(microphone.read() for _ in range(15))
    microphone.close()
    assert measure_level(recorded)[1] == pytest.approx(measure_level(quiet)[1] * factor, rel=0.05)


@pytest.mark.parametrize(("channels", "channel", "opened"), [("2 8", 5, 8), ("1 4", 2, 4), ("1 2 6 8", 3, 6)])
def test_a_card_is_opened_with_enough_channels_for_the_chosen_one(
    card: VirtualCard, channels: str, channel: int, opened: int
) -> None:
    add_unusual_card(card, "16000 48000", channels)
    microphone = CardSource("unusual", 0.1, channel)
    microphone.close()
    assert microphone.format == Format(16000, opened)


@pytest.mark.parametrize(("channels", "channel"), [("1", 2), ("4", 5), ("6", 8)])
def test_missing_channel_is_named(card: VirtualCard, channels: str, channel: int) -> None:
    add_unusual_card(card, "48000", channels)
    with pytest.raises(DeviceError, match=f"no channel {channel}: it has {channels}") as caught:
        open_source("unusual", 0.1, channel=channel)
    assert not caught.value.lost and "microphone.channel" in str(caught.value)


def test_overrun_is_counted_as_lost_frames(card: VirtualCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCARD_XRUNS", "1")
    started_at = time.monotonic()
    with source("mic") as microphone:
        record(microphone, 0.3)
        threading.Event().wait(1.2)
        record(microphone, 0.5)
        assert 0.6 < microphone.lost_samples / SPEECH.rate < time.monotonic() - started_at - 0.8 + 0.1


def test_clock_drift_is_no_loss() -> None:
    for ppm in (-2000, 0, 2000):
        meter = LossMeter(16000, tolerance_frames=1600)
        for period in range(1, 36_000):  # an hour
            late = 0.03 if period % 7 == 0 else 0.0
            meter.count(1600, round(late * 16000), period * 0.1 * (1 + ppm * 1e-6) + late)
        assert meter.lost_frames == 0


def test_missing_frames_are_counted_by_the_clock() -> None:
    meter = LossMeter(16000, tolerance_frames=1600)
    for period in range(1, 50):
        meter.count(1600, 0, period * 0.1 + (0.5 if period > 20 else 0.0))
    assert 7500 <= meter.lost_frames <= 8100


class Counter:
    """The queries of a stream: answer number ``late_time`` is ``late`` seconds late; ``room``: fixed answers."""

    def __init__(self, late: float, *, late_time: int = 1, room: tuple[int, ...] = ()) -> None:
        self.started_at = time.monotonic()
        self.written = b""
        self._late, self._late_time, self._room = late, late_time, room
        self._asked = 0

    def get_write_available(self) -> int:
        self._asked += 1
        passed = round((time.monotonic() - self.started_at) * RATE)
        if self._asked == self._late_time:
            threading.Event().wait(self._late)
        return self._room[self._asked - 1] if self._room else passed

    def write(self, pcm: bytes, exception_on_underflow: bool) -> None:
        self.written += pcm

    def card(self) -> CardStream:
        return CardStream(cast(Any, None), cast(Any, self), "a card", True, Format(RATE), 480, 960)


def test_available_at_repeats_a_slow_query() -> None:
    """The thread may be suspended between the answer of the card and that of the clock."""
    counter = Counter(0.5)
    frames, moment = counter.card().available_at()
    assert abs(frames - (moment - counter.started_at) * RATE) < 0.25 * RATE


def test_suspended_thread_does_not_count_as_a_stopped_card() -> None:
    """The thread may be suspended before it reads the clock; the card has made progress by its next answer."""
    counter = Counter(STALL_SECONDS + 0.1, late_time=2, room=(0, 0, 480))
    counter.card().write(b"\1\1" * 480)
    assert counter.written == b"\1\1" * 480


# --- faults


def open_cards() -> int:
    """Return how many virtual cards this process holds: each has one timer."""
    own = Path("/proc/self/fd")
    links = [os.readlink(own / name) for name in os.listdir(own) if os.path.lexists(own / name)]
    return links.count("anon_inode:[timerfd]")


def test_unplugged_speaker_is_lost_and_can_be_reopened(card: VirtualCard) -> None:
    """PortAudio 19.6 never returns from a call that waits while a card is unplugged, so no call waits."""
    format = Format(RATE)
    with sink("speaker", format) as speaker:
        speaker.write(noise(0.2, format))
        card.fault("unplug")
        with pytest.raises(DeviceError, match="speaker (was lost|made no progress)") as caught:
            for period in periods(noise(5.0, format), format):
                speaker.write(period)
        assert caught.value.lost
        assert open_cards() == 0  # PortAudio leaves a lost card open
    with pytest.raises(DeviceError) as caught:
        open_sink("speaker", format, 0.02, 0.1)
    assert caught.value.lost
    card.fault("unplug", on=False)
    sound = noise(0.2, format, 3)
    with sink("speaker", format) as speaker:
        speaker.write(sound)
        speaker.drain()
    assert sound in card.played()


def test_unplugged_microphone_is_lost(card: VirtualCard) -> None:
    with source("mic") as microphone:
        microphone.read()
        card.fault("unplug")
        with pytest.raises(DeviceError, match="mic (was lost|made no progress)") as caught:
            record(microphone, 5.0)
        assert caught.value.lost
        assert open_cards() == 0


def test_microphone_that_is_lost_while_opening_is_closed(card: VirtualCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread opens a card, the failed stream cannot be closed at once; it must not stay open and busy."""
    opened: list[CardStream] = []

    def lost(self: CardStream) -> None:
        opened.append(self)
        with PORTAUDIO_LOCK:  # as while another thread opens a card
            raise self.fail(OSError(-9999, "Unanticipated host error"))

    monkeypatch.setattr(CardStream, "start", lost)
    with pytest.raises(DeviceError, match="lost"):
        open_source("mic", 0.1)
    with pytest.raises(DeviceError, match="closed"):
        opened[0].available()
    assert not opened[0].is_open


@pytest.mark.parametrize("side", ["speaker", "mic"])
def test_stopped_card_is_lost_within_seconds(card: VirtualCard, side: str) -> None:
    format = Format(RATE)

    def noticed() -> float:
        with sink("speaker", format) as speaker, source("mic") as microphone:
            speaker.write(noise(0.1, format))
            microphone.read()
            card.fault("hang")
            started_at = time.monotonic()
            with pytest.raises(DeviceError, match="made no progress for 1.2 s") as caught:
                if side == "mic":
                    record(microphone, 60.0)
                else:
                    speaker.write(bytes(format.bytes_of(60.0)))
            elapsed = time.monotonic() - started_at
            assert caught.value.lost
            card.fault("hang", on=False)
        return elapsed

    limit = STALL_SECONDS + 3.0
    assert fastest(noticed, limit) < limit


def test_card_plugged_in_later_is_found_while_the_other_direction_is_open(card: VirtualCard) -> None:
    """PortAudio keeps its list of devices while any stream is open."""
    format = Format(RATE)
    with sink("speaker", format) as speaker:
        speaker.write(noise(0.05, format))
        with pytest.raises(DeviceError):
            open_source("usb:CARD=Device,DEV=0", 0.1)
        card.add(
            "pcm.usb { @args [ CARD DEV ] @args.CARD { type string } @args.DEV { type integer } "
            f'type vcard capture_file "{card.folder}/in.wav" }}'
        )
        speech = noise(0.3, SPEECH)
        with source("usb:CARD=Device,DEV=0") as microphone:
            microphone.read()
            card.inject(speech, SPEECH)
            assert speech in record(microphone, 0.8)
        speaker.drain()


def test_busy_card_raises_an_error(card: VirtualCard) -> None:
    card.fault("busy")
    with pytest.raises(DeviceError, match="the speaker 'speaker' cannot be opened") as caught:
        open_sink("speaker", Format(RATE), 0.02, 0.1)
    assert caught.value.lost
