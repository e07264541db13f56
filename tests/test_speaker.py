"""The speaker: what is in the ring is heard whole, nothing of it twice, and nothing of it after a cut."""

from __future__ import annotations

import threading
import time
from array import array

import pytest
from tools.room import PERIOD_SECONDS, Card, Room, noise, steady, until
from vcard import VirtualCard

from agent.audio.devices import open_sink
from agent.audio.format import Format
from agent.events import Cancelled, SpeakingBegan, Spoken, Unspoken
from agent.threads import Deadline

FORMAT = Format(16000)
NEVER = threading.Event()


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.02, 0.123, 0.5])
def test_the_whole_utterance_is_heard_and_told(seconds: float) -> None:
    sound = noise(FORMAT, seconds)
    with Room(FORMAT) as room:
        room.say(sound)
        assert room.began() == SpeakingBegan("utterance 1")
        end = room.end()
        assert end == Spoken("utterance 1", FORMAT.seconds_of(len(sound)))
        assert bytes(room.heard) == sound, "it is told when it has been heard, not before"


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_on_a_card_every_sample_is_heard_too_however_short_the_utterance(card: VirtualCard, rate: int) -> None:
    """A card does not even begin before it has a whole period, and stopping it throws away what it still holds."""
    format = Format(rate)
    sounds = [noise(format, seconds, seed) for seed, seconds in enumerate((0.01, 0.013, 0.02, 0.5))]
    with Room(format, lambda wanted: open_sink("speaker", wanted, PERIOD_SECONDS, 0.1)) as room:
        for sound in sounds:
            room.say(sound)
            assert room.end() == Spoken(room.last, format.seconds_of(len(sound)))
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
        assert [type(room.end()) for _ in range(3)] == [Spoken] * 3
        assert bytes(room.heard) == whole


def test_an_utterance_without_a_sound_is_told_too() -> None:
    with Room(FORMAT) as room:
        room.say(b"")
        assert room.end() == Spoken("utterance 1", 0.0)


def test_what_broke_off_is_heard_as_far_as_it_came() -> None:
    sound = noise(FORMAT, 0.1)
    with Room(FORMAT) as room:
        ticket = room.begin()
        room.ring.write(ticket, sound)
        room.ring.end(ticket, error="the service fell silent")
        assert room.end() == Unspoken("utterance 1", "the service fell silent", 0.1)
        assert bytes(room.heard) == sound


# --- late sound


def test_a_gap_is_silence_that_is_counted_with_fades_at_both_its_edges() -> None:
    sound = steady(FORMAT, 0.3)
    with Room(FORMAT) as room:
        ticket = room.begin()
        room.ring.write(ticket, sound)
        room.began()
        NEVER.wait(0.6)
        room.ring.write(ticket, sound)
        room.ring.end(ticket)
        end = room.end()
    assert isinstance(end, Spoken)
    assert end.underruns == 1 and 0.1 < end.silence_seconds < 0.6
    samples = array("h", room.heard)
    silent = sum(1 for sample in samples if sample == 0) / FORMAT.rate
    assert abs(silent - end.silence_seconds) < 0.003
    assert end.seconds == pytest.approx(0.6)
    assert len(samples) / FORMAT.rate == pytest.approx(0.6 + end.silence_seconds)
    steps = [abs(b - a) for a, b in zip(samples, samples[1:], strict=False)]
    assert max(steps) < 300, "neither edge of the gap is a click"


def test_sound_that_comes_while_the_card_still_has_some_makes_no_gap() -> None:
    """Silence used to be put in as soon as the ring was empty, although the card had sound for five periods more."""
    sound = noise(FORMAT, 1.2)
    step = FORMAT.bytes_of(0.1)
    with Room(FORMAT, prebuffer_seconds=0.0) as room:
        ticket = room.begin()
        began = time.monotonic()
        room.ring.write(ticket, sound[: 2 * step])
        for number in range(2, 12):
            NEVER.wait(until(began + 0.1 * number - 0.06))
            room.ring.write(ticket, sound[number * step : (number + 1) * step])
        room.ring.end(ticket)
        assert room.end() == Spoken("utterance 1", 1.2)
    assert bytes(room.heard) == sound


def test_an_end_that_comes_late_is_no_gap() -> None:
    sound = noise(FORMAT, 0.1)
    with Room(FORMAT) as room:
        ticket = room.begin()
        room.ring.write(ticket, sound)
        NEVER.wait(0.5)
        room.ring.end(ticket)
        assert room.end() == Spoken("utterance 1", 0.1)


def test_a_whole_utterance_is_not_waited_for() -> None:
    with Room(FORMAT, prebuffer_seconds=5.0, prebuffer_most_seconds=5.0) as room:
        began = time.monotonic()
        room.say(noise(FORMAT, 0.02))
        room.end()
        assert time.monotonic() - began < 1.0


def test_a_service_in_time_is_waited_for_only_once() -> None:
    with Room(FORMAT, prebuffer_seconds=0.3) as room:
        delays = []
        for _ in range(3):
            ticket = room.begin()
            began = time.monotonic()
            for number in range(8):
                room.ring.write(ticket, noise(FORMAT, 0.15))
                NEVER.wait(until(began + 0.1 * (number + 1)))
            room.ring.end(ticket)
            assert isinstance(room.end(), Spoken)
            delays.append(time.monotonic() - began - 8 * 0.15)
    assert len(room.heard) == 3 * 8 * FORMAT.bytes_of(0.15)
    assert delays[0] > 0.1 and max(delays[1:]) < 0.1, delays


def test_a_service_that_gives_one_byte_and_stops_costs_no_processor() -> None:
    with Room(FORMAT) as room:
        ticket = room.begin()
        room.ring.write(ticket, b"\x01")
        used = time.process_time()
        NEVER.wait(0.5)
        used = time.process_time() - used
        room.ring.end(ticket)
        assert room.end() == Spoken("utterance 1", FORMAT.seconds_of(1))
        assert used < 0.1


# --- cuts


def test_a_cut_is_silence_at_once_and_nothing_of_the_old_utterance_after_it() -> None:
    old, new = noise(FORMAT, 3.0, 1), noise(FORMAT, 0.1, 2)
    with Room(FORMAT) as room:
        room.say(old)
        room.began()
        NEVER.wait(0.3)
        cut = time.monotonic()
        room.ring.clear("somebody")
        end = room.end()
        assert time.monotonic() - cut < 1.5 * PERIOD_SECONDS + 0.1
        assert isinstance(end, Cancelled) and end.by == "somebody"
        until_there = bytes(room.heard)
        assert end.seconds == pytest.approx(FORMAT.seconds_of(len(until_there)), abs=0.02)
        room.say(new)
        assert room.end() == Spoken("utterance 2", 0.1)
    assert old.startswith(until_there) and bytes(room.heard) == until_there + new


@pytest.mark.parametrize("heard_seconds", [0.0, 0.01, 0.037, 0.15])
def test_of_what_came_all_is_heard_or_told_to_be_dropped(heard_seconds: float) -> None:
    with Room(FORMAT) as room:
        room.say(noise(FORMAT, 1.0))
        room.began()
        NEVER.wait(heard_seconds)
        room.ring.clear("somebody")
        end = room.end()
    assert isinstance(end, Cancelled) and end.dropped_seconds > 0
    assert end.seconds + end.dropped_seconds == pytest.approx(1.0, abs=1e-9)
    assert FORMAT.seconds_of(len(room.heard)) == pytest.approx(end.seconds, abs=PERIOD_SECONDS)


def test_a_cut_reaches_an_utterance_that_is_only_drained_any_more() -> None:
    """The ring had nothing left of it, so a hush in its last tenth of a second was not heard of."""
    sound = noise(FORMAT, 0.5)
    with Room(FORMAT, lambda format: Card(format, room.heard, 5.0)) as room:
        room.say(sound)
        room.began()
        deadline = Deadline(20.0)
        while room.ring.held and not deadline.over:
            NEVER.wait(0.002)
        assert room.ring.held == 0, "the card has all of it"
        room.ring.clear("somebody")
        assert isinstance(room.end(), Cancelled)
        assert 0 < len(room.heard) < len(sound) / 2


@pytest.mark.parametrize("phase", ["gathering", "bridging"])
def test_a_cut_reaches_an_utterance_that_waits_for_sound(phase: str) -> None:
    with Room(FORMAT, prebuffer_seconds=3.0 if phase == "gathering" else 0.0) as room:
        ticket = room.begin()
        room.ring.write(ticket, noise(FORMAT, 0.05))
        NEVER.wait(0.3)
        cut = time.monotonic()
        room.ring.clear("somebody")
        assert isinstance(room.end(), Cancelled)
        assert time.monotonic() - cut < 0.2


def test_abort_ends_it_in_the_midst_of_an_utterance() -> None:
    room = Room(FORMAT)
    with room:
        room.say(noise(FORMAT, 10.0))
        room.began()
        room.speaker.abort()
        began = time.monotonic()
    assert time.monotonic() - began < 1.0


# --- loudness


def test_the_volume_changes_in_the_midst_of_an_utterance_without_a_click() -> None:
    with Room(FORMAT) as room:
        room.say(steady(FORMAT, 1.0))
        room.began()
        for volume, muted in ((50, False), (50, True), (80, False)):
            NEVER.wait(0.2)
            room.speaker.volume, room.speaker.muted = volume, muted
        room.end()
    samples = array("h", room.heard)
    steps = [abs(b - a) for a, b in zip(samples, samples[1:], strict=False)]
    assert {10000, 5000, 0, 8000} <= set(samples)
    assert max(steps) <= 10000 / (PERIOD_SECONDS * FORMAT.rate) + 1
    assert len(samples) == FORMAT.rate


# --- cards that sleep


def test_silence_wakes_a_card_that_has_rested_and_only_then() -> None:
    sound = noise(FORMAT, 0.05)
    with Room(FORMAT, wake_seconds=0.3) as room:
        for _ in range(2):
            room.say(sound)
            assert room.end() == Spoken("utterance 1" if _ == 0 else "utterance 2", 0.05)
        NEVER.wait(1.1)
        room.say(sound)
        room.end()
    silence = bytes(FORMAT.bytes_of(0.3))
    assert bytes(room.heard) == silence + sound + sound + silence + sound
