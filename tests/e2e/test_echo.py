"""The device on a virtual card whose microphone hears its speaker: the user interrupts it, its own voice does not."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.agent_fixtures import Start
from support.echo_room import DEVICE_TEXTS, to_samples
from support.human_voice import spoken
from support.machine import free_port
from support.vcard import VirtualCard

from agent.audio.format import SPEECH

USER_LEVEL = 1200.0
BEFORE_SECONDS = 5.0
"""Longer than the start of ``say``, and shorter than the start and the text."""


@pytest.mark.slow
def test_user_interrupts_the_device_and_gets_a_reply(
    agent: Start, card: VirtualCard, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    port = free_port()
    config = write_config(
        "microphone: {device: mic_echo}\nspeaker: {device: speaker, buffer_seconds: 0.3}\necho: {canceller: speex}\n"
        "conversation: {interrupt: speech}\nsynthesis: {services: [local]}\nlogging: {transcripts: true}\n"
        f'server: {{port: {port}}}\ntranscription: {{url: "ws://127.0.0.1:{port}/"}}\n'
        f"control: {{socket: {tmp_path}/sock}}\n"
    )
    daemon = agent("run", "--config", config, env=card.env)
    daemon.stderr.await_text("daemon ready")
    for text in DEVICE_TEXTS * 2:
        assert agent("say", "--config", config, text, env=card.env).end() == 0, "its own voice has interrupted it"
    question = to_samples(spoken("what time is it", "flite rms"), USER_LEVEL).astype(np.int16).tobytes()
    card.inject(bytes(SPEECH.bytes_of(BEFORE_SECONDS)) + question, SPEECH)
    say = agent("say", "--config", config, " ".join(DEVICE_TEXTS), env=card.env)
    assert say.end() != 0 and "cancelled by user speech" in say.errors
    daemon.stderr.await_text("heard: What time is it")
    daemon.stderr.await_text("reply-1: played")
    test = agent("test-microphone", "--config", config, env=card.env)
    assert test.end() == 0 and "echo: interruption: speech, 80 ms delay" in test.output, test.output
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
