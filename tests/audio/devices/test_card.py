"""Real PyAudio through ALSA on a virtual card: what was played is what was heard, to the first and the last sample."""

from __future__ import annotations

import array
import itertools
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from support.pace import quickest
from support.vcard import VirtualCard

from agent.audio.devices import portaudio as pyaudio_device
from agent.audio.devices.card import CardSink, CardSource, LossMeter
from agent.audio.devices.device import open_sink, open_source
from agent.audio.devices.portaudio import STALL_SECONDS, CardStream
from agent.audio.format import SPEECH, Format
from agent.errors import DeviceError

RATE = 24000


def noise(seconds: float, format: Format, seed: int = 1) -> bytes:
    count = round(seconds * format.rate) * format.channels
    made = random.Random(seed)
    return array.array("h", [made.randint(-20000, 20000) or 1 for _ in range(count)]).tobytes()


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


def heard(card: VirtualCard) -> bytes:
    """What was heard without the silence around it."""
    return card.played().strip(b"\0")


# --- playing


@pytest.mark.parametrize("seconds", [0.01, 0.013, 1.0])
@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100])
def test_every_sample_is_heard_from_the_first_to_the_last(card: VirtualCard, rate: int, seconds: float) -> None:
    """Stopping a PortAudio stream throws away what the card still holds: replies used to lose their last word."""
    format = Format(rate)
    sound = noise(seconds, format)
    with sink("speaker", format) as speaker:
        for period in periods(sound, format):
            speaker.write(period)
        speaker.drain()
        assert sound in card.played()
        assert heard(card) == sound.strip(b"\0")
        assert speaker.card_format == format


def test_one_utterance_after_the_other_is_heard(card: VirtualCard) -> None:
    sounds = [noise(0.05, Format(RATE), seed) for seed in range(5)]
    with sink("default", Format(RATE)) as speaker:
        for sound in sounds:
            speaker.write(sound)
            speaker.drain()
    rest = card.played()
    for sound in sounds:
        silence, found, rest = rest.partition(sound)
        assert found and not silence.strip(b"\0")


def test_the_card_holds_about_what_was_asked_for(card: VirtualCard) -> None:
    format = Format(RATE)

    def play() -> float:
        with sink("speaker", format) as speaker:
            began = time.monotonic()
            for period in periods(noise(1.0, format), format):
                speaker.write(period)
            took = time.monotonic() - began
            speaker.drain()
        return took

    assert 0.8 <= quickest(play, 2.0) <= 2.0


def test_drop_is_silent_at_once_and_leaves_nothing_of_the_old(card: VirtualCard) -> None:
    format = Format(RATE)
    old, new = noise(3.0, format, 1), noise(0.1, format, 2)
    with sink("speaker", format) as speaker:

        def drop() -> float:
            for period in periods(old, format)[:20]:
                speaker.write(period)
            began = time.monotonic()
            speaker.drop()
            return time.monotonic() - began

        assert quickest(drop, 0.3) < 0.3
    card.forget()
    with sink("speaker", format) as speaker:
        drop()
        until = len(card.played())
        speaker.write(new)
        speaker.drain()
    played = card.played()
    assert 0 < until < format.bytes_of(0.5), "of 0.4 s at most what had been written can have been heard"
    assert old.startswith(played[:until].strip(b"\0"))
    assert played[until:].strip(b"\0") == new.strip(b"\0")


def test_a_card_of_48_khz_stereo_plays_every_rate(card: VirtualCard) -> None:
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


def test_stereo_is_played_on_a_mono_card(card: VirtualCard) -> None:
    sound = tone(0.3, 44100, 500)
    stereo = array.array("h")
    for sample in array.array("h", sound):
        stereo.extend((sample, sample))
    with sink("radio", Format(44100, 2)) as speaker:
        speaker.write(stereo.tobytes())
        speaker.drain()
    assert heard(card) == sound.strip(b"\0")


def test_an_underrun_is_counted_and_what_comes_after_it_is_heard(card: VirtualCard) -> None:
    format = Format(RATE)
    first, second = noise(0.2, format, 1), noise(0.2, format, 2)
    with sink("speaker", format) as speaker:
        speaker.write(first)
        threading.Event().wait(0.4)
        speaker.write(second)
        speaker.drain()
        assert speaker.underruns >= 1
    assert first in card.played() and second in card.played()


def test_sound_that_comes_in_time_has_no_underrun(card: VirtualCard) -> None:
    format = Format(RATE)
    with sink("speaker", format, buffer_seconds=4.0) as speaker:  # that is how late a busy machine may be
        for period in periods(noise(6.0, format), format):
            speaker.write(period)
        assert speaker.underruns == 0
        speaker.drop()


def test_a_forced_underrun_is_survived(card: VirtualCard) -> None:
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


def test_what_was_said_arrives_bit_exact(card: VirtualCard) -> None:
    said = noise(1.0, SPEECH)
    with source("mic") as microphone:
        assert microphone.format == SPEECH
        before = microphone.read()
        card.inject(said, SPEECH)
        assert said in before + record(microphone, 1.5)


@pytest.mark.parametrize("frame_seconds", [0.1, 0.25, 1.0])
def test_a_frame_is_as_long_as_was_asked_for_and_comes_in_real_time(card: VirtualCard, frame_seconds: float) -> None:
    opened = time.monotonic()
    with source("default", frame_seconds) as microphone:
        counted = itertools.count(1)

        def read() -> float:
            began = time.monotonic()
            assert len(microphone.read()) == SPEECH.bytes_of(frame_seconds)
            assert time.monotonic() - opened > 0.99 * next(counted) * frame_seconds, "before it can have been recorded"
            return time.monotonic() - began

        read()
        assert quickest(read, 1.5 * frame_seconds + 0.5) < 1.5 * frame_seconds + 0.5


@pytest.mark.parametrize(("name", "format"), [("mic48", Format(48000, 2)), ("radio", Format(44100))])
def test_a_card_of_another_rate_records_speech(card: VirtualCard, name: str, format: Format) -> None:
    said = array.array("h")
    for sample in array.array("h", tone(1.0, format.rate, 1000)):
        said.extend([sample] * format.channels)
    with source(name) as microphone:
        assert microphone.format == format
        card.inject(said.tobytes(), format)
        got = record(microphone, 1.5).strip(b"\0")
    got = got[: len(got) // 2 * 2]
    assert abs(SPEECH.seconds_of(len(got)) - 1.0) < 0.02
    assert abs(hertz(got, SPEECH.rate) - 1000) < 10


def test_what_nobody_reads_in_time_is_counted(card: VirtualCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCARD_XRUNS", "1")
    began = time.monotonic()
    with source("mic") as microphone:
        record(microphone, 0.3)
        threading.Event().wait(1.2)
        record(microphone, 0.5)
        assert 0.6 < microphone.lost_frames / SPEECH.rate < time.monotonic() - began - 0.8 + 0.1


def test_a_clock_that_is_a_little_off_loses_nothing() -> None:
    for ppm in (-2000, 0, 2000):
        meter = LossMeter(16000, tolerance_frames=1600)
        for period in range(1, 36_000):  # an hour
            late = 0.03 if period % 7 == 0 else 0.0
            meter.count(1600, round(late * 16000), period * 0.1 * (1 + ppm * 1e-6) + late)
        assert meter.lost_frames == 0


def test_frames_that_never_came_are_counted_by_the_clock() -> None:
    meter = LossMeter(16000, tolerance_frames=1600)
    for period in range(1, 50):
        meter.count(1600, 0, period * 0.1 + (0.5 if period > 20 else 0.0))
    assert 7500 <= meter.lost_frames <= 8100


class Counter:
    """As much of a stream as is asked how far its card is, which answers at once and is heard ``late`` the first time;
    ``room`` are its answers where they are given."""

    def __init__(self, late: float, *, late_time: int = 1, room: tuple[int, ...] = ()) -> None:
        self.began = time.monotonic()
        self.written = b""
        self._late, self._late_time, self._room = late, late_time, room
        self._asked = 0

    def get_write_available(self) -> int:
        self._asked += 1
        passed = round((time.monotonic() - self.began) * RATE)
        if self._asked == self._late_time:
            threading.Event().wait(self._late)
        return self._room[self._asked - 1] if self._room else passed

    def write(self, pcm: bytes, exception_on_underflow: bool) -> None:
        self.written += pcm

    def card(self) -> CardStream:
        return CardStream(cast(Any, None), cast(Any, self), "a card", True, Format(RATE), 480, 960)


def test_how_far_a_card_is_fits_the_moment_however_late_its_answer_is_heard() -> None:
    """On a busy machine sound was said to be missing that had been heard to the sample: whoever counted it stood still
    between the card's answer and a look at the clock."""
    counter = Counter(0.5)
    frames, moment = counter.card().look()
    assert abs(frames - (moment - counter.began) * RATE) < 0.25 * RATE


def test_a_card_is_not_lost_because_the_one_who_asks_it_stood_still() -> None:
    """Whoever stood still between the card's answer and a look at the clock took the card for the one that did."""
    counter = Counter(STALL_SECONDS + 0.1, late_time=2, room=(0, 0, 480))
    counter.card().write(b"\1\1" * 480)
    assert counter.written == b"\1\1" * 480


# --- faults


def test_a_card_that_is_pulled_out_is_lost_and_comes_back(card: VirtualCard) -> None:
    """PortAudio of Debian 12 hangs for good in a call that waits while a card goes: so no call may wait."""
    format = Format(RATE)
    with sink("speaker", format) as speaker:
        speaker.write(noise(0.2, format))
        card.fault("unplug")
        with pytest.raises(DeviceError, match="speaker (was lost|has stood still)") as caught:
            for period in periods(noise(5.0, format), format):
                speaker.write(period)
        assert caught.value.lost
    with pytest.raises(DeviceError) as caught:
        open_sink("speaker", format, 0.02, 0.1)
    assert caught.value.lost
    card.fault("unplug", on=False)
    sound = noise(0.2, format, 3)
    with sink("speaker", format) as speaker:
        speaker.write(sound)
        speaker.drain()
    assert sound in card.played()


def test_a_microphone_that_is_pulled_out_is_lost(card: VirtualCard) -> None:
    with source("mic") as microphone:
        microphone.read()
        card.fault("unplug")
        with pytest.raises(DeviceError, match="mic (was lost|has stood still)") as caught:
            record(microphone, 5.0)
        assert caught.value.lost


def test_a_microphone_that_is_lost_while_it_is_opened_is_given_back(
    card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the speaker was just being opened it stayed open, and nobody had it to close: it was busy for whoever tried
    it next."""
    opened: list[CardStream] = []

    def lost(self: CardStream) -> None:
        opened.append(self)
        with pyaudio_device._portaudio:  # somebody else opens a card
            raise self._lost(OSError(-9999, "Unanticipated host error"))

    monkeypatch.setattr(CardStream, "start", lost)
    with pytest.raises(DeviceError, match="lost"):
        open_source("mic", 0.1)
    with pytest.raises(DeviceError, match="closed"):
        opened[0].available()
    assert opened[0]._stream is None


@pytest.mark.parametrize("side", ["speaker", "mic"])
def test_a_card_that_stands_still_is_lost_within_seconds(card: VirtualCard, side: str) -> None:
    format = Format(RATE)

    def noticed() -> float:
        with sink("speaker", format) as speaker, source("mic") as microphone:
            speaker.write(noise(0.1, format))
            microphone.read()
            card.fault("hang")
            began = time.monotonic()
            with pytest.raises(DeviceError, match="has stood still for 1.2 s") as caught:
                if side == "mic":
                    record(microphone, 60.0)
                else:
                    speaker.write(noise(60.0, format))
            took = time.monotonic() - began
            assert caught.value.lost
            card.fault("hang", on=False)
        return took

    assert quickest(noticed, 3.0) < STALL_SECONDS + 3.0


def test_a_card_that_comes_later_is_found_while_the_other_side_goes_on(card: VirtualCard) -> None:
    """PortAudio's list is made once for a process: a microphone plugged in later used to be missing until a restart."""
    format = Format(RATE)
    with sink("speaker", format) as speaker:
        speaker.write(noise(0.05, format))
        with pytest.raises(DeviceError):
            open_source("usb:CARD=Device,DEV=0", 0.1)
        card.add(
            "pcm.usb { @args [ CARD DEV ] @args.CARD { type string } @args.DEV { type integer } "
            f'type vcard capture_file "{card.folder}/in.wav" }}'
        )
        said = noise(0.3, SPEECH)
        with source("usb:CARD=Device,DEV=0") as microphone:
            microphone.read()
            card.inject(said, SPEECH)
            assert said in record(microphone, 0.8)
        speaker.drain()


def test_a_busy_card_is_said_to_be_busy_or_unavailable(card: VirtualCard) -> None:
    card.fault("busy")
    with pytest.raises(DeviceError, match="the speaker 'speaker' cannot be opened") as caught:
        open_sink("speaker", Format(RATE), 0.02, 0.1)
    assert caught.value.lost
