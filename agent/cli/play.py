"""Playing sound that is there already through the configured speaker, for the commands that test devices."""

from __future__ import annotations

import queue

from agent.audio.devices.device import fail_fast
from agent.audio.format import Format
from agent.cli.interrupts import hush_signals
from agent.daemon.builder import make_speaker
from agent.errors import AgentError
from agent.pipeline.events import (
    DeviceLost,
    Event,
    Stop,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
    WorkerCrashed,
)
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.settings.model import Config
from agent.system.threads import Deadline

ENDING_SECONDS = 5.0


def play(config: Config, pcm: bytes, format: Format) -> bool:
    """Plays it to its last sample; Ctrl-C makes it silent. Tells whether all of it was heard. Raises ``AgentError``
    where there is no speaker."""
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ring = RingBuffer(len(pcm) + format.frame_bytes * 64)
    speaker = make_speaker(config, ring, inbox.put, patience=fail_fast)
    signals = hush_signals(inbox.put)
    stream_id = ring.begin("test", format)
    ring.write(stream_id, pcm)
    ring.end(stream_id)
    ring.close()
    speaker.start()
    try:
        while True:
            match inbox.get():
                case UtterancePlayed():
                    return True
                case UtteranceCancelled():
                    return False
                case Stop(by):
                    ring.clear(by)
                case WorkerCrashed(worker, cause):
                    raise cause if isinstance(cause, AgentError) else AgentError(f"the {worker} died: {cause!r}")
                case UtteranceFailed(reason=reason) | DeviceLost(reason=reason):
                    raise AgentError(reason)
    finally:
        speaker.abort()
        speaker.join(Deadline(ENDING_SECONDS))
        signals.restore()
