"""What must hold between keys, and between a key and the machine: files that are there, addresses that can be used,
formats that a service gives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from agent.config.errors import Finding, suggestion
from agent.settings.model import Config, Fish, PlayAI, Responder, Rule, VachanaAudio
from agent.system.hosts import find_url_problem, is_private_host, is_valid_hostname, unencrypted_public_url

_Found = tuple[str, str, str | None]

CAUSES = {
    "conversation.silence_seconds": "conversation.turn_seconds",
    "responder.command.argv": "responder.kind",
    "responder.openai.model": "responder.kind",
    "responder.webhook.url": "responder.kind",
    "server.model_path": "server.recognition",
    "server.script": "server.recognition",
    "speaker.buffer_seconds": "speaker.period_seconds",
    "synthesis.fish.sample_rate": "synthesis.fish.format",
    "synthesis.playai.sample_rate": "synthesis.playai.output_format",
    "synthesis.playai.user_id": "synthesis.services",
    "synthesis.vachana.audio_config.container": "synthesis.vachana.audio_config.encoding",
    "synthesis.vachana.audio_config.sample_rate": "synthesis.vachana.audio_config.encoding",
    "synthesis.vachana.audio_config.sample_width": "synthesis.vachana.audio_config.encoding",
}
"""Where a key has its default, the line of the other key that makes this default impossible."""

_WEB_SOCKET = ("wss", "ws")
_HTTP = ("https", "http")


def findings(config: Config) -> Iterator[Finding]:
    """Everything that keeps a configuration from working, although each key by itself is what it should be."""
    for key, what, meant in _findings(config):
        yield Finding(key, what, meant, CAUSES.get(key))


def _findings(config: Config) -> Iterator[_Found]:
    yield from _addresses(config)
    yield from _devices(config)
    yield from _durations(config)
    yield from _fish(config.synthesis.fish)
    yield from _playai(config.synthesis.playai, "playai" in config.synthesis.services)
    yield from _vachana(config.synthesis.vachana.audio_config)
    yield from _responder(config.responder)
    yield from _server(config)
    yield from _places(config)


def warnings(config: Config) -> Iterator[Finding]:
    """What works and should still be known, said at each start."""
    for name, url, _, allowed in _urls(config):
        if url and allowed and find_url_problem(url, (*_WEB_SOCKET, *_HTTP)) is None and unencrypted_public_url(url):
            yield Finding(name, "sound, text and the key travel without encryption to a host outside (allow_plaintext)")
    if config.server.start is not False and config.server.host not in ("127.0.0.1", "::1", "localhost"):
        yield Finding("server.host", "everybody who reaches this address may use the local speech server")


def _urls(config: Config) -> Iterator[tuple[str, str | None, tuple[str, ...], bool]]:
    synthesis, responder = config.synthesis, config.responder
    open_speech, open_answers = synthesis.allow_plaintext, responder.allow_plaintext
    open_hearing = config.transcription.allow_plaintext
    yield "transcription.url", config.transcription.url, _WEB_SOCKET, open_hearing
    yield "transcription.export_url", config.transcription.export_url, _HTTP, open_hearing
    yield "synthesis.neuphonic.url", synthesis.neuphonic.url, _WEB_SOCKET, open_speech
    yield "synthesis.playai.auth_url", synthesis.playai.auth_url, _HTTP, open_speech
    yield "synthesis.vachana.url", synthesis.vachana.url, _WEB_SOCKET, open_speech
    yield "synthesis.fish.url", synthesis.fish.url, _WEB_SOCKET, open_speech
    yield "synthesis.local.url", synthesis.local.url, _WEB_SOCKET, open_speech
    yield "responder.openai.base_url", responder.openai.base_url, _HTTP, open_answers
    if responder.webhook.url or responder.kind == "webhook":
        yield "responder.webhook.url", responder.webhook.url, _HTTP, open_answers


def _addresses(config: Config) -> Iterator[_Found]:
    for name, url, schemes, allowed in _urls(config):
        if url is None:
            continue
        wrong = find_url_problem(url, schemes)
        if wrong is not None:
            yield name, wrong, None
        elif not allowed and (parts := unencrypted_public_url(url)) is not None:
            section = name.split(".")[0]
            secure = {"ws": "wss", "http": "https"}[parts.scheme]
            what = (
                f"{parts.scheme}:// to {parts.hostname} would send the key and what is said without encryption,"
                f" expected {secure}://, or {section}.allow_plaintext: true"
            )
            yield name, what, None


def _devices(config: Config) -> Iterator[_Found]:
    for name, device in (("microphone.device", config.microphone.device), ("speaker.device", config.speaker.device)):
        if not device.strip():
            yield name, "no device is named, expected default, none, file:PATH.wav or a name", "default"
        elif device.startswith("file:"):
            path = device.removeprefix("file:")
            wrong = _file(path) if name.startswith("microphone") else _new_file(path)
            if wrong:
                yield name, wrong, None


def _durations(config: Config) -> Iterator[_Found]:
    speaker, conversation = config.speaker, config.conversation
    if speaker.buffer_seconds < speaker.period_seconds:
        what = f"{speaker.buffer_seconds:g} is less than one period, expected at least {speaker.period_seconds:g}"
        yield "speaker.buffer_seconds", f"{what} (speaker.period_seconds)", None
    if conversation.silence_seconds >= conversation.turn_seconds:
        what = f"{conversation.silence_seconds:g} is no shorter than the longest turn"
        yield "conversation.silence_seconds", f"{what}, expected less than {conversation.turn_seconds:g}", None


_FISH_RATES = {
    "opus": (48000,),
    "mp3": (32000, 44100),
    "wav": (8000, 16000, 24000, 32000, 44100),
    "pcm": (8000, 16000, 24000, 32000, 44100),
}


def _fish(fish: Fish) -> Iterator[_Found]:
    rates = _FISH_RATES[fish.format]
    if fish.sample_rate is not None and fish.sample_rate not in rates:
        what = f"Fish Audio gives no {fish.format} at {fish.sample_rate} Hz"
        yield "synthesis.fish.sample_rate", f"{what}, expected null or one of {_list(rates)}", None
    if wrong := _header(fish.model):
        yield "synthesis.fish.model", wrong, None
    for index, reference in enumerate(fish.references):
        name = f"synthesis.fish.references[{index}]"
        if wrong := _file(reference.audio):
            yield f"{name}.audio", wrong, None
        if not reference.text.strip():
            yield f"{name}.text", "the text is missing, expected what is said in the recording", None


def _playai(playai: PlayAI, used: bool) -> Iterator[_Found]:
    if playai.output_format == "mulaw" and playai.sample_rate != 8000:
        what = f"mulaw comes at 8000 Hz only, not at {playai.sample_rate}, expected 8000"
        yield "synthesis.playai.sample_rate", what, "8000"
    if wrong := _header(playai.user_id, empty=True):
        yield "synthesis.playai.user_id", wrong, None
    if not playai.model:
        yield "synthesis.playai.model", "no model is named, expected for example Play3.0-mini", "Play3.0-mini"
    if used and not playai.user_id and find_url_problem(playai.auth_url, _HTTP) is None and _outside(playai.auth_url):
        yield "synthesis.playai.user_id", "the service is used and the user id is missing, expected your user id", None


_VACHANA_CONTAINERS = {
    "linear_pcm": ("raw", "wav", "mp3"),
    "oggopus": ("raw", "ogg"),
    "pcm_mulaw": ("raw", "wav", "mulaw"),
    "pcm_alaw": ("raw", "wav", "alaw"),
}


def _vachana(audio: VachanaAudio) -> Iterator[_Found]:
    section = "synthesis.vachana.audio_config"
    containers = _VACHANA_CONTAINERS[audio.encoding]
    if audio.container not in containers:
        what = f"{audio.encoding} does not come in the container {audio.container}"
        yield f"{section}.container", f"{what}, expected one of {_list(containers)}", None
    if audio.encoding in ("pcm_mulaw", "pcm_alaw") and audio.sample_rate != 8000:
        what = f"{audio.encoding} comes at 8000 Hz only, not at {audio.sample_rate}, expected 8000"
        yield f"{section}.sample_rate", what, "8000"
    if audio.encoding == "oggopus" and audio.sample_rate in (22050, 44100):
        what = f"Opus knows no {audio.sample_rate} Hz, expected one of 8000, 16000, 24000, 48000"
        yield f"{section}.sample_rate", what, None
    if audio.encoding in ("linear_pcm", "oggopus") and audio.sample_width != 2:
        yield f"{section}.sample_width", f"{audio.encoding} is played with samples of 2 bytes only, expected 2", "2"


def _responder(responder: Responder) -> Iterator[_Found]:
    for index, rule in enumerate(responder.rules):
        yield from _rule(rule, f"responder.rules[{index}]")
    if responder.kind == "openai" and not responder.openai.model.strip():
        yield "responder.openai.model", "no model is named, expected the name of a chat model", None
    if responder.kind == "command":
        import shutil  # 2 ms that only this responder costs

        argv = responder.command.argv
        if not argv or not argv[0]:
            what = "responder.kind is command and no program is named, expected [PROGRAM, ARGUMENT, ...]"
            yield "responder.command.argv", what, None
        elif shutil.which(argv[0]) is None:
            yield "responder.command.argv", f"there is no program {argv[0]}, expected one that can be started", None


_FILLED_IN = ("time", "date", "weekday", "heard")


def _rule(rule: Rule, name: str) -> Iterator[_Found]:
    if not rule.pattern:
        yield f"{name}.pattern", "the pattern is missing, expected a regular expression", None
        return
    try:
        pattern = re.compile(rule.pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"this is no regular expression: {error}; expected one as Python's re module takes it"
        yield f"{name}.pattern", what, None
        return
    known = [*_FILLED_IN, *pattern.groupindex]
    for wanted in re.findall(r"\{(\w+)\}", rule.reply):
        if wanted not in known and not (wanted.isdigit() and int(wanted[:6]) <= pattern.groups):
            possible = _list(f"{{{word}}}" for word in known)
            what = f"nothing is called {{{wanted}}}, expected {possible} or the number of a group"
            yield f"{name}.reply", what, suggestion(wanted, known)


def _server(config: Config) -> Iterator[_Found]:
    server = config.server
    if not server.host.isprintable() or " " in server.host or "/" in server.host or not is_valid_hostname(server.host):
        yield "server.host", "this is no address to listen on, expected for example 127.0.0.1", "127.0.0.1"
    if server.recognition == "script" and server.script is None:
        yield "server.script", "server.recognition is script and no file is named, expected its path", None
    if server.recognition == "vosk" and server.model_path is None:
        yield "server.model_path", "server.recognition is vosk and no model is named, expected its directory", None
    if server.script is not None and (wrong := _file(server.script)):
        yield "server.script", wrong, None
    if server.model_path is not None and not _may_be_directory(server.model_path):
        yield "server.model_path", f"{server.model_path} is not a directory, expected that of a vosk model", None


def _places(config: Config) -> Iterator[_Found]:
    socket = config.control.socket
    if socket not in ("auto", "none"):
        if not socket.startswith("/"):
            what = "expected auto, none or a path that begins with /"
            yield "control.socket", f"this is no full path, {what}", suggestion(socket, ("auto", "none"))
        elif len(os.fsencode(socket)) > 107:
            yield "control.socket", "the path is longer than a socket's name can be, expected at most 107 bytes", None
    directory = config.transcription.export_directory
    if directory is not None and not directory.startswith("/"):
        yield "transcription.export_directory", "this is no full path, expected one that begins with /", None


def _header(value: str, *, empty: bool = False) -> str | None:
    if not value and not empty:
        return "the value is missing, expected a text"
    if not (value.isascii() and value.isprintable() or not value):
        return "the value goes into an HTTP header, expected ASCII letters, digits and signs on one line"
    return None


def _file(path: str) -> str | None:
    if not path.strip():
        return "no file is named, expected its path"
    place = Path(path)
    try:
        if place.is_dir():
            return f"{path} is a directory, expected a file"
        if not place.exists():
            return f"the file {path} does not exist, expected a file that can be read"
    except (PermissionError, ValueError) as error:
        return "this cannot be a path" if isinstance(error, ValueError) else None
    return None


def _new_file(path: str) -> str | None:
    if not path.strip():
        return "no file is named, expected its path"
    try:
        if Path(path).is_dir():
            return f"{path} is a directory, expected a file"
        if not Path(path).parent.is_dir():
            return f"there is no directory {Path(path).parent} to write into, expected one"
    except (PermissionError, ValueError) as error:
        return "this cannot be a path" if isinstance(error, ValueError) else None
    return None


def _may_be_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except PermissionError:
        return True
    except ValueError:
        return False


def _outside(url: str) -> bool:
    return not is_private_host(urlsplit(url).hostname or "")


def _list(words: Iterable[object]) -> str:
    return ", ".join(str(word) for word in words)
