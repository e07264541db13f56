"""The thread that owns the sink: what is in the ring becomes sound, and what has really been played is reported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.audio.convert import scale
from agent.audio.devices import Sink
from agent.audio.format import Format
from agent.audio.ring import Began, Closed, Finished, RingBuffer
from agent.events import Cancelled, Event, SpeakingBegan, Spoken, Unspoken
from agent.lasting_sink import LastingSink
from agent.threads import Worker

log = logging.getLogger(__name__)


class Speaker(Worker):
    """Plays the ring, one utterance after the other, and says of each how it ended.

    It opens, writes and closes the sink itself; a sink that is lost is opened anew and goes on at the exact sample.
    ``open_sink(format)`` raises ``DeviceError``; ``patient``: a device that is not there yet is waited for. It ends
    when the ring is closed, which its writer does at the end of its own input, and everything in it has been played;
    ``abort()`` ends it after the period that is being written.
    """

    def __init__(
        self,
        ring: RingBuffer,
        open_sink: Callable[[Format], Sink],
        report: Callable[[Event], None],
        *,
        period_seconds: float = 0.02,
        prebuffer_seconds: float = 0.1,
        volume: int = 100,
        patient: bool = True,
    ) -> None:
        self._aborted = threading.Event()
        self._sink = LastingSink(open_sink, report, self._aborted, patient=patient)
        super().__init__("speaker", report)
        self.volume = volume
        self._ring = ring
        self._period_seconds, self._prebuffer_seconds = period_seconds, prebuffer_seconds

    @property
    def patience_seconds(self) -> float:  # type: ignore[override]
        return self._sink.patience_seconds

    def stop(self) -> None:
        """Nothing to do: the end of the stream comes through the ring."""

    def abort(self) -> None:
        self._aborted.set()
        self._ring.close()
        self._ring.clear("abort")

    def run(self) -> None:
        try:
            while not self._aborted.is_set():
                self.beat()
                item = self._ring.read(1, timeout_seconds=1.0)
                if isinstance(item, Closed):
                    return
                if isinstance(item, Began):
                    self._play(item)
        finally:
            self._sink.close()

    def _play(self, began: Began) -> None:
        """One utterance from its first sample to its last, or to where it was cut."""
        format = began.format
        period = format.bytes_of(self._period_seconds)
        played = underruns = silent = 0
        self._fill(format)
        while not self._aborted.is_set():
            self.beat()
            item = self._ring.read(period, timeout_seconds=self._period_seconds)
            if isinstance(item, bytes):
                if not self._write(item, format, began.ticket):
                    continue
                if not played:
                    self.report(SpeakingBegan(began.utterance))
                played += len(item)
            elif isinstance(item, Finished):
                self._end(item, format.seconds_of(played), underruns, format.seconds_of(silent))
                return
            elif item is None and played:
                # The network is late. Silence keeps the card running; then wait until there is enough to go on with.
                underruns += 1
                silent += self._wait_in_silence(format, period, began.ticket)
            elif isinstance(item, Closed):
                return

    def _fill(self, format: Format) -> None:
        """Waits until enough of the utterance is there that a short stall of the network is not heard."""
        wanted = format.bytes_of(self._prebuffer_seconds)
        while not self._aborted.is_set() and not self._ring.wait_filled(wanted, timeout_seconds=1.0):
            self.beat()

    def _wait_in_silence(self, format: Format, period: int, ticket: int) -> int:
        wanted = format.bytes_of(self._prebuffer_seconds)
        silence = bytes(period)
        inserted = 0
        while not self._aborted.is_set() and not self._ring.wait_filled(wanted, timeout_seconds=0.0):
            self.beat()
            if not self._write(silence, format, ticket):
                break
            inserted += period
        return inserted

    def _end(self, finished: Finished, seconds: float, underruns: int, silence_seconds: float) -> None:
        if finished.cleared_by is not None:
            self._sink.drop()
            self.report(Cancelled(finished.utterance, finished.cleared_by, seconds))
            return
        self._sink.drain()
        if finished.error is not None:
            self.report(Unspoken(finished.utterance, finished.error, seconds))
        else:
            self.report(Spoken(finished.utterance, seconds, underruns, silence_seconds))

    def _write(self, pcm: bytes, format: Format, ticket: int) -> bool:
        """Hands one period to the sink; tells whether it was taken."""
        return self._sink.write(scale(pcm, self.volume), format, lambda: self._wanted(ticket))

    def _wanted(self, ticket: int) -> bool:
        self.beat()
        return self._ring.valid(ticket)
