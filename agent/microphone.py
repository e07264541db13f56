"""The thread that owns the source: sound becomes frames on their way to the recognizer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.audio.devices import Source
from agent.audio.frames import FrameQueue
from agent.errors import DeviceError
from agent.events import DeviceBack, DeviceLost, Event, Gap
from agent.threads import Backoff, Worker


class Microphone(Worker):
    """Reads the source and puts its frames into the queue, until it is stopped; then the queue is closed.

    It opens, reads and closes the source itself. A source that is lost is looked for, at most once a second, until it
    is back; what was not heard meanwhile is reported as a ``Gap``, as is what the card itself dropped.
    """

    def __init__(
        self,
        frames: FrameQueue,
        open_source: Callable[[], Source],
        report: Callable[[Event], None],
    ) -> None:
        super().__init__("microphone", report)
        self._frames, self._open_source = frames, open_source
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def abort(self) -> None:
        self._stopped.set()
        self._frames.clear()

    def run(self) -> None:
        began = time.monotonic()
        backoff = Backoff(first_seconds=0.25, cap_seconds=1.0)
        lost_at: float | None = None
        try:
            while not self._stopped.is_set():
                self.beat()
                try:
                    source = self._open_source()
                except DeviceError as error:
                    if lost_at is None:
                        lost_at = time.monotonic()
                        self.report(DeviceLost("microphone", str(error)))
                    self._stopped.wait(backoff.next_seconds(at_least_seconds=0.05))
                    continue
                if lost_at is not None:
                    away = time.monotonic() - lost_at
                    self.report(DeviceBack("microphone", away))
                    self.report(Gap(lost_at - began, away, "the microphone was gone"))
                    lost_at = None
                backoff.healthy()
                try:
                    self._listen(source, began)
                except DeviceError as error:
                    lost_at = time.monotonic()
                    self.report(DeviceLost("microphone", str(error)))
                finally:
                    source.close()
        finally:
            self._frames.close()

    def _listen(self, source: Source, began: float) -> None:
        lost = 0
        while not self._stopped.is_set():
            self.beat()
            self._frames.put(source.read())
            if source.lost_frames > lost:
                seconds = (source.lost_frames - lost) / 16000
                lost = source.lost_frames
                self.report(Gap(time.monotonic() - began - seconds, seconds, "the microphone overflowed"))
