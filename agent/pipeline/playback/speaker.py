"""The speaker thread: plays the audio of the ring buffer on the sink and reports how each utterance ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.audio.devices.device import Sink, WaitPolicy, wait_for_device
from agent.audio.format import Format
from agent.pipeline.events import (
    Event,
    PlaybackStarted,
    Underruns,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.fader import FADE_SECONDS, Fader
from agent.pipeline.playback.jitter_buffer import JitterBuffer
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink
from agent.pipeline.playback.ring_buffer import Playout, RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.stage import Stage
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

if TYPE_CHECKING:  # only with an echo canceller
    from agent.audio.echo.reference import EchoReference

DUCKED_SHARE = 0.25
"""Share of the volume while the utterance is ducked: 12 dB less."""


class SpeakerTiming(NamedTuple):
    """Timing of the speaker. Immutable; all values in seconds.

    ``heartbeat_seconds``: longest wait without a heartbeat. ``write_timeout_seconds``: after this time without room in
    the card, the speaker writes anyway, because the error of the write describes the problem.
    ``drain_timeout_seconds``: if draining takes this much longer than the duration of the queued audio, the speaker
    calls the blocking ``drain`` for the same reason. ``rest_seconds``: a card that was silent for longer may have
    entered a power-saving state. ``thread_jitter_seconds``: jitter of a service that sends in real time, and of the
    threads between its socket and the card. ``record_lead_seconds``: how long before the end of the gap the start of
    the utterance is recorded.
    """

    heartbeat_seconds: float = 1.0
    write_timeout_seconds: float = 0.5
    drain_timeout_seconds: float = 3.0
    rest_seconds: float = 1.0
    thread_jitter_seconds: float = 0.02
    record_lead_seconds: float = 0.25


class Speaker(Stage):
    """Plays the utterances of the ring buffer in order and reports the end of each.

    The thread opens, writes and closes the sink. ``stop``, ``abort``, ``volume`` (percent), ``muted``, ``is_ducked``
    (quieter, because the user may speak) and ``latest`` are thread-safe. A change of the volume becomes a ramp over the
    next write. The synthesizer closes the ring at the end of its own input, and the thread ends when everything in the
    closed ring was played. ``abort`` ends the thread after the current write.

    An utterance starts at the time that the jitter buffer returns, or when it is complete. If the network is late, the
    speaker inserts silence only when the card would otherwise underrun, and fades the audio around the gap.

    The first sample of an utterance waits until its start is recorded (``record_start``), and that of an announcement
    also for the end of the gap after the last one.

    ``RingBuffer.clear`` ends every wait. The speaker then drops the buffer of the card without a fade: buffered audio
    cannot be changed, and playing it would take longer than a cancellation may take.

    Args:
        ring: Source of the audio.
        open_sink: Opens the card for a format; raises ``DeviceError``.
        report: Receives the events, in the speaker thread.
        period_seconds: Duration of one write of inserted silence, and the shortest duration of one write of speech.
        card_period_seconds: Period of the card, 0.0 for other devices. A write of speech has nearly this length: fewer
            writes cost less CPU time, and a longer write would wait inside the sink. The card starts to play when it
            has a full period, so silence is written first if an utterance has less audio at its start.
        jitter_buffer: Chooses the start of each utterance.
        wake_seconds: Silence before an utterance if the card has rested, for cards that mute their first sound.
        volume: Initial volume in percent.
        gap_seconds: Silence between two announcements.
        record_start: Called with the id of an utterance when the card is open, near the end of the gap and before the
            playout delay. If it returns a function, the speaker calls this function before the first sample; the
            function may block for a short time.
        wait_policy: Decides whether to wait for a card that has never been open.
        probe: Opens and closes the card, to detect its presence while the ring is empty.
        reference: Receives the audio that the card plays, for the echo canceller.
        timing: Timing of the thread.
    """

    def __init__(
        self,
        ring: RingBuffer,
        open_sink: Callable[[Format], Sink],
        report: Callable[[Event], None],
        *,
        period_seconds: float = 0.02,
        card_period_seconds: float = 0.0,
        jitter_buffer: JitterBuffer | None = None,
        wake_seconds: float = 0.0,
        volume: int = 100,
        gap_seconds: float = 0.0,
        record_start: Callable[[str], Callable[[], None] | None] = lambda utterance: None,
        wait_policy: WaitPolicy = wait_for_device,
        probe: Callable[[], None] | None = None,
        reference: EchoReference | None = None,
        timing: SpeakerTiming | None = None,
    ) -> None:
        self._aborted = threading.Event()
        self._sink = ReconnectingSink(open_sink, report, self._aborted, wait_policy=wait_policy, probe=probe)
        super().__init__("speaker", report)
        self.volume, self.muted = volume, False
        self.is_ducked = False
        self.latest: tuple[float, bytes] = (0.0, b"")  # time of the last write and its audio; for level meters
        self._ring = ring
        self._period_seconds, self._wake_seconds = period_seconds, wake_seconds
        self._card_period_seconds = card_period_seconds
        # 2 % less than a period, because the resampler may return a few frames more.
        self._write_seconds = max(period_seconds, 0.98 * card_period_seconds)
        self._jitter_buffer = jitter_buffer or JitterBuffer()
        self._timing = timing or SpeakerTiming()
        self._reference = reference
        self._silent_since: float | None = None
        self._gap_seconds, self._record_start = gap_seconds, record_start
        self._gap = Deadline(0.0)

    @property
    def card_underruns(self) -> int:
        """Underruns of the card until the end of the last utterance. Thread-safe."""
        return self._sink.logged_underruns

    @property
    def stall_timeout(self) -> float:  # type: ignore[override]
        """The time in seconds that the current call may take before it counts as stuck."""
        return self._sink.stall_timeout

    def stop(self) -> None:
        """Do nothing: the end of the stream arrives through the ring."""

    def abort(self) -> None:
        """Drop all audio and end the thread after the current write."""
        self._aborted.set()
        self._ring.close()
        self._ring.clear("abort")

    def run(self) -> None:
        """Play until the ring is closed and empty."""
        try:
            while not self._aborted.is_set():
                self.heartbeat()
                self._sink.check_presence()
                item = self._ring.read(1, self._timing.heartbeat_seconds)
                if isinstance(item, RingClosed):
                    return
                if isinstance(item, UtteranceStart):
                    self._play(item)
        finally:
            self._sink.close()

    # --- one utterance

    def _play(self, start: UtteranceStart) -> None:
        """Play one utterance to its end or its cancellation."""
        playback = _Playback(start)
        piece_bytes = playback.format.bytes_of(self._write_seconds)
        self._jitter_buffer.begin()
        self.is_ducked = False
        # ``record_start`` stores that the utterance starts: an utterance without this mark is spoken after a
        # restart. So the card is opened first. The disk write overlaps the end of the gap and the playout delay.
        self._wait_for_gap(playback, self._timing.record_lead_seconds)
        is_open = self._sink.ensure_open(playback.format, lambda: self._is_wanted(playback.stream_id))
        wait_for_record = None
        if is_open and not start.playout.is_sound:
            wait_for_record = self._record_start(start.utterance)
        self._prebuffer(playback)
        self._wait_for_gap(playback)
        if wait_for_record is not None:
            wait_for_record()
        self._write_silence(playback, max(self._wake_silence_seconds(), self._missing_seconds(playback)))
        while not self._aborted.is_set():
            self.heartbeat()
            self._observe_arrivals(playback)
            spare = self._spare_seconds()
            audio = self._ring.read_audio(piece_bytes, min(spare, self._timing.heartbeat_seconds))
            if audio is None:
                if not spare:
                    self._bridge_gap(playback)
                continue
            if not audio and self._ring.is_fully_read:
                self._write(playback, playback.fader.finish())
                self._drain(playback)
            item = audio or self._ring.read(piece_bytes, 0.0)
            if isinstance(item, bytes):
                if not self._write(playback, playback.fader.feed(item, self._percent(playback.playout))):
                    playback.refused_bytes += len(item)
                    continue
                if not playback.played_bytes:
                    self._report(playback, PlaybackStarted(playback.utterance))
                playback.played_bytes += len(item)
                self.latest = (time.monotonic(), item)
            elif isinstance(item, UtteranceEnd):
                self._finish(playback, item)
                return
            elif isinstance(item, RingClosed):
                return

    @property
    def _reserve_seconds(self) -> float:
        # The card needs its audio half a period before it underruns (see _spare_seconds).
        return 0.5 * self._period_seconds + self._timing.thread_jitter_seconds

    def _percent(self, playout: Playout) -> int:
        percent = 0 if self.muted else self.volume if playout.volume is None else playout.volume
        return round(percent * DUCKED_SHARE) if self.is_ducked else percent

    def _observe_arrivals(self, playback: _Playback) -> None:
        for at, nbytes in self._ring.arrivals():
            self._jitter_buffer.add(at, playback.format.seconds_of(nbytes))

    def _prebuffer(self, playback: _Playback) -> None:
        """Wait until the jitter buffer lets playback start."""
        while not self._aborted.is_set() and (wait := self._buffering_seconds(playback)) > 0:
            self.heartbeat()
            self._ring.wait_readable(self._ring.buffered_bytes + 1, min(wait, self._timing.heartbeat_seconds))

    def _buffering_seconds(self, playback: _Playback) -> float:
        """Return the longest wait for more audio, in seconds; 0.0 if playback can start or resume now."""
        self._observe_arrivals(playback)
        ring = self._ring
        if ring.is_complete or ring.is_full or not ring.is_active(playback.stream_id):
            return 0.0
        start_at = self._jitter_buffer.start_at(playback.seconds, self._reserve_seconds)
        if start_at is None or ring.buffered_bytes < playback.format.frame_bytes:
            return self._timing.heartbeat_seconds
        return max(0.0, start_at - time.monotonic())

    def _wait_for_gap(self, playback: _Playback, lead_seconds: float = 0.0) -> None:
        """Wait until the gap after the last announcement ends, or until ``lead_seconds`` before its end."""
        while playback.playout.waits_for_pause and (wait := (self._gap.remaining() or 0.0) - lead_seconds) > 0:
            if self._aborted.is_set():
                return
            self.heartbeat()
            if self._ring.wait_cleared(playback.stream_id, min(wait, self._timing.heartbeat_seconds)):
                return

    def _wake_silence_seconds(self) -> float:
        is_awake = self._silent_since is not None and time.monotonic() - self._silent_since <= self._timing.rest_seconds
        return 0.0 if is_awake else self._wake_seconds

    def _missing_seconds(self, playback: _Playback) -> float:
        """Return how many more seconds of audio the card needs to start; 0.0 for a complete utterance.

        The drain pads a complete utterance with silence, so the card starts in any case.
        """
        if self._ring.is_complete or not self._ring.is_active(playback.stream_id):
            return 0.0
        seconds = playback.format.seconds_of(self._ring.buffered_bytes) - FADE_SECONDS
        return max(0.0, self._card_period_seconds - seconds)

    def _bridge_gap(self, playback: _Playback) -> None:
        """Keep the card running with silence until the jitter buffer resumes the late utterance."""
        self._write(playback, playback.fader.pause())
        inserted_seconds = 0.0
        while not self._aborted.is_set() and (wait := self._buffering_seconds(playback)) > 0:
            self.heartbeat()
            spare = self._spare_seconds()
            if spare:
                self._ring.wait_readable(self._ring.buffered_bytes + 1, min(spare, wait))
                continue
            silence_seconds = min(wait, self._period_seconds)
            if self._write_silence(playback, silence_seconds):
                inserted_seconds += silence_seconds
        if self._ring.buffered_bytes:  # otherwise only the end mark of the utterance was late: no gap was audible
            playback.underruns += 1
            playback.silence_seconds += inserted_seconds

    def _drain(self, playback: _Playback) -> None:
        """Wait until everything was played or the utterance was cancelled."""
        playback.ends_at = self._sink.empty_at  # silence follows, which pushes the audio out
        deadline = Deadline(self._sink.queued_seconds + self._timing.drain_timeout_seconds)
        while (wait := self._sink.drain_nowait()) > 0 and not self._aborted.is_set():
            self.heartbeat()
            if self._ring.wait_cleared(playback.stream_id, min(wait, self._timing.heartbeat_seconds)):
                return
            if deadline.is_expired:
                self._sink.drain()  # the blocking call distinguishes a slow card from a stopped one
                return

    def _report(self, playback: _Playback, event: Event) -> None:
        if not playback.playout.is_sound:
            self.report(event)

    def _finish(self, playback: _Playback, end: UtteranceEnd) -> None:
        if self._reference is not None:
            if end.drop_reason is None:
                self._reference.finished()
            else:
                self._reference.dropped(time.monotonic())
        if playback.underruns:
            self._report(playback, Underruns(playback.utterance, playback.underruns, playback.silence_seconds))
        if end.drop_reason is not None:
            ends_at = self._sink.empty_at if playback.ends_at is None else playback.ends_at
            played_seconds = max(0.0, playback.seconds - max(0.0, ends_at - time.monotonic()))
            self._sink.drop()
            unplayed_bytes = playback.refused_bytes + end.dropped_bytes
            dropped_seconds = playback.seconds - played_seconds + playback.format.seconds_of(unplayed_bytes)
            self._report(
                playback, UtteranceCancelled(playback.utterance, end.drop_reason, played_seconds, dropped_seconds)
            )
        elif end.error is not None:
            self._report(playback, UtteranceFailed(playback.utterance, end.error, playback.seconds))
        else:
            self._report(playback, UtterancePlayed(playback.utterance, playback.seconds))
        self._silent_since = time.monotonic()
        if playback.playout.is_sound:  # a sound starts no gap between announcements
            return
        if not playback.playout.starts_stored:  # stored audio shows nothing about the speed of a service
            self._jitter_buffer.finish(is_complete=end.drop_reason is None and end.error is None)
        self._gap = Deadline(self._gap_seconds if playback.playout.starts_pause and end.drop_reason is None else 0.0)

    # --- the sink

    def _spare_seconds(self) -> float:
        """Return how many seconds the card can play without a write: its queued audio minus half a period."""
        return max(0.0, self._sink.queued_seconds - 0.5 * self._period_seconds)

    def _write_silence(self, playback: _Playback, seconds: float) -> bool:
        size, period_bytes = playback.format.bytes_of(seconds), playback.format.bytes_of(self._period_seconds)
        return all(
            self._write(playback, bytes(min(period_bytes, size - start))) for start in range(0, size, period_bytes)
        )

    def _write(self, playback: _Playback, pcm: bytes) -> bool:
        """Write one piece when the sink has room; return whether the audio was accepted."""
        deadline = Deadline(self._timing.write_timeout_seconds)
        while (wait := self._sink.ready_in_seconds) > 0 and (rest := deadline.remaining()):
            if self._ring.wait_cleared(playback.stream_id, min(wait, rest)):
                return False
        underruns = self._sink.underruns
        is_accepted = self._sink.write(pcm, playback.format, lambda: self._is_wanted(playback.stream_id))
        if self._reference is not None and is_accepted and pcm:
            if self._sink.underruns > underruns:
                self._reference.finished()  # the card was empty before this audio, so the later echo is delayed
            self._reference.note_written(pcm, playback.format, self._sink.empty_at)
        return is_accepted

    def _is_wanted(self, stream_id: int) -> bool:
        self.heartbeat()
        return self._ring.is_active(stream_id)


class _Playback:
    """The utterance that is being played, and its progress. Not thread-safe; owned by the speaker thread."""

    def __init__(self, start: UtteranceStart) -> None:
        self.utterance, self.stream_id, self.format = start.utterance, start.stream_id, start.format
        self.playout = start.playout
        self.fader = Fader(start.format)
        self.played_bytes = 0  # accepted by the sink
        self.refused_bytes = 0  # read from the ring, then cancelled before the sink accepted it
        self.underruns = 0
        self.silence_seconds = 0.0
        self.ends_at: float | None = None  # monotonic time of the end of playback; set when the sink has all samples

    @property
    def seconds(self) -> float:
        return self.format.seconds_of(self.played_bytes)
