"""The speaker: what is in the ring is heard whole, nothing of it twice, and nothing of it after a cut."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable

import pytest
from support.room import PERIOD_SECONDS, TIMEOUT_SECONDS, Room, noise, steady
from support.vcard import VirtualCard

from agent.audio.devices.device import open_sink
from agent.audio.format import Format
from agent.pipeline.events import PlaybackStarted, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback import speaker
from agent.system.threads import Deadline

FORMAT = Format(16000)
FADE_SECONDS = 0.006  # so much is held back for a fade
NEVER = threading.Event()


class Led:
    """A card that plays what it is let, and no more: how much that is does not depend on the machine."""

    def __init__(self, buffer_seconds: float = 0.1) -> None:
        self.format = FORMAT
        self.underruns = self.accepted_frames = 0
        self.heard = bytearray()
        self._buffer_seconds = buffer_seconds
        self._held = bytearray()
        self._allowed: float = 0  # bytes
        self._changed = threading.Condition()

    def open(self, format: Format) -> Led:
        assert format == FORMAT
        return self

    def play(self, seconds: float) -> None:
        """Returns when so much more has been heard."""
        with self._changed:
            wanted = len(self.heard) + FORMAT.bytes_of(seconds)
            self._allowed += FORMAT.bytes_of(seconds)
            self._hear()
            assert self._changed.wait_for(lambda: len(self.heard) >= wanted, TIMEOUT_SECONDS)

    def go(self) -> None:
        """From now on everything is heard at once."""
        with self._changed:
            self._allowed = float("inf")
            self._hear()

    def write(self, pcm: bytes) -> None:
        with self._changed:
            self._held += pcm
            self.accepted_frames += len(pcm) // FORMAT.frame_bytes
            self._hear()

    @property
    def queued_seconds(self) -> float:
        with self._changed:
            return FORMAT.seconds_of(len(self._held))

    @property
    def ready_in_seconds(self) -> float:
        return max(0.0, self.queued_seconds - self._buffer_seconds)

    def drain_nowait(self) -> float:
        rest = self.queued_seconds
        if not rest:
            self.drop()
        return rest

    def drain(self) -> None:
        self.go()
        self.drop()

    def drop(self) -> None:
        with self._changed:
            self._held.clear()
            self.accepted_frames = 0

    def change_format(self, format: Format) -> bool:
        return False

    def close(self) -> None:
        self.drop()

    def _hear(self) -> None:
        count = int(min(len(self._held), self._allowed))
        self._allowed -= count
        self.heard += self._held[:count]
        del self._held[:count]
        self._changed.notify_all()


def wait_for(true: Callable[[], bool]) -> None:
    deadline = Deadline(TIMEOUT_SECONDS)
    while not true():
        assert not deadline.is_expired
        NEVER.wait(0.002)


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.02, 0.123, 0.5])
def test_the_whole_utterance_is_heard_and_told(seconds: float) -> None:
    sound = noise(FORMAT, seconds)
    with Room(FORMAT) as room:
        room.say(sound)
        assert room.began() == PlaybackStarted("utterance 1")
        end = room.end()
        assert end == UtterancePlayed("utterance 1", FORMAT.seconds_of(len(sound)))
        assert bytes(room.heard) == sound, "it is told when it has been heard, not before"


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_on_a_card_every_sample_is_heard_too_however_short_the_utterance(card: VirtualCard, rate: int) -> None:
    """A card does not even begin before it has a whole period, and stopping it throws away what it still holds."""
    format = Format(rate)
    sounds = [noise(format, seconds, seed) for seed, seconds in enumerate((0.01, 0.013, 0.02, 0.5))]
    with Room(format, lambda wanted: open_sink("speaker", wanted, PERIOD_SECONDS, 0.1)) as room:
        for sound in sounds:
            room.say(sound)
            assert room.end() == UtterancePlayed(room.last, format.seconds_of(len(sound)))
    rest = card.played()
    for sound in sounds:
        silence, found, rest = rest.partition(sound)
        assert found and not silence.strip(b"\0")
    assert not rest.strip(b"\0")


def test_one_utterance_after_the_other_in_their_own_formats() -> None:
    with Room(FORMAT) as room:
        whole = b""
        for rate, channels in ((16000, 1), (24000, 1), (22050, 2)):
            room.format = Format(rate, channels)
            sound = noise(room.format, 0.05, rate)
            whole += sound
            room.say(sound)
        assert [type(room.end()) for _ in range(3)] == [UtterancePlayed] * 3
        assert bytes(room.heard) == whole


def test_an_utterance_without_a_sound_is_told_too() -> None:
    with Room(FORMAT) as room:
        room.say(b"")
        assert room.end() == UtterancePlayed("utterance 1", 0.0)


def test_what_broke_off_is_heard_as_far_as_it_came() -> None:
    sound = noise(FORMAT, 0.1)
    with Room(FORMAT) as room:
        room.say(sound, "the service fell silent")
        assert room.end() == UtteranceFailed("utterance 1", "the service fell silent", 0.1)
        assert bytes(room.heard) == sound


# --- late sound


def test_a_gap_is_silence_that_is_counted_with_fades_at_both_its_edges() -> None:
    sound = steady(FORMAT, 0.3)
    with Room(FORMAT) as room:
        stream_id = room.begin()
        began = time.monotonic()
        room.ring.write(stream_id, sound)
        wait_for(lambda: len(room.heard) > len(sound) + FORMAT.bytes_of(0.1))
        room.rest(stream_id, sound)
        gone = time.monotonic() - began
        end = room.end()
    assert isinstance(end, UtterancePlayed)
    assert end.underruns == 1 and 0.1 < end.silence_seconds < gone
    samples = array("h", room.heard)
    silent = sum(1 for sample in samples if sample == 0) / FORMAT.rate
    assert abs(silent - end.silence_seconds) < 0.003
    assert end.seconds == pytest.approx(0.6)
    assert len(samples) / FORMAT.rate == pytest.approx(0.6 + end.silence_seconds)
    steps = [abs(b - a) for a, b in zip(samples, samples[1:], strict=False)]
    assert max(steps) < 300, "neither edge of the gap is a click"


def test_sound_that_comes_while_the_card_still_has_some_makes_no_gap() -> None:
    """Silence used to be put in as soon as the ring was empty, although the card had sound for five periods more."""
    sound = noise(FORMAT, 0.6)
    step = FORMAT.bytes_of(0.05)
    led = Led(buffer_seconds=10.0)
    with Room(FORMAT, led.open, prebuffer_seconds=0.0) as room:
        stream_id = room.begin()
        for number in range(12):
            room.ring.write(stream_id, sound[number * step : (number + 1) * step])
            wait_for(lambda: not room.ring.unread_bytes)
            if number:
                led.play(0.05)
            rounds = room.speaker.heartbeats
            wait_for(lambda: room.speaker.heartbeats > rounds + 1)  # noqa: B023 - called before the next one
        led.go()
        room.ring.end(stream_id)
        assert room.end() == UtterancePlayed("utterance 1", 0.6)
    assert bytes(led.heard) == sound


def test_an_end_that_comes_late_is_no_gap() -> None:
    sound = noise(FORMAT, 0.1)
    with Room(FORMAT) as room:
        stream_id = room.begin()
        room.ring.write(stream_id, sound)
        NEVER.wait(0.5)
        room.ring.end(stream_id)
        assert room.end() == UtterancePlayed("utterance 1", 0.1)


def test_a_whole_utterance_is_not_waited_for() -> None:
    longer = 2 * TIMEOUT_SECONDS
    with Room(FORMAT, prebuffer_seconds=longer, prebuffer_most_seconds=longer) as room:
        room.say(noise(FORMAT, 0.02))
        room.end()


def test_a_service_in_time_is_waited_for_only_once() -> None:
    piece, led = steady(FORMAT, 5.0), Led(buffer_seconds=100.0)
    led.go()
    with Room(FORMAT, led.open, prebuffer_seconds=0.3, prebuffer_most_seconds=2 * TIMEOUT_SECONDS) as room:
        for number in range(3):
            stream_id = room.begin()
            began = time.monotonic()
            room.ring.write(stream_id, piece)
            room.began()
            assert number or time.monotonic() - began > 0.3
            for _ in range(3):
                room.ring.write(stream_id, piece)
            room.ring.end(stream_id)
            assert isinstance(room.end(), UtterancePlayed)
            room.speaker._prebuffer._initial = 2 * TIMEOUT_SECONDS  # whoever waited once more would wait for so long


def test_a_service_that_gives_one_byte_and_stops_costs_no_processor() -> None:
    with Room(FORMAT) as room:
        stream_id = room.begin()
        room.ring.write(stream_id, b"\x01")
        clock = time.pthread_getcpuclockid(room.speaker._thread.ident or 0)
        used, began = time.clock_gettime(clock), time.monotonic()
        NEVER.wait(0.5)
        used, gone = time.clock_gettime(clock) - used, time.monotonic() - began
        room.ring.end(stream_id)
        assert room.end() == UtterancePlayed("utterance 1", FORMAT.seconds_of(1))
        assert used < 0.2 * gone


# --- cuts


def test_a_cut_is_silence_at_once_and_nothing_of_the_old_utterance_after_it() -> None:
    old, new, led = noise(FORMAT, 3.0, 1), noise(FORMAT, 0.1, 2), Led()
    with Room(FORMAT, led.open) as room:
        room.say(old)
        led.play(0.3)
        room.began()
        wait_for(lambda: led.queued_seconds >= 0.1)
        room.ring.clear("somebody")
        end = room.end()
        assert isinstance(end, UtteranceCancelled) and end.reason == "somebody"
        assert end.seconds == pytest.approx(0.3, abs=FADE_SECONDS)
        assert led.queued_seconds == 0.0, "the card has forgotten what it held"
        led.go()
        room.say(new)
        assert room.end() == UtterancePlayed("utterance 2", 0.1)
    assert bytes(led.heard) == old[: FORMAT.bytes_of(0.3)] + new


@pytest.mark.parametrize("heard_seconds", [0.0, 0.01, 0.037, 0.15])
def test_of_what_came_all_is_heard_or_told_to_be_dropped(heard_seconds: float) -> None:
    led = Led()
    with Room(FORMAT, led.open) as room:
        room.say(noise(FORMAT, 1.0))
        room.began()
        led.play(heard_seconds)
        room.ring.clear("somebody")
        end = room.end()
    assert isinstance(end, UtteranceCancelled) and end.dropped_seconds > 0
    assert end.seconds + end.dropped_seconds == pytest.approx(1.0, abs=1e-9)
    assert FORMAT.seconds_of(len(led.heard)) == heard_seconds == pytest.approx(end.seconds, abs=FADE_SECONDS)


def test_a_cut_reaches_an_utterance_that_is_only_drained_any_more() -> None:
    """The ring had nothing left of it, so a hush in its last tenth of a second was not heard of."""
    sound = noise(FORMAT, 0.5)
    led = Led(buffer_seconds=5.0)
    with Room(FORMAT, led.open) as room:
        room.say(sound)
        room.began()
        wait_for(lambda: not room.ring.unread_bytes)  # the card has all of it
        led.play(0.1)
        room.ring.clear("somebody")
        assert isinstance(room.end(), UtteranceCancelled)
        assert bytes(led.heard) == sound[: FORMAT.bytes_of(0.1)]


@pytest.mark.parametrize("phase", ["gathering", "bridging"])
def test_a_cut_reaches_an_utterance_that_waits_for_sound(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = 2 * TIMEOUT_SECONDS
    monkeypatch.setattr(speaker, "ROUND_SECONDS", longer)  # it is no round that comes by in time
    with Room(FORMAT, prebuffer_seconds=longer if phase == "gathering" else 0.0, prebuffer_most_seconds=longer) as room:
        stream_id = room.begin()
        room.ring.write(stream_id, noise(FORMAT, 0.05))
        if phase == "gathering":
            wait_for(lambda: room.ring.buffered_bytes > 0)  # the speaker has taken the utterance up
        else:
            room.began()
        NEVER.wait(0.3)
        room.ring.clear("somebody")
        assert isinstance(room.end(), UtteranceCancelled)


def test_abort_ends_it_in_the_midst_of_an_utterance() -> None:
    with Room(FORMAT) as room:
        room.say(steady(FORMAT, 2 * TIMEOUT_SECONDS))
        room.began()
        room.speaker.abort()  # what was begun would be heard for longer than the end is waited for


# --- loudness


def test_the_volume_changes_in_the_midst_of_an_utterance_without_a_click() -> None:
    led = Led()
    with Room(FORMAT, led.open) as room:
        room.say(steady(FORMAT, 1.0))
        for volume, muted in ((50, False), (50, True), (80, False)):
            led.play(0.2)
            room.speaker.volume, room.speaker.muted = volume, muted
        led.go()
        room.end()
    samples = array("h", led.heard)
    steps = [abs(b - a) for a, b in zip(samples, samples[1:], strict=False)]
    assert {10000, 5000, 0, 8000} <= set(samples)
    assert max(steps) <= 10000 / (PERIOD_SECONDS * FORMAT.rate) + 1
    assert len(samples) == FORMAT.rate


# --- cards that sleep


def test_silence_wakes_a_card_that_has_rested_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = noise(FORMAT, 0.05)
    monkeypatch.setattr(speaker, "REST_SECONDS", 3600.0)
    with Room(FORMAT, wake_seconds=0.3) as room:
        for _ in range(2):
            room.say(sound)
            assert room.end() == UtterancePlayed("utterance 1" if _ == 0 else "utterance 2", 0.05)
        rounds = room.speaker.heartbeats
        wait_for(lambda: room.speaker.heartbeats > rounds)  # it has noted when the card began to rest
        monkeypatch.setattr(speaker, "REST_SECONDS", 0.1)
        NEVER.wait(0.2)
        room.say(sound)
        room.end()
    silence = bytes(FORMAT.bytes_of(0.3))
    assert bytes(room.heard) == silence + sound + sound + silence + sound
