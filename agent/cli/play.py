"""Play PCM through the configured speaker, for the commands that test devices."""

from __future__ import annotations

import queue

from agent.audio.devices.device import fail_fast
from agent.audio.format import Format
from agent.cli.foreground import crash_error, stop_signals
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

STOP_SECONDS = 5.0
_SPARE_FRAMES = 64


def play(config: Config, pcm: bytes, format: Format) -> bool:
    """Play to the last sample, or until a signal.

    Args:
        config: The configuration, with the speaker.
        pcm: s16le samples.
        format: Sample rate and channels of ``pcm``.

    Returns:
        Whether all samples were played.

    Raises:
        AgentError: The speaker cannot be used.
    """
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ring = RingBuffer(len(pcm) + format.frame_bytes * _SPARE_FRAMES)
    speaker = make_speaker(config, ring, inbox.put, wait_policy=fail_fast)
    stream_id = ring.begin("test", format)
    ring.write(stream_id, pcm)
    ring.end(stream_id)
    ring.close()
    with stop_signals(inbox.put):
        speaker.start()
        try:
            while True:
                match inbox.get():
                    case UtterancePlayed():
                        return True
                    case UtteranceCancelled():
                        return False
                    case Stop(name):
                        ring.clear(name)
                    case WorkerCrashed() as event:
                        raise crash_error(event)
                    case UtteranceFailed(reason=reason) | DeviceLost(reason=reason):
                        raise AgentError(reason)
        finally:
            speaker.abort()
            speaker.join(Deadline(STOP_SECONDS))
