"""Checks whether the local speech server answers or can be started, and whether it has the engines in use."""

from __future__ import annotations

import errno
import importlib.util
import socket

from agent.cli.doctor.config import key_with_origin
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.cli.local_server import is_serving
from agent.daemon.connection_builder import is_local_server_url, local_server_settings
from agent.daemon.local_server import LocalServer
from agent.errors import AgentError, ServiceError
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import SttOptions, UnavailableRecognizer
from agent.server.tts import registry as tts_registry
from agent.server.tts.engine import VoiceOptions
from agent.server.tts.voices import find_voice_problem
from agent.settings.loader import Loaded
from agent.settings.model import Config
from agent.system.optional_parts import install_command
from agent.system.ports import describe_port_owner
from agent.system.threads import Deadline

START_SECONDS = 15.0
"""Timeout of a start of the server."""

_LIBRARIES = {"moonshine": "moonshine_voice", "vosk": "vosk"}
"""The Python module of each recognizer, by the name of the engine."""


def check_local_server(loaded: Loaded) -> list[CheckResult]:
    """Check the local speech server and its engines. Return no result if the configuration does not use the server."""
    if not _uses_local_server(loaded.config):
        return []
    return [_check_server(loaded), *_check_engines(loaded)]


def _uses_local_server(config: Config) -> bool:
    speaks = config.conversation.mode != "captions" and config.synthesis.uses_own_server
    return local_server_settings(config) is not None or speaks or _transcribes_locally(config)


def _transcribes_locally(config: Config) -> bool:
    return config.conversation.mode != "announce" and is_local_server_url(config.transcription.url, config)


def _check_server(loaded: Loaded) -> CheckResult:
    config, subject = loaded.config, "local server"
    host, port = config.server.host, config.server.port
    if port and is_serving(host, port):
        return CheckResult(subject, OK, f"answers at {host}:{port}")
    error = _listen_error(host, port)
    if error is not None and error.errno == errno.EADDRINUSE:
        saw = f"port {port} of {host} is in use by {describe_port_owner(port)}, which is not a speech server"
        cure = f"end it (sudo ss -ltnp 'sport = :{port}' names it)"
        cure += f", or write another number at {key_with_origin(loaded, 'server.port')}"
        return CheckResult(subject, ERROR, saw, cure, own=True)
    if local_server_settings(config) is None:
        saw = f"no server answers at {host}:{port}, and server.start is false"
        key = key_with_origin(loaded, "server.start")
        return CheckResult(subject, ERROR, saw, f"sudo systemctl start voice-agent-server on {host}, or true at {key}")
    if error is not None:
        saw = f"the server cannot listen at {host}:{port}: {error.strerror or error}"
        cure = f"write 127.0.0.1, or an address of this machine, at {key_with_origin(loaded, 'server.host')}"
        if error.errno == errno.EACCES:
            cure = f"write a number above 1023 at {key_with_origin(loaded, 'server.port')}"
        return CheckResult(subject, ERROR, saw, cure, own=True)
    server = LocalServer(config.server._replace(host="127.0.0.1", port=0))
    server.start()
    try:
        server.url(Deadline(START_SECONDS))
    except ServiceError as failure:
        return CheckResult(subject, ERROR, str(failure), "voice-agent server (it prints the reason)")
    finally:
        server.stop()
    return CheckResult(subject, OK, f"starts, and {host}:{port} is free")


def _listen_error(host: str, port: int) -> OSError | None:
    """Return the error of listening at this address; ``None`` if a program can listen there."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        return error


def _check_engines(loaded: Loaded) -> list[CheckResult]:
    config = loaded.config
    if config.server.start is False and not is_serving("127.0.0.1", config.server.port):
        return []  # the engines are on another machine
    results = []
    if config.conversation.mode != "captions" and "local" in config.synthesis.services:
        results.append(_check_voice(loaded))
    if _transcribes_locally(config):
        results.append(_check_recognizer(loaded))
    return results


def _check_voice(loaded: Loaded) -> CheckResult:
    config = loaded.config
    subject, voice = "local voice", config.synthesis.settings("local").voice
    problem = find_voice_problem(voice) if config.server.speech != "tone" else None
    if problem is not None:
        cure = f"voice-agent voices, then write one of them at {key_with_origin(loaded, 'synthesis.local.voice')}"
        return CheckResult(subject, ERROR, problem, cure, own=True)
    try:
        speech = tts_registry.create(config.server.speech).speak(
            "Hello.", VoiceOptions(22050, voice=voice, language=voice)
        )
        size_bytes = sum(len(chunk) for chunk in speech.chunks)
    except AgentError as error:
        is_natural = config.server.speech == "hibari" or voice.startswith("hibari:")
        cure = install_command("natural-voice") if is_natural else "sudo apt install flite espeak-ng"
        return CheckResult(subject, ERROR, str(error), cure)
    if not size_bytes:
        return CheckResult(subject, WARNING, "the engine returned no audio", "voice-agent say hello")
    return CheckResult(subject, OK, f"speaks ({config.server.speech}, voice {voice})")


def _check_recognizer(loaded: Loaded) -> CheckResult:
    settings, subject = loaded.config.server, "local recognizer"
    if settings.recognition == "none":
        saw = "server.recognition is none, but the microphone is transcribed by the local server"
        cure = f"write auto at {key_with_origin(loaded, 'server.recognition')}"
        return CheckResult(subject, ERROR, saw, cure, own=True)
    cure = install_command("vosk" if settings.recognition == "vosk" else "recognition")
    try:
        engine = stt_registry.create(settings.recognition, SttOptions(settings.model_path, settings.script))
        if isinstance(engine, UnavailableRecognizer):
            engine.open()
    except AgentError as error:
        return CheckResult(subject, ERROR, str(error), cure)
    # The model is not loaded: that takes seconds and 200 MB.
    library = _LIBRARIES.get(engine.name)
    if library is not None and importlib.util.find_spec(library) is None:
        return CheckResult(subject, ERROR, f"{engine.name} is not installed", cure)
    return CheckResult(subject, OK, f"{engine.name} is installed")
