"""Speaker: plays the ring completely and once, and nothing after a clear."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from typing import Any, cast

import pytest
from support.speaker_harness import BUFFER_SECONDS, PERIOD_SECONDS, TIMEOUT_SECONDS, SpeakerHarness, noise, steady
from support.timing import poll_until
from support.vcard import VirtualCard

from agent.audio.devices.card import CardSink
from agent.audio.devices.device import Sink, open_sink
from agent.audio.devices.file import PacedSink
from agent.audio.devices.portaudio import CardStream, open_card
from agent.audio.echo.reference import EchoReference
from agent.audio.format import Format
from agent.errors import DeviceError
from agent.pipeline.events import (
    DeviceBack,
    DeviceLost,
    PlaybackStarted,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.jitter_buffer import JitterBuffer
from agent.pipeline.playback.ring_buffer import Playout
from agent.pipeline.playback.speaker import SpeakerTiming
from agent.system.threads import Deadline

FORMAT = Format(16000)
FADE_SECONDS = 0.006  # at most this is held back for a fade
NEVER = threading.Event()


class ManualSink:
    """A sink that plays only on demand, so that the played amount does not depend on the speed of the machine."""

    def __init__(self, buffer_seconds: float = 0.1) -> None:
        self.format = FORMAT
        self.underruns = self.accepted_frames = 0
        self.heard = bytearray()
        self._buffer_seconds = buffer_seconds
        self._held = bytearray()
        self._allowed: float = 0  # bytes
        self._changed = threading.Condition()

    def open(self, format: Format) -> ManualSink:
        assert format == FORMAT
        return self

    def play(self, seconds: float) -> None:
        """Play ``seconds`` more; return when they were played."""
        with self._changed:
            wanted = len(self.heard) + FORMAT.bytes_of(seconds)
            self._allowed += FORMAT.bytes_of(seconds)
            self._hear()
            assert self._changed.wait_for(lambda: len(self.heard) >= wanted, TIMEOUT_SECONDS)

    def play_all(self) -> None:
        """Play everything at once from now on."""
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
    def empty_at(self) -> float:
        return time.monotonic() + self.queued_seconds

    @property
    def ready_in_seconds(self) -> float:
        return max(0.0, self.queued_seconds - self._buffer_seconds)

    def drain_nowait(self) -> float:
        rest = self.queued_seconds
        if not rest:
            self.drop()
        return rest

    def drain(self) -> None:
        self.play_all()
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


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.02, 0.123, 0.5])
def test_utterance_is_played_completely_and_reported(seconds: float) -> None:
    sound = noise(FORMAT, seconds)
    with SpeakerHarness(FORMAT) as harness:
        harness.say(sound)
        assert harness.wait_started() == PlaybackStarted("utterance 1")
        end = harness.end()
        assert end == UtterancePlayed("utterance 1", FORMAT.seconds_of(len(sound)))
        assert bytes(harness.heard) == sound, "the end is reported after playback, not before"


def test_sound_is_played_without_events() -> None:
    sound = noise(FORMAT, 0.15)
    with SpeakerHarness(FORMAT) as harness:
        harness.say(sound, playout=Playout(is_sound=True))
        harness.say(sound)
        assert harness.wait_started() == PlaybackStarted("utterance 2")
        harness.end()
        assert bytes(harness.heard) == sound + sound


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_every_sample_of_a_short_utterance_is_played_on_a_card(card: VirtualCard, rate: int) -> None:
    """A card starts only with a full period, and drops its buffer when it is stopped."""
    format = Format(rate)
    sounds = [noise(format, seconds, seed) for seed, seconds in enumerate((0.01, 0.013, 0.02, 0.5))]
    with SpeakerHarness(format, lambda wanted: open_sink("speaker", wanted, PERIOD_SECONDS, 0.1)) as harness:
        for sound in sounds:
            harness.say(sound)
            assert harness.end() == UtterancePlayed(harness.last, format.seconds_of(len(sound)))
    rest = card.played()
    for sound in sounds:
        silence, found, rest = rest.partition(sound)
        assert found and not silence.strip(b"\0")
    assert not rest.strip(b"\0")


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("name", ["speaker", "speaker48"])
def test_long_writes_play_every_sample_with_one_query_of_the_card_each(card: VirtualCard, name: str, rate: int) -> None:
    """Half of the writes and one query per write instead of five cost half of the CPU time (measured)."""
    format = Format(rate)
    queries, writes = [0], [0]

    class CountedStream:
        def __init__(self, stream: CardStream) -> None:
            self._stream = stream

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._stream, attribute)

        def available_at(self) -> tuple[int, float]:
            queries[0] += 1
            return self._stream.available_at()

        def write(self, pcm: bytes, room: int = 0) -> None:
            writes[0] += 1
            self._stream.write(pcm, room)

    def open_stream(*arguments: Any) -> CardStream:
        return cast(CardStream, CountedStream(open_card(*arguments)))

    def open_counted(wanted: Format) -> CardSink:
        return CardSink(name, wanted, PERIOD_SECONDS, 0.1, open_stream)

    with SpeakerHarness(format, open_counted, card_period_seconds=0.045) as harness:
        sound = noise(format, 2.0)
        harness.say(sound)
        assert harness.end() == UtterancePlayed(harness.last, 2.0)
    assert writes[0] < 60 and queries[0] < 3 * writes[0], (writes, queries)
    if name == "speaker":
        assert sound in card.played()


def test_consecutive_utterances_keep_their_formats() -> None:
    with SpeakerHarness(FORMAT) as harness:
        whole = b""
        for rate, channels in ((16000, 1), (24000, 1), (22050, 2)):
            harness.format = Format(rate, channels)
            sound = noise(harness.format, 0.05, rate)
            whole += sound
            harness.say(sound)
        assert [type(harness.end()) for _ in range(3)] == [UtterancePlayed] * 3
        assert bytes(harness.heard) == whole


def test_empty_utterance_is_reported() -> None:
    with SpeakerHarness(FORMAT) as harness:
        harness.say(b"")
        assert harness.end() == UtterancePlayed("utterance 1", 0.0)


def test_failed_utterance_is_played_as_far_as_it_arrived() -> None:
    sound = noise(FORMAT, 0.1)
    with SpeakerHarness(FORMAT) as harness:
        harness.say(sound, "the service fell silent")
        assert harness.end() == UtteranceFailed("utterance 1", "the service fell silent", 0.1)
        assert bytes(harness.heard) == sound


# --- late audio


def test_gap_is_counted_silence_with_fades() -> None:
    sound = steady(FORMAT, 0.3)
    with SpeakerHarness(FORMAT) as harness:
        stream_id = harness.begin()
        started_at = time.monotonic()
        harness.ring.write(stream_id, sound)
        poll_until(lambda: len(harness.heard) > len(sound) + FORMAT.bytes_of(0.1))
        harness.finish(stream_id, sound)
        gone = time.monotonic() - started_at
        end = harness.end()
    assert isinstance(end, UtterancePlayed)
    assert harness.underruns == 1 and 0.1 < harness.silence_seconds < gone
    samples = array("h", harness.heard)
    silent = sum(1 for sample in samples if sample == 0) / FORMAT.rate
    assert abs(silent - harness.silence_seconds) < 0.003
    assert end.seconds == pytest.approx(0.6)
    assert len(samples) / FORMAT.rate == pytest.approx(0.6 + harness.silence_seconds)
    steps = [abs(b - a) for a, b in zip(samples, samples[1:], strict=False)]
    assert max(steps) < 300, "no click at the edges of the gap"


@pytest.mark.parametrize("error", [None, "the service fell silent"])
def test_gap_is_counted_for_an_utterance_that_is_cancelled_or_fails(error: str | None) -> None:
    sound = steady(FORMAT, 0.2)
    with SpeakerHarness(FORMAT) as harness:
        stream_id = harness.begin()
        harness.ring.write(stream_id, sound)
        poll_until(lambda: len(harness.heard) > len(sound) + FORMAT.bytes_of(0.1))
        heard = len(harness.heard)
        harness.ring.write(stream_id, steady(FORMAT, 5.0))
        poll_until(lambda: harness.heard[heard:].strip(b"\0") != b"")
        if error is None:
            harness.ring.clear("hush")
        else:
            harness.ring.end(stream_id, error)
        assert isinstance(harness.end(), UtteranceFailed if error else UtteranceCancelled)
    assert harness.underruns == 1 and harness.silence_seconds > 0.1


def test_no_gap_while_the_card_has_audio() -> None:
    sound = noise(FORMAT, 0.6)
    step = FORMAT.bytes_of(0.05)
    sink = ManualSink(buffer_seconds=10.0)
    with SpeakerHarness(FORMAT, sink.open, jitter_buffer=JitterBuffer(0.0)) as harness:
        stream_id = harness.begin()
        for number in range(12):
            harness.ring.write(stream_id, sound[number * step : (number + 1) * step])
            poll_until(lambda: not harness.ring.unread_bytes)
            if number:
                sink.play(0.05)
            rounds = harness.speaker.heartbeats
            poll_until(lambda: harness.speaker.heartbeats > rounds + 1)  # noqa: B023 - called before the next one
        sink.play_all()
        harness.ring.end(stream_id)
        assert harness.end() == UtterancePlayed("utterance 1", 0.6)
    assert bytes(sink.heard) == sound


def test_late_end_is_no_gap() -> None:
    sound = noise(FORMAT, 0.1)
    with SpeakerHarness(FORMAT) as harness:
        stream_id = harness.begin()
        harness.ring.write(stream_id, sound)
        NEVER.wait(0.5)
        harness.ring.end(stream_id)
        assert harness.end() == UtterancePlayed("utterance 1", 0.1)


def test_complete_utterance_starts_at_once() -> None:
    longer = 2 * TIMEOUT_SECONDS
    with SpeakerHarness(FORMAT, jitter_buffer=JitterBuffer(longer, longer)) as harness:
        harness.say(noise(FORMAT, 0.02))
        harness.end()


def test_punctual_service_is_delayed_only_once() -> None:
    piece, sink = steady(FORMAT, 5.0), ManualSink(buffer_seconds=100.0)
    sink.play_all()
    longer = 2 * TIMEOUT_SECONDS
    buffer = JitterBuffer(0.3, longer)
    with SpeakerHarness(FORMAT, sink.open, jitter_buffer=buffer) as harness:
        for number in range(3):
            stream_id = harness.begin()
            written_at = time.monotonic()
            harness.ring.write(stream_id, piece)
            harness.wait_started()
            assert number or time.monotonic() - written_at > 0.3
            for _ in range(3):
                harness.ring.write(stream_id, piece)
            harness.ring.end(stream_id)
            assert isinstance(harness.end(), UtterancePlayed)
            buffer.initial_seconds = longer  # another initial delay would exceed the timeout


@pytest.mark.parametrize("playout", [Playout(is_sound=True), Playout(starts_stored=True)])
def test_audio_of_no_service_does_not_shorten_the_start_delay_of_a_service(playout: Playout) -> None:
    with SpeakerHarness(FORMAT, jitter_buffer=JitterBuffer(0.5)) as harness:
        harness.say(noise(FORMAT, 0.05), playout=playout)
        if not playout.is_sound:
            assert isinstance(harness.end(), UtterancePlayed)
        stream_id = harness.begin()
        written_at = time.monotonic()
        harness.ring.write(stream_id, steady(FORMAT, 5.0))
        harness.wait_started()
        assert time.monotonic() - written_at > 0.5
        harness.ring.clear("hush")
        assert isinstance(harness.end(), UtteranceCancelled)


def test_stalled_service_costs_no_cpu() -> None:
    with SpeakerHarness(FORMAT) as harness:
        stream_id = harness.begin()
        harness.ring.write(stream_id, b"\x01")
        clock = time.pthread_getcpuclockid(harness.speaker.ident or 0)
        used, started_at = time.clock_gettime(clock), time.monotonic()
        NEVER.wait(0.5)
        used, gone = time.clock_gettime(clock) - used, time.monotonic() - started_at
        harness.ring.end(stream_id)
        assert harness.end() == UtterancePlayed("utterance 1", FORMAT.seconds_of(1))
        assert used < 0.2 * gone


# --- cancellation


def test_clear_stops_playback_at_once() -> None:
    old, new, sink = noise(FORMAT, 3.0, 1), noise(FORMAT, 0.1, 2), ManualSink()
    with SpeakerHarness(FORMAT, sink.open) as harness:
        harness.say(old)
        sink.play(0.3)
        harness.wait_started()
        poll_until(lambda: sink.queued_seconds >= 0.1)
        harness.ring.clear("test")
        end = harness.end()
        assert isinstance(end, UtteranceCancelled) and end.reason == "test"
        assert end.seconds == pytest.approx(0.3, abs=FADE_SECONDS)
        assert sink.queued_seconds == 0.0, "the card has dropped its buffer"
        sink.play_all()
        harness.say(new)
        assert harness.end() == UtterancePlayed("utterance 2", 0.1)
    assert bytes(sink.heard) == old[: FORMAT.bytes_of(0.3)] + new


def test_underrun_of_the_card_begins_another_run_of_the_reference() -> None:
    """The echo of the rest is later than the clocks said before."""
    notes: list[str] = []

    class Reference(EchoReference):
        def note_written(self, pcm: bytes, format: Format, ends_at: float) -> None:
            notes.append("played")

        def finished(self) -> None:
            notes.append("finished")

    class EmptyOnce(ManualSink):
        def write(self, pcm: bytes) -> None:
            self.underruns += len(notes) == 2
            super().write(pcm)

    sink = EmptyOnce()
    sink.play_all()
    with SpeakerHarness(FORMAT, sink.open, reference=Reference()) as harness:
        harness.say(noise(FORMAT, 0.2))
        harness.end()
    assert notes[:4] == ["played", "played", "finished", "played"]
    assert notes.count("finished") == 2, "the other one is the end of the utterance"


@pytest.mark.parametrize("played_seconds", [0.0, 0.01, 0.037, 0.15])
def test_cancelled_utterance_accounts_for_all_audio(played_seconds: float) -> None:
    sink = ManualSink()
    with SpeakerHarness(FORMAT, sink.open) as harness:
        harness.say(noise(FORMAT, 1.0))
        harness.wait_started()
        sink.play(played_seconds)
        harness.ring.clear("test")
        end = harness.end()
    assert isinstance(end, UtteranceCancelled) and end.dropped_seconds > 0
    assert end.seconds + end.dropped_seconds == pytest.approx(1.0, abs=1e-9)
    assert FORMAT.seconds_of(len(sink.heard)) == played_seconds == pytest.approx(end.seconds, abs=FADE_SECONDS)


def test_clear_ends_draining() -> None:
    """The ring is empty then, so the speaker must watch it while it drains."""
    sound = noise(FORMAT, 0.5)
    sink = ManualSink(buffer_seconds=5.0)
    with SpeakerHarness(FORMAT, sink.open) as harness:
        harness.say(sound)
        harness.wait_started()
        poll_until(lambda: not harness.ring.unread_bytes)  # the card has all audio
        sink.play(0.1)
        harness.ring.clear("test")
        assert isinstance(harness.end(), UtteranceCancelled)
        assert bytes(sink.heard) == sound[: FORMAT.bytes_of(0.1)]


def test_the_silence_behind_an_utterance_does_not_count_when_it_is_cancelled(card: VirtualCard) -> None:
    """Silence pushes the last audio out of the card."""
    format = Format(16000)
    with SpeakerHarness(format, lambda wanted: open_sink("speaker", wanted, 0.02, 1.0)) as harness:
        harness.say(noise(format, 0.5))
        harness.wait_started()
        poll_until(lambda: format.seconds_of(len(card.played().strip(b"\0"))) > 0.3)
        harness.ring.clear("test")
        end = harness.end()
    played_seconds = format.seconds_of(len(card.played().strip(b"\0")))
    assert end.seconds == pytest.approx(played_seconds, abs=0.1)


@pytest.mark.parametrize("phase", ["prebuffering", "bridging"])
def test_clear_ends_a_wait_for_audio(phase: str) -> None:
    longer = 2 * TIMEOUT_SECONDS
    buffer = JitterBuffer(longer if phase == "prebuffering" else 0.0, longer)
    timing = SpeakerTiming(heartbeat_seconds=longer)  # no heartbeat ends the wait
    with SpeakerHarness(FORMAT, jitter_buffer=buffer, timing=timing) as harness:
        stream_id = harness.begin()
        harness.ring.write(stream_id, noise(FORMAT, 0.05))
        if phase == "prebuffering":
            poll_until(lambda: harness.ring.buffered_bytes > 0)  # the speaker has started the utterance
        else:
            harness.wait_started()
        NEVER.wait(0.3)
        harness.ring.clear("test")
        assert isinstance(harness.end(), UtteranceCancelled)


def test_abort_ends_the_current_utterance() -> None:
    with SpeakerHarness(FORMAT) as harness:
        harness.say(steady(FORMAT, 2 * TIMEOUT_SECONDS))
        harness.wait_started()
        harness.speaker.abort()  # the rest would play for longer than the timeout of the join


# --- volume


def test_volume_change_has_no_click() -> None:
    sink = ManualSink()
    with SpeakerHarness(FORMAT, sink.open) as harness:
        harness.say(steady(FORMAT, 1.0))
        for volume, muted in ((50, False), (50, True), (80, False)):
            sink.play(0.2)
            harness.speaker.volume, harness.speaker.muted = volume, muted
        sink.play_all()
        harness.end()
    samples = array("h", sink.heard)
    steps = [abs(b - a) for a, b in zip(samples, samples[1:], strict=False)]
    assert {10000, 5000, 0, 8000} <= set(samples)
    assert max(steps) <= 10000 / (PERIOD_SECONDS * FORMAT.rate) + 1
    assert len(samples) == FORMAT.rate


def test_mute_before_the_first_sample_silences_all_samples() -> None:
    sink = ManualSink()
    sink.play_all()

    def permit(utterance: str) -> None:
        harness.speaker.muted = True  # while the utterance waits

    with SpeakerHarness(FORMAT, sink.open, record_start=permit) as harness:
        harness.say(steady(FORMAT, 0.1))
        harness.end()
    assert bytes(sink.heard) == bytes(FORMAT.bytes_of(0.1))


def test_utterance_after_a_ducked_one_is_exact() -> None:
    sink = ManualSink()
    sink.play_all()
    sound = noise(FORMAT, 0.1)
    with SpeakerHarness(FORMAT, sink.open) as harness:
        harness.say(sound)
        harness.end()
        harness.speaker.is_ducked = True
        harness.say(sound)
        harness.end()
    assert bytes(sink.heard) == 2 * sound


# --- cards that sleep


def test_volume_of_one_utterance_replaces_that_of_the_speaker() -> None:
    sink = ManualSink()
    with SpeakerHarness(FORMAT, sink.open, volume=20) as harness:
        sink.play_all()
        harness.say(steady(FORMAT, 0.1), playout=Playout(volume=80))
        harness.end()
        harness.say(steady(FORMAT, 0.1))
        harness.end()
        harness.speaker.muted = True
        harness.say(steady(FORMAT, 0.1), playout=Playout(volume=80))
        harness.end()
    samples = array("h", sink.heard)
    third = len(samples) // 3
    assert [set(samples[start : start + third]) for start in (0, third, 2 * third)] == [{8000}, {2000}, {0}]


def test_gap_between_announcements_delays_the_next_one_only_if_it_waits_for_it() -> None:
    announcement, important = Playout(None, True, True), Playout(None, False, True)
    forever = 3600.0
    for first, second, gap_seconds in (
        (announcement, announcement, 0.3),
        (announcement, important, forever),
        (Playout(), announcement, forever),
    ):
        played_at: list[float] = []

        def sink(format: Format, played_at: list[float] = played_at) -> Sink:
            return PacedSink(format, BUFFER_SECONDS, on_played=lambda _: played_at.append(time.monotonic()))

        with SpeakerHarness(FORMAT, sink, gap_seconds=gap_seconds) as harness:
            harness.say(noise(FORMAT, 0.05), playout=first)
            harness.end()
            ended_at = played_at[-1]
            harness.say(noise(FORMAT, 0.05), playout=second)
            harness.wait_started()
            assert gap_seconds == forever or time.monotonic() - ended_at > 0.29
            harness.end()


def test_sound_does_not_end_the_gap_between_announcements() -> None:
    with SpeakerHarness(FORMAT, gap_seconds=0.5) as harness:
        harness.say(noise(FORMAT, 0.05), playout=Playout(starts_pause=True))
        harness.end()
        ended_at = time.monotonic()
        harness.say(noise(FORMAT, 0.05), playout=Playout(is_sound=True))
        harness.say(noise(FORMAT, 0.05), playout=Playout(waits_for_pause=True))
        harness.wait_started()
        assert time.monotonic() - ended_at > 0.49
        harness.end()


def test_cancel_ends_the_gap() -> None:
    with SpeakerHarness(FORMAT, gap_seconds=3600.0) as harness:
        cancel_in_the_gap(harness)


def cancel_in_the_gap(harness: SpeakerHarness) -> None:
    """Play an announcement, and cancel another one that waits for the end of the gap behind it."""
    harness.say(noise(FORMAT, 0.05), playout=Playout(starts_pause=True))
    harness.end()
    stream_id = harness.say(noise(FORMAT, 0.05), playout=Playout(waits_for_pause=True))
    deadline = Deadline(TIMEOUT_SECONDS)
    while not harness.ring.buffered_bytes:  # until the speaker reads it
        assert not deadline.is_expired
        harness.ring.wait_cleared(stream_id, 0.01)
    harness.ring.clear("hush")
    assert isinstance(harness.end(), UtteranceCancelled)


def test_first_sample_waits_for_its_permission() -> None:
    order: list[str] = []

    def permit(utterance: str) -> Callable[[], None]:
        order.append(f"asked for {utterance}")
        return lambda: order.append("waited")

    with SpeakerHarness(FORMAT, record_start=permit) as harness:
        harness.say(noise(FORMAT, 0.05))
        harness.wait_started()
        assert order == ["asked for utterance 1", "waited"]
        harness.end()


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_permission_is_not_asked_before_the_card_is_open(is_cancelled: bool) -> None:
    asked: list[str] = []
    tried, is_back = threading.Event(), threading.Event()

    def sink(format: Format) -> Sink:
        assert asked == []
        if not is_back.is_set():
            tried.set()
            raise DeviceError("no card", lost=True)
        return PacedSink(format, BUFFER_SECONDS)

    with SpeakerHarness(FORMAT, sink, record_start=lambda utterance: asked.append(utterance)) as harness:
        harness.say(noise(FORMAT, 0.05))
        assert isinstance(harness.event(), DeviceLost)
        assert tried.wait(TIMEOUT_SECONDS)
        if is_cancelled:
            harness.ring.clear("no speaker")
            assert isinstance(harness.end(), UtteranceCancelled)
        else:
            is_back.set()
            assert isinstance(harness.event(), DeviceBack)
            assert isinstance(harness.end(), UtterancePlayed)
    assert asked == ([] if is_cancelled else ["utterance 1"])


def test_permission_is_not_asked_in_the_gap() -> None:
    asked: list[str] = []
    with SpeakerHarness(FORMAT, gap_seconds=3600.0, record_start=lambda utterance: asked.append(utterance)) as harness:
        cancel_in_the_gap(harness)
    assert asked == ["utterance 1"]


def test_permission_overlaps_the_playout_delay() -> None:
    asked = threading.Event()
    with SpeakerHarness(FORMAT, record_start=lambda utterance: asked.set()) as harness:
        stream_id = harness.begin()  # no audio yet: the playout delay has not begun
        assert asked.wait(TIMEOUT_SECONDS)
        harness.finish(stream_id, noise(FORMAT, 0.05))
        assert isinstance(harness.end(), UtterancePlayed)


@pytest.mark.parametrize(("rest_seconds", "wakes"), [(3600.0, 1), (0.0, 2)])
def test_silence_wakes_only_a_rested_card(rest_seconds: float, wakes: int) -> None:
    sound, silence = noise(FORMAT, 0.05), bytes(FORMAT.bytes_of(0.3))
    with SpeakerHarness(FORMAT, wake_seconds=0.3, timing=SpeakerTiming(rest_seconds=rest_seconds)) as harness:
        for _ in range(2):
            harness.say(sound)
            assert harness.end() == UtterancePlayed(harness.last, 0.05)
    assert bytes(harness.heard) == silence + sound + (silence + sound if wakes == 2 else sound)


def test_silence_lets_a_card_start_with_less_than_a_period() -> None:
    """The rest of an utterance that arrives late must not delay its beginning."""
    sound = noise(FORMAT, 0.05)
    with SpeakerHarness(FORMAT, card_period_seconds=0.1) as harness:
        stream_id = harness.ring.begin("utterance", FORMAT)
        harness.ring.write(stream_id, sound)
        assert harness.wait_started() == PlaybackStarted("utterance")
        harness.ring.end(stream_id)
        assert harness.end() == UtterancePlayed("utterance", 0.05)
        silence, found, rest = bytes(harness.heard).partition(sound[: FORMAT.bytes_of(0.04)])
        assert found and len(silence) == FORMAT.bytes_of(0.1 - 0.05 + 0.005) and not silence.strip(b"\0")
        harness.heard.clear()
        harness.say(sound)
        assert harness.end() == UtterancePlayed(harness.last, 0.05)
        assert bytes(harness.heard) == sound, "a complete utterance is padded at its end"
