"""Defines the object that holds the stages of one daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.daemon.supervisor import Supervisor
from agent.pipeline.playback.ring_buffer import RingBuffer

if TYPE_CHECKING:
    from pathlib import Path

    from agent.pipeline.capture.endpointer import Endpointer
    from agent.pipeline.capture.microphone import Microphone
    from agent.pipeline.device_control import DeviceControl
    from agent.pipeline.playback.speaker import Speaker
    from agent.pipeline.responders.worker import ResponderWorker
    from agent.pipeline.stt.recognizer import Recognizer
    from agent.pipeline.tts.synthesizer import Synthesizer


class Pipeline:
    """The stages of one daemon. A stage that the mode does not need is ``None``.

    Not thread-safe; owned by the main thread. The stages have thread-safe methods of their own.
    """

    def __init__(self, ring: RingBuffer) -> None:
        self.supervisor = Supervisor([])
        self.ring = ring
        self.microphone: Microphone | None = None
        self.endpointer: Endpointer | None = None
        self.recognizer: Recognizer | None = None
        self.responder: ResponderWorker | None = None
        self.synthesizer: Synthesizer | None = None
        self.device_control: DeviceControl | None = None
        self.state_directory: Path | None = None  # for data that survives a restart
        self.speaker: Speaker | None = None
        self.wake_word = ""  # the last detected one; empty after a request to listen
