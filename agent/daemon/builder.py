"""Builds the pipeline of the daemon from the configuration (composition root)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.daemon.speech_builder import RING_BYTES, make_speaker, make_synthesizer
from agent.daemon.stages import Pipeline
from agent.daemon.supervisor import Supervisor
from agent.errors import ConfigError
from agent.pipeline.events import Event
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.services.service import missing_key
from agent.settings.model import Config
from agent.system.threads import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from agent.audio.echo.reference import EchoReference
    from agent.daemon.local_server import LocalServer
    from agent.pipeline.device_control import DeviceControl


def build_pipeline(
    config: Config,
    report: Callable[[Event], None],
    local: LocalServer | None,
    record_start: Callable[[str], Callable[[], None] | None] = lambda utterance: None,
    device_control: DeviceControl | None = None,
    state_directory: Path | None = None,
) -> Pipeline:
    """Build the stages for ``config.conversation.mode``; none of them runs yet.

    Args:
        config: The configuration.
        report: Receives the events of the stages.
        local: The local server that this process runs; ``None`` if there is none.
        record_start: As for ``Speaker``.
        device_control: Controls the device for spoken requests about it; ``None`` if nothing needs it.
        state_directory: The directory for data that survives a restart; ``None`` to keep no data.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    mode = config.conversation.mode
    pipeline = Pipeline(RingBuffer(RING_BYTES))
    reference: EchoReference | None = None
    if mode == "assistant" and config.echo.canceller != "none":
        from agent.audio.echo.reference import EchoReference

        reference = EchoReference()
    pipeline.device_control, pipeline.state_directory = device_control, state_directory
    # The stages that capture and reply are imported where they are built: a daemon that only announces starts faster.
    if mode != "announce":
        from agent.daemon.capture_builder import (
            FRAME_QUEUE_SECONDS,
            make_echo_guard,
            make_endpointer,
            make_microphone,
            make_recognizer,
        )
        from agent.pipeline.capture.frame_queue import FrameQueue

        frames = FrameQueue(config.microphone.outage_seconds if mode == "captions" else FRAME_QUEUE_SECONDS)
        pipeline.microphone = make_microphone(config, frames, report, reference=reference)
        guard = None if reference is None else make_echo_guard(config, reference, report)
        pipeline.endpointer = make_endpointer(config, report, guard)
        clean = None if guard is None else guard.clean
        pipeline.recognizer = make_recognizer(config, frames, pipeline.endpointer, report, local, clean=clean)
    if mode == "assistant":
        from agent.daemon.reply_builder import make_responder, reply_options
        from agent.pipeline.responders.worker import ResponderWorker

        timeout = config.conversation.answer_timeout_seconds
        pipeline.responder = ResponderWorker(
            make_responder(config, pipeline), report, first_word_seconds=timeout, options=reply_options(config)
        )
    if mode != "captions":
        pipeline.synthesizer = make_synthesizer(config, pipeline.ring, report, local, can_suspend=True)
        pipeline.speaker = make_speaker(config, pipeline.ring, report, record_start=record_start, reference=reference)
    stages: list[Worker | None] = [
        pipeline.microphone,
        pipeline.recognizer,
        pipeline.responder,
        pipeline.synthesizer,
        pipeline.speaker,
    ]
    pipeline.supervisor = Supervisor([stage for stage in stages if stage is not None])
    return pipeline


def require_keys(config: Config) -> None:
    """Check that at least one speech service has its key, and that the environment variables of all used keys are set.

    Raises:
        ConfigError: No speech service has its key, or a key refers to a variable that is not set.
    """
    mode, synthesis, responder = config.conversation.mode, config.synthesis, config.responder
    used = [] if mode == "announce" else [config.transcription.api_key, config.transcription.export_key]
    if mode != "captions":
        used += synthesis.secrets()
    if mode == "assistant":
        used += responder.secrets()
        used += [secret for each in config.word_responders().values() for secret in each.secrets()]
    for secret in used:
        if secret.env is not None:
            secret.reveal()
    if mode == "captions":
        return
    reasons = [missing_key(name, config.synthesis) for name in config.synthesis.services]
    if all(reasons):
        raise ConfigError("; ".join(reason for reason in reasons if reason))
