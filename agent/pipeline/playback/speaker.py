"""The thread that owns the sink: what is in the ring becomes sound, and what has really been played is reported."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.audio.devices.device import Sink, WaitPolicy, wait_for_device
from agent.audio.format import Format
from agent.pipeline.events import Event, PlaybackStarted, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.fader import Fader
from agent.pipeline.playback.jitter_buffer import JitterBuffer
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink
from agent.pipeline.playback.ring_buffer import RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.stage import Stage
from agent.system.threads import Deadline

ROUND_SECONDS = 1.0
CARD_PATIENCE_SECONDS = 0.5
"""A card that has made no room for so long is asked to take the sound all the same: it says what is wrong with it."""

DRAINING_SECONDS = 3.0
REST_SECONDS = 1.0
"""A card that has been silent for longer may have fallen asleep."""


class Speaker(Stage):
    """Plays the ring, one utterance after the other, and says of each how it ended.

    It opens, writes and closes the sink itself; a sink that is lost is opened anew and goes on at the exact sample.
    ``open_sink(format)`` raises ``DeviceError``; ``patience`` judges a device that is not there at the start, where
    ``try_card`` is called to find that out, and again while it is lost and there is nothing to play. It ends
    when the ring is closed, which its writer does at the end of its own input, and everything in it has been played;
    ``abort()`` ends it after the period that is being written.

    An utterance begins when the prebuffer says so, at first ``prebuffer_seconds`` after its first sound and never more
    than ``prebuffer_most_seconds``; at once when all of it is there. Where the network is late, silence is written
    only when the card would run dry otherwise; what was held back until then is faded out, and what follows is faded
    in. ``wake_seconds`` of silence go before an utterance when the card has rested.

    A cut (``RingBuffer.clear``) is noticed whatever is being waited for. The card's own buffer is dropped then, and
    with it the chance to fade: what a card holds cannot be changed any more, and to let it be heard would take longer
    than a cut may.

    ``volume`` (percent) and ``muted`` may be set at any time, from any thread; the next period is a ramp to them.
    """

    def __init__(
        self,
        ring: RingBuffer,
        open_sink: Callable[[Format], Sink],
        report: Callable[[Event], None],
        *,
        period_seconds: float = 0.02,
        prebuffer_seconds: float = 0.1,
        prebuffer_most_seconds: float = 3.0,
        wake_seconds: float = 0.0,
        volume: int = 100,
        patience: WaitPolicy = wait_for_device,
        probe: Callable[[], None] | None = None,
    ) -> None:
        self._aborted = threading.Event()
        self._sink = ReconnectingSink(open_sink, report, self._aborted, patience=patience, probe=probe)
        super().__init__("speaker", report)
        self.volume, self.muted = volume, False
        self._ring = ring
        self._period_seconds, self._wake_seconds = period_seconds, wake_seconds
        self._prebuffer = JitterBuffer(prebuffer_seconds, prebuffer_most_seconds)
        self._silent_since: float | None = None

    @property
    def stall_timeout(self) -> float:  # type: ignore[override]
        return self._sink.stall_timeout

    def stop(self) -> None:
        """Nothing to do: the end of the stream comes through the ring."""

    def abort(self) -> None:
        self._aborted.set()
        self._ring.close()
        self._ring.clear("abort")

    def run(self) -> None:
        try:
            while not self._aborted.is_set():
                self.heartbeat()
                self._sink.look()
                item = self._ring.read(1, ROUND_SECONDS)
                if isinstance(item, RingClosed):
                    return
                if isinstance(item, UtteranceStart):
                    self._play(item)
        finally:
            self._sink.close()

    # --- one utterance

    def _play(self, began: UtteranceStart) -> None:
        """From its first sample to its last, or to where it was cut."""
        sound = _Sound(began, self._percent)
        period = sound.format.bytes_of(self._period_seconds)
        self._prebuffer.begin()
        self._gather(sound)
        self._wake(sound)
        while not self._aborted.is_set():
            self.heartbeat()
            self._learn(sound)
            spare = self._spare()
            if not self._ring.wait_readable(sound.format.frame_bytes, min(spare, ROUND_SECONDS)):
                if not spare:
                    self._bridge(sound)
                continue
            if self._ring.is_fully_read:
                self._write(sound, sound.gain.finish())
                self._drain(sound)
            item = self._ring.read(period, 0.0)
            if isinstance(item, bytes):
                if not self._write(sound, sound.gain.feed(item, self._percent)):
                    sound.refused += len(item)
                    continue
                if not sound.played:
                    self.report(PlaybackStarted(sound.utterance))
                sound.played += len(item)
            elif isinstance(item, UtteranceEnd):
                self._end(sound, item)
                return
            elif isinstance(item, RingClosed):
                return

    @property
    def _percent(self) -> int:
        return 0 if self.muted else self.volume

    def _learn(self, sound: _Sound) -> None:
        for at, nbytes in self._ring.arrivals():
            self._prebuffer.arrived(at, sound.format.seconds_of(nbytes))

    def _gather(self, sound: _Sound) -> None:
        """Waits until it is time to begin."""
        while not self._aborted.is_set() and (wait := self._wait_for_more(sound)) > 0:
            self.heartbeat()
            self._ring.wait_readable(self._ring.buffered_bytes + 1, min(wait, ROUND_SECONDS))

    def _wait_for_more(self, sound: _Sound) -> float:
        """How long to let sound gather yet, unless more of it comes before that; 0.0: play."""
        self._learn(sound)
        ring = self._ring
        if ring.is_complete or ring.is_full or not ring.is_active(sound.stream_id):
            return 0.0
        begins = self._prebuffer.start_at(sound.seconds)
        if begins is None or ring.buffered_bytes < sound.format.frame_bytes:
            return ROUND_SECONDS
        # A little more: what would come just in time for the ear is too late for the card, see _spare.
        return max(0.0, begins + 0.75 * self._period_seconds - time.monotonic())

    def _wake(self, sound: _Sound) -> None:
        rested = self._silent_since is None or time.monotonic() - self._silent_since > REST_SECONDS
        if rested and self._wake_seconds:
            self._be_silent(sound, self._wake_seconds)

    def _bridge(self, sound: _Sound) -> None:
        """The network is late and the card about to run dry: silence keeps it running until it is time to go on."""
        self._write(sound, sound.gain.pause())
        inserted = 0.0
        while not self._aborted.is_set() and (wait := self._wait_for_more(sound)) > 0:
            self.heartbeat()
            spare = self._spare()
            if spare:
                self._ring.wait_readable(self._ring.buffered_bytes + 1, min(spare, wait))
                continue
            silence = min(wait, self._period_seconds)
            if self._be_silent(sound, silence):
                inserted += silence
        if self._ring.buffered_bytes:  # else it was no gap: nothing but the end has come
            sound.underruns += 1
            sound.silence_seconds += inserted

    def _drain(self, sound: _Sound) -> None:
        """Returns when all has been heard, or the utterance was cut."""
        deadline = Deadline(self._sink.queued_seconds + DRAINING_SECONDS)
        while (wait := self._sink.drain_nowait()) > 0 and not self._aborted.is_set():
            self.heartbeat()
            if self._ring.wait_cleared(sound.stream_id, min(wait, ROUND_SECONDS)):
                return
            if deadline.is_expired:
                self._sink.drain()  # it knows how to tell a slow card from one that stands still
                return

    def _end(self, sound: _Sound, finished: UtteranceEnd) -> None:
        if finished.drop_reason is not None:
            heard = max(0.0, sound.seconds - self._sink.queued_seconds)
            self._sink.drop()
            dropped = sound.seconds - heard + sound.format.seconds_of(sound.refused + finished.dropped_bytes)
            self.report(UtteranceCancelled(sound.utterance, finished.drop_reason, heard, dropped))
        elif finished.error is not None:
            self.report(UtteranceFailed(sound.utterance, finished.error, sound.seconds))
        else:
            self.report(UtterancePlayed(sound.utterance, sound.seconds, sound.underruns, sound.silence_seconds))
        self._prebuffer.finish(whole=finished.drop_reason is None and finished.error is None)
        self._silent_since = time.monotonic()

    # --- the sink

    def _spare(self) -> float:
        """How long nothing need be written, for the card has enough."""
        return max(0.0, self._sink.queued_seconds - 0.5 * self._period_seconds)

    def _be_silent(self, sound: _Sound, seconds: float) -> bool:
        whole, period = sound.format.bytes_of(seconds), sound.format.bytes_of(self._period_seconds)
        return all(self._write(sound, bytes(min(period, whole - done))) for done in range(0, whole, period))

    def _write(self, sound: _Sound, pcm: bytes) -> bool:
        """Hands at most a period to the sink, as soon as that has room; tells whether it was taken."""
        deadline = Deadline(CARD_PATIENCE_SECONDS)
        while (wait := self._sink.ready_in_seconds) > 0 and not deadline.is_expired:
            self.heartbeat()
            if self._ring.wait_cleared(sound.stream_id, min(wait, CARD_PATIENCE_SECONDS)):
                return False
        return self._sink.write(pcm, sound.format, lambda: self._wanted(sound.stream_id))

    def _wanted(self, stream_id: int) -> bool:
        self.heartbeat()
        return self._ring.is_active(stream_id)


class _Sound:
    """The utterance that is being played, and how it has gone so far."""

    def __init__(self, began: UtteranceStart, percent: int) -> None:
        self.utterance, self.stream_id, self.format = began.utterance, began.stream_id, began.format
        self.gain = Fader(began.format, percent)
        self.played = self.refused = 0  # bytes that the sink took, and that came to it too late
        self.underruns = 0
        self.silence_seconds = 0.0

    @property
    def seconds(self) -> float:
        return self.format.seconds_of(self.played)
