"""Whether the local speech server answers or can be started, and has engines to speak and to recognise with."""

from __future__ import annotations

import errno
import importlib.util
import socket
from dataclasses import replace

from agent.cli.doctor.config import line_of
from agent.cli.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding
from agent.cli.local_server import listens
from agent.daemon.builder import own_server, points_at
from agent.daemon.local_server import LocalServer
from agent.errors import AgentError, ServiceError
from agent.server.stt import engine as recognition
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts import engine as speech
from agent.server.tts.engine import VoiceOptions
from agent.settings.loader import Loaded
from agent.settings.model import Config
from agent.system.threads import Deadline

START_SECONDS = 15.0

_LIBRARIES = {"moonshine": "moonshine_voice", "vosk": "vosk"}


def check_local(loaded: Loaded) -> list[Finding]:
    """Nothing where nothing is local."""
    config = loaded.config
    if not uses_local(config):
        return []
    return [_server(loaded), *_engines(loaded)]


def uses_local(config: Config) -> bool:
    mode = config.conversation.mode
    speaks = mode != "captions" and "local" in config.synthesis.services and config.synthesis.local.url is None
    return own_server(config) is not None or speaks or _listens_to_local(config)


def _listens_to_local(config: Config) -> bool:
    return config.conversation.mode != "announce" and points_at(config.transcription.url, config)


def _server(loaded: Loaded) -> Finding:
    config, subject = loaded.config, "local server"
    host, port = config.server.host, config.server.port
    if port and listens(host, port):
        return Finding(subject, FINE, f"answers at {host}:{port}")
    refusal = _refusal(host, port)
    if refusal is not None and refusal.errno == errno.EADDRINUSE:
        saw = f"port {port} of {host} is taken by another program, which is no speech server"
        cure = f"end it (sudo ss -ltnp 'sport = :{port}' names it)"
        cure += f", or write another number at {line_of(loaded, 'server.port')}"
        return Finding(subject, BROKEN, saw, cure, own=True)
    if own_server(config) is None:
        saw = f"nobody answers at {host}:{port}, and server.start is false"
        cure = f"sudo systemctl start voice-agent-server on {host}, or true at {line_of(loaded, 'server.start')}"
        return Finding(subject, BROKEN, saw, cure)
    if refusal is not None:
        saw = f"it cannot listen at {host}:{port}: {refusal.strerror or refusal}"
        cure = f"write 127.0.0.1, or an address that this machine has, at {line_of(loaded, 'server.host')}"
        if refusal.errno == errno.EACCES:
            cure = f"write a number above 1023 at {line_of(loaded, 'server.port')}"
        return Finding(subject, BROKEN, saw, cure, own=True)
    server = LocalServer(replace(config.server, host="127.0.0.1", port=0))
    server.start()
    try:
        server.url(Deadline(START_SECONDS))
    except ServiceError as error:
        return Finding(subject, BROKEN, str(error), "voice-agent server (it says why)")
    finally:
        server.stop()
    return Finding(subject, FINE, f"starts, and {host}:{port} is free")


def _refusal(host: str, port: int) -> OSError | None:
    """Why nobody can begin to listen there; ``None``: somebody can."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        return error


def _engines(loaded: Loaded) -> list[Finding]:
    config, found = loaded.config, []
    if config.server.start is False and not listens("127.0.0.1", config.server.port):
        return []  # the engines are on another machine
    if config.conversation.mode != "captions" and "local" in config.synthesis.services:
        found.append(_voice(config))
    if _listens_to_local(config):
        found.append(_recogniser(loaded))
    return found


def _voice(config: Config) -> Finding:
    subject, voice = "local voice", config.synthesis.local.voice
    try:
        spoken = speech.find(config.server.speech).speak("Hello.", VoiceOptions(22050, voice=voice, language=voice))
        size = sum(len(chunk) for chunk in spoken.chunks)
    except AgentError as error:
        return Finding(subject, BROKEN, str(error), "sudo apt install flite espeak-ng")
    if not size:
        return Finding(subject, DOUBTFUL, "the engine gave no sound", "voice-agent say hello")
    return Finding(subject, FINE, f"speaks ({config.server.speech}, voice {voice})")


def _recogniser(loaded: Loaded) -> Finding:
    settings, subject = loaded.config.server, "local recogniser"
    if settings.recognition == "none":
        saw = "server.recognition is none, and the microphone's sound goes there"
        return Finding(subject, BROKEN, saw, f"write auto at {line_of(loaded, 'server.recognition')}", own=True)
    try:
        engine = recognition.find(settings.recognition, settings.model_path, settings.script)
        if isinstance(engine, UnavailableRecognizer):
            engine.open()
    except AgentError as error:
        return Finding(subject, BROKEN, str(error), recognition.remedy())
    # Its model is not loaded here: that takes seconds, and 200 MB.
    name = engine.name
    library = _LIBRARIES.get(name)
    if library is not None and importlib.util.find_spec(library) is None:
        return Finding(subject, BROKEN, f"{name} is not installed", recognition.remedy())
    return Finding(subject, FINE, f"{name} is there")
