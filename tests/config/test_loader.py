"""Tests of loading: a table of broken configurations with the line, the message and the suggestion of each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.config.errors import ConfigIssues
from agent.errors import ConfigError
from agent.settings.loader import load, load_with_origins
from agent.settings.model import Config

# name, text, line (0: the file as a whole), key, a part of the message, suggestion
BROKEN = [
    ("unknown key", "microphone:\n  devise: none\n", 2, "microphone.devise", "unknown key", "device"),
    ("unknown section", "\nmicrofone:\n  device: none\n", 2, "microfone", "unknown key", "microphone"),
    ("key with dashes", "speaker:\n  period-seconds: 0.02\n", 2, "speaker.period-seconds", "unknown", "period_seconds"),
    ("key in capitals", "Speaker:\n  volume: 3\n", 1, "Speaker", "unknown key", "speaker"),
    (
        "key in the wrong section",
        "microphone:\n  mode: captions\n",
        2,
        "microphone.mode",
        "unknown key",
        "conversation.mode",
    ),
    (
        "deep unknown key",
        "synthesis:\n  fish:\n    prosody:\n      sped: 1\n",
        4,
        "synthesis.fish.prosody.sped",
        "unknown key",
        "speed",
    ),
    ("text for a number", "speaker:\n  volume: loud\n", 2, "speaker.volume", "from 0 to 100", None),
    (
        "small number with an exponent",
        "wake: {sensitivity: 1e-5}\n",
        1,
        "wake.sensitivity",
        "write 0.00001",
        None,
    ),
    ("true in quotes", "server: {start: 'true'}\n", 1, "server.start", "without quotes", None),
    ("another chime", "conversation: {chime: Gong}\n", 1, "conversation.chime", "is no chime", "gong"),
    (
        "path that is too long",
        f"conversation: {{chime: 'file:/tmp/{'a' * 300}.wav'}}\n",
        1,
        "conversation.chime",
        "File name too long",
        None,
    ),
    (
        "recording that is too long",
        f"speaker: {{device: 'file:/{'a' * 300}/x.wav'}}\n",
        1,
        "speaker.device",
        "too long",
        None,
    ),
    ("number with a unit", "speaker:\n  volume: 80%\n", 2, "speaker.volume", "has a unit", None),
    ("number in quotes", 'server:\n  port: "8394"\n', 2, "server.port", "remove the quotes", None),
    ("fraction for a whole number", "speaker:\n  volume: 80.5\n", 2, "speaker.volume", "has a fraction", None),
    ("exponent", "server:\n  port: 1e3\n", 2, "server.port", "write 1000", None),
    ("octal number", "server:\n  port: 0755\n", 2, "server.port", "octal", None),
    ("underline in a number", "server:\n  port: 8_394\n", 2, "server.port", "underline", None),
    ("time in base sixty", "conversation:\n  turn_seconds: 1:30\n", 2, "conversation.turn_seconds", "base sixty", None),
    ("truth value for a number", "speaker:\n  volume: true\n", 2, "speaker.volume", "truth value", None),
    ("not a number", "speaker:\n  wake_seconds: .nan\n", 2, "speaker.wake_seconds", "from 0 to 5", None),
    ("too large", "speaker:\n  volume: 101\n", 2, "speaker.volume", "too large", None),
    ("too small", "microphone:\n  frame_seconds: 0.01\n", 2, "microphone.frame_seconds", "from 0.1 to 1", None),
    (
        "not among the choices",
        "conversation:\n  mode: asistant\n",
        2,
        "conversation.mode",
        "expected one of",
        "assistant",
    ),
    (
        "rate not among the choices",
        "synthesis:\n  neuphonic:\n    sampling_rate: 22000\n",
        3,
        "synthesis.neuphonic.sampling_rate",
        "expected one of",
        "22050",
    ),
    ("no for a text", "synthesis:\n  neuphonic:\n    voice: no\n", 3, "synthesis.neuphonic.voice", "quotes", None),
    ("number for a text", "synthesis:\n  vachana:\n    voice: 12\n", 3, "synthesis.vachana.voice", '"12"', None),
    ("date for a text", "responder:\n  fallback: 2026-11-21\n", 2, "responder.fallback", "a date", None),
    ("missing text", "microphone:\n  device:\n", 2, "microphone.device", "missing", None),
    ("yes for true", "logging:\n  transcripts: yes\n", 2, "logging.transcripts", "write true", "true"),
    (
        "off for false",
        "conversation:\n  listen_while_speaking: off\n",
        2,
        "conversation.listen_while_speaking",
        "write false",
        "false",
    ),
    ("a server that starts on", "server:\n  start: on\n", 2, "server.start", "true or false", "true"),
    ("a server that starts sometimes", "server:\n  start: autom\n", 2, "server.start", "auto, true, false", "auto"),
    ("one value for a list", "synthesis:\n  services: fish, local\n", 2, "synthesis.services", "[fish, local]", None),
    ("empty list", "synthesis:\n  services: []\n", 2, "synthesis.services", "at least 1", None),
    (
        "unknown service",
        "synthesis:\n  services: [local, neufonic]\n",
        2,
        "synthesis.services[1]",
        "not known",
        "neuphonic",
    ),
    ("service twice", "synthesis:\n  services:\n    - local\n    - local\n", 4, "synthesis.services[1]", "once", None),
    ("section for a value", "speaker:\n  volume:\n    left: 3\n", 3, "speaker.volume", "a section is here", None),
    ("value for a section", "speaker: loud\n", 1, "speaker", "expected a section", None),
    ("list for a section", "speaker:\n  - volume: 3\n", 2, "speaker", "expected a section", None),
    ("list for the whole", "- speaker\n", 1, "", "expected a section", None),
    ("same key twice", "speaker:\n  volume: 3\n  volume: 4\n", 3, "speaker.volume", "a second time", None),
    ("same section twice", "speaker:\n  volume: 3\nlogging: {}\nspeaker: {}\n", 4, "speaker", "a second time", None),
    ("alias", "speaker:\n  volume: 3\nserver:\n  port: *it\n", 4, "server.port", "alias", None),
    ("value of an alias", "x-a: &it none\nspeaker:\n  volume: *it\n", 1, "speaker.volume", "a number", None),
    ("merge of a value", "speaker:\n  <<: 3\n", 2, "speaker", "merge key", None),
    ("merge of a list of values", "speaker:\n  <<: [{volume: 3}, 4]\n", 2, "speaker", "merge key", None),
    ("merge of an unknown key", "x-all: &all\n  loud: 3\nspeaker:\n  <<: *all\n", 2, "speaker.loud", "unknown", None),
    ("alias of itself", "speaker: &it\n  volume: *it\n", 1, "speaker.volume", "alias of itself", None),
    ("merge of itself", "speaker: &it\n  <<: *it\n", 1, "speaker", "alias of itself", None),
    ("alias of a section as a name", "x-a: &it {a: b}\n*it : 3\n", 2, "", "cannot be the name", None),
    ("regular expression", 'speaker:\n  device: "\\bcard"\n', 2, "speaker.device", "single quotes", None),
    ("regular expression, tab", 'speaker:\n  device: "\\tcard"\n', 2, "speaker.device", "single quotes", None),
    ("regular expression, digit", 'speaker:\n  device: "\\d+"\n', 2, "", "single quotes", None),
    ("regular expression, letter", 'speaker:\n  device: "\\Ncard"\n', 2, "speaker.device", "single quotes", None),
    (
        "no space after a colon",
        "speaker:\n  volume:80\n",
        2,
        "speaker",
        "a space is missing after the colon of volume:",
        None,
    ),
    ("no space, then a key", "speaker:\n  volume:80\n  wake_seconds: 1\n", 2, "", "after the colon of volume:", None),
    (
        "no space in braces",
        "speaker: {wake_seconds: 1, volume:80}\n",
        1,
        "speaker.volume:80",
        "colon of volume:",
        "volume",
    ),
    (
        "no space in a section",
        "speaker:{volume: 80}\n",
        1,
        "speaker:{volume",
        "a space is missing after the colon of speaker:",
        "speaker",
    ),
    ("no space after a dash", "synthesis:\n  services:\n    -local\n", 3, "synthesis.services", "after the dash", None),
    ("no space before a comment", "speaker:\n  volume: 80# loud\n", 2, "speaker.volume", "before its #", None),
    ("no-break space, end", "speaker:\n  device: USB\u00a0\n", 2, "speaker.device", "U+00A0", None),
    ("zero width space, value", "speaker:\n  device: \u200bUSB\n", 2, "speaker.device", "U+200B", None),
    ("typographic quotes", "speaker:\n  device: “USB”\n", 2, "speaker.device", "straight", None),
    ("typographic quotes, number", "speaker:\n  volume: „80“\n", 2, "speaker.volume", "straight", None),
    ("typographic quotes, choice", "logging:\n  level: ‘info’\n", 2, "logging.level", "straight", "info"),
    ("typographic quotes, name", "speaker:\n  “volume”: 80\n", 2, "speaker.“volume”", "straight", "volume"),
    ("no-break space", "speaker:\n  volume:\u00a080\n", 2, "speaker", "U+00A0", None),
    ("no-break space, indentation", "speaker:\n\u00a0 volume: 80\n", 2, "", "U+00A0", None),
    ("narrow no-break space", "speaker:\n  volume: 8\u202f0\n", 2, "speaker.volume", "U+202F", None),
    ("zero width space", "speaker:\n  \u200bvolume: 80\n", 2, "speaker.\\u200bvolume", "U+200B", "volume"),
    ("apostrophe", "responder:\n  fallback: 'I don't know'\n", 2, "", "in double quotes", None),
    ("braces", "responder:\n  fallback: {time} now\n", 2, "", "in double quotes", None),
    ("asterisks", "responder:\n  fallback: **no** way\n", 2, "", "begins with * or & needs quotes", None),
    ("equals sign", "speaker:\n  volume = 70\n", 2, "speaker", "write volume: with a colon for =", None),
    ("full-width colon", "speaker：\n  volume: 70\n", 1, "", "the full-width colon U+FF1A", None),
    ("zero width space", "speaker:\n  vol\u200bume: 70\n", 2, "speaker.vol\\u200bume", "U+200B, remove it", "volume"),
    ("Windows-1252", b"responder:\n  fallback: \x93Hi\x94\n", 2, "", "iconv -f CP1252", None),
    ("Latin-1", "responder:\n  rules: [] # für\n".encode("latin-1"), 2, "", "iconv -f LATIN1", None),
    ("UTF-16", "speaker:\n  volume: 3\n".encode("utf-16"), 1, "", "iconv -f UTF-16", None),
    ("UTF-16, big-endian", "\ufeffspeaker:\n  volume: 3\n".encode("utf-16-be"), 1, "", "iconv -f UTF-16", None),
    ("UTF-16 without a mark", "speaker:\n  volume: 3\n".encode("utf-16-le"), 1, "", "iconv -f UTF-16", None),
    ("tag", "speaker:\n  volume: !!python/object:os.system 3\n", 2, "speaker.volume", "tag", None),
    (
        "a host that is no valid name",
        "server:\n  host: a..b\n",
        2,
        "server.host",
        "not an address to listen on",
        "127.0.0.1",
    ),
    (
        "an export URL without a valid host",
        "transcription:\n  export_url: http://a..b/\n",
        2,
        "transcription.export_url",
        "names no host",
        None,
    ),
    ("half a character", 'control:\n  socket: "/run/\\ud800"\n', 2, "control.socket", "half of a character", None),
    (
        "half a character of a voice",
        'synthesis:\n  neuphonic:\n    voice: "\\ud800"\n',
        3,
        "synthesis.neuphonic.voice",
        "half of a character",
        None,
    ),
    ("second document", "speaker:\n  volume: 3\n---\nspeaker: {}\n", 3, "", "second document", None),
    ("tab", "speaker:\n\tvolume: 3\n", 2, "", "a tab", None),
    ("missing colon", "speaker:\n  volume 3\n  device: x\n", 3, "", "colon", None),
    ("sign that begins no value", "speaker:\n  device: @x\n", 2, "", "begins with '@' needs quotes", None),
    ("dotted key", "synthesis.neuphonic.speed: 1.2\n", 1, "synthesis.neuphonic.speed", "indented below", None),
    ("hexadecimal number", "server:\n  port: 0x10\n", 2, "server.port", "decimal", None),
    ("endless number", "server:\n  port: 1000000000000000000000\n", 2, "server.port", "too many digits", None),
    ("rule that is no section", "responder:\n  rules: [hello]\n", 2, "responder.rules[0]", "expected a section", None),
    ("open quote", 'speaker:\n  device: "x\n', 3, "", "not closed", None),
    ("broken indentation", "speaker:\n  volume: 3\n device: x\n", 3, "", "indented", None),
    ("depth", "speaker: " + "[" * 2000 + "\n", 1, "speaker", "nested deeper", None),
    ("bytes that are no text", b"speaker:\n  device: \xff\n", 2, "", "not UTF-8", None),
    ("control character", "speaker:\n  device: a\x07b\n", 2, "", "U+0007", None),
    ("control character in quotes", 'speaker:\n  device: "a\\x1b[2Jb"\n', 2, "speaker.device", "control", None),
    ("size", "# " + "x" * 70000 + "\n", 0, "", "64 KiB", None),
    ("key without a place", "transcription:\n  api_key: {}\n", 2, "transcription.api_key", "{credential: NAME}", None),
    (
        "key with two places",
        "transcription:\n  api_key: {env: A, file: B}\n",
        2,
        "transcription.api_key",
        "{credential: NAME}",
        None,
    ),
    (
        "key in an unknown place",
        "transcription:\n  api_key: {credentials: A}\n",
        2,
        "transcription.api_key",
        "{credential: NAME}",
        "credential",
    ),
    (
        "credential with a path",
        "transcription:\n  api_key: {credential: ../x}\n",
        2,
        "transcription.api_key",
        "no path",
        None,
    ),
    (
        "key file that is not there",
        "transcription:\n  api_key: {file: /nowhere/key}\n",
        2,
        "transcription.api_key",
        "does not exist",
        None,
    ),
    ("address of another kind", "transcription:\n  url: http://127.0.0.1/\n", 2, "transcription.url", "wss://", None),
    (
        "address without encryption",
        "transcription:\n  url: ws://stt.example.com/\n",
        2,
        "transcription.url",
        "allow_plaintext",
        None,
    ),
    (
        "TCP to a public host",
        "synthesis:\n  wyoming: {url: 'tcp://tts.example.com:10300'}\n",
        2,
        "synthesis.wyoming.url",
        "a host of the local network",
        None,
    ),
    ("port that is no number", "server:\n  wyoming: nine\n", 2, "server.wyoming", "or none", "none"),
    ("port out of range", "server:\n  wyoming: 70000\n", 2, "server.wyoming", "from 1 to 65535, or none", None),
    (
        "address with a key",
        "synthesis:\n  neuphonic:\n    url: wss://h/speak/en?api_key=k\n",
        3,
        "synthesis.neuphonic.url",
        "under api_key",
        None,
    ),
    (
        "address with a password",
        "synthesis:\n  fish:\n    url: wss://me:pw@h/\n",
        3,
        "synthesis.fish.url",
        "password",
        None,
    ),
    (
        "recording that is not there",
        "microphone:\n  device: file:/nowhere/a.wav\n",
        2,
        "microphone.device",
        "does not exist",
        None,
    ),
    (
        "question from a device",
        "microphone:\n  device: file:/dev/null\n",
        2,
        "microphone.device",
        "a device or a pipe",
        None,
    ),
    (
        "chime from a device",
        "conversation:\n  chime: file:/dev/null\n",
        2,
        "conversation.chime",
        "a device or a pipe",
        None,
    ),
    ("recording of another format", "speaker:\n  device: file:a.mp3\n", 2, "speaker.device", "type .mp3", None),
    (
        "recording into a device",
        "speaker:\n  device: file:/dev/null\n",
        2,
        "speaker.device",
        "a device or a pipe",
        None,
    ),
    ("nowhere to record", "speaker:\n  device: file:/nowhere/a.wav\n", 2, "speaker.device", "no directory", None),
    (
        "rate that Fish Audio refuses",
        "synthesis:\n  fish:\n    sample_rate: 22050\n",
        3,
        "synthesis.fish.sample_rate",
        "expected one of",
        "24000",
    ),
    (
        "rate that Neuphonic refuses",
        "synthesis:\n  neuphonic:\n    sampling_rate: 40000\n",
        3,
        "synthesis.neuphonic.sampling_rate",
        "expected one of",
        "44100",
    ),
    (
        "rate below the middle",
        "synthesis:\n  neuphonic:\n    sampling_rate: 12001\n",
        3,
        "synthesis.neuphonic.sampling_rate",
        "expected one of",
        "16000",
    ),
    (
        "format without a decoder",
        "synthesis:\n  playai:\n    output_format: flac\n",
        3,
        "synthesis.playai.output_format",
        "expected one of mp3, wav, raw, pcm, mulaw, ogg",
        None,
    ),
    (
        "rate that Opus refuses",
        "synthesis:\n  fish:\n    format: opus\n    sample_rate: 44100\n",
        4,
        "synthesis.fish.sample_rate",
        "48000",
        None,
    ),
    (
        "container that Vachana refuses",
        "synthesis:\n  vachana:\n    audio_config:\n      container: ogg\n",
        4,
        "synthesis.vachana.audio_config.container",
        "is not available in",
        None,
    ),
    (
        "mulaw at a high rate",
        "synthesis:\n  playai:\n    output_format: mulaw\n",
        3,
        "synthesis.playai.sample_rate",
        "8000",
        "8000",
    ),
    (
        "voice sample that is not there",
        "synthesis:\n  fish:\n    references:\n      - audio: /nowhere/a.wav\n        text: hi\n",
        4,
        "synthesis.fish.references[0].audio",
        "does not exist",
        None,
    ),
    (
        "header that ends early",
        'synthesis:\n  playai:\n    user_id: "a\\nb"\n',
        3,
        "synthesis.playai.user_id",
        "header",
        None,
    ),
    ("webhook without address", "responder:\n  kind: webhook\n", 2, "responder.webhook.url", "empty", None),
    ("command without program", "responder:\n  kind: command\n", 2, "responder.command.argv", "PROGRAM", None),
    (
        "command that is not there",
        "responder:\n  kind: command\n  command:\n    argv: [nowhere-to-be-found]\n",
        4,
        "responder.command.argv",
        "no program",
        None,
    ),
    (
        "pattern that is none",
        "responder:\n  rules:\n    - pattern: '(a'\n      reply: b\n",
        3,
        "responder.rules[0].pattern",
        "no regular expression",
        None,
    ),
    (
        "reply that cannot be filled in",
        "responder:\n  rules:\n    - pattern: a\n      reply: 'It is {tiem}'\n",
        4,
        "responder.rules[0].reply",
        "{tiem}",
        "time",
    ),
    (
        "buffer below a period",
        "speaker:\n  period_seconds: 0.2\n  buffer_seconds: 0.1\n",
        3,
        "speaker.buffer_seconds",
        "less than one period",
        None,
    ),
    (
        "pause as long as a turn",
        "conversation:\n  turn_seconds: 2\n  silence_seconds: 3\n",
        3,
        "conversation.silence_seconds",
        "no shorter",
        None,
    ),
    ("socket without a full path", "control:\n  socket: ./x\n", 2, "control.socket", "begins with /", None),
    (
        "responder of a wake word that does not exist",
        "wake:\n  engine: micro\n  words:\n    alexa: opnai\n",
        4,
        "wake.words",
        "no responder for alexa",
        "openai",
    ),
    ("unknown wake word", "wake:\n  engine: micro\n  words: [computer]\n", 3, "wake.words", "no wake word", None),
    ("wake word with vosk and no model", "wake:\n  engine: vosk\n", 2, "wake.model_path", "needs a model", None),
    (
        "wake word without a name",
        "wake:\n  engine: micro\n  words:\n  - alexa\n  - {alexa: rules, b: echo}\n",
        5,
        "wake.words[1]",
        "a section is here",
        None,
    ),
    ("vosk without a model", "server:\n  recognition: vosk\n", 2, "server.model_path", "directory", None),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "part", "suggestion"), [pytest.param(*row[1:], id=row[0]) for row in BROKEN]
)
def test_issue_has_file_line_key_expectation_and_suggestion(
    tmp_path: Path, text: str | bytes, line: int, key: str, part: str, suggestion: str | None
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert isinstance(caught.value, ConfigIssues)
    assert caught.value.exit_code == 78
    place = f"{path}:{line}" if line else str(path)
    lines = [str(issue) for issue in caught.value.issues]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{place}: {key}: " if key else f"{place}: "), lines
    assert part in lines[0], lines
    assert caught.value.issues[0].suggestion == suggestion, lines
    assert suggestion is None or f'(did you mean "{suggestion}"?)' in lines[0]
    assert str(caught.value) == lines[0]


def test_table_has_forty_configurations() -> None:
    assert len(BROKEN) >= 40


def test_every_broken_configuration_exits_with_78_without_traceback(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom agent.cli.config import check, show\n"
        "for path in sys.argv[1:]:\n"
        "    print(path, check(path, {}), show(path, {}))\n"
    )
    paths = []
    for index, (_, text, *_) in enumerate(BROKEN):
        path = tmp_path / f"{index}.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o644)
        paths.append(str(path))
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{path} 78 78" for path in paths]
    assert "Traceback" not in done.stderr
    assert all(f"{path}:" in done.stderr for path in paths)


def test_all_issues_are_reported_in_line_order(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("responder: {kind: unknown}\nspeaker:\n  volume: 1000\n  devise: x\n  volume: 3\n")
    with pytest.raises(ConfigIssues) as caught:
        load(path, {"VOICE_AGENT_SERVER__PORT": "many"})
    where = [issue.where for issue in caught.value.issues]
    assert where == [f"{path}:1", f"{path}:3", f"{path}:4", f"{path}:5", "VOICE_AGENT_SERVER__PORT"]
    assert len(str(caught.value).splitlines()) == 5


def test_mistyped_key_is_not_reported_as_missing_too(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("responder:\n  kind: webhook\n  webhook: {ulr: https://h/}\n")
    with pytest.raises(ConfigIssues) as caught:
        load(path, {})
    assert [issue.key for issue in caught.value.issues] == ["responder.webhook.ulr"]


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "config.yaml"
    for text in ("", "# nothing\n", "---\n", "speaker:\n", "\ufeffspeaker: {}\n"):
        empty.write_text(text)
        assert load(empty, {}) == Config()
    assert load(None, {}) == Config()


def test_system_file_is_read_without_a_path(system_config: Path) -> None:
    path = system_config
    path.parent.mkdir()
    path.write_text("speaker: {volume: 3}\n")
    assert load_with_origins(None, {}).path == path
    assert load(None, {}).speaker.volume == 3


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: None, id="missing"),
        pytest.param(lambda path: path.mkdir(), id="a directory"),
        pytest.param(lambda path: os.mkfifo(path), id="a pipe without a writer"),
        pytest.param(lambda path: path.symlink_to(path), id="a link to itself"),
    ],
)
def test_path_that_is_no_file_is_one_issue(tmp_path: Path, make: object) -> None:
    path = tmp_path / "config.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_world_writable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("speaker: {volume: 3}\n")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="every user can write"):
        load(path, {})
    path.chmod(0o644)
    assert load(path, {}).speaker.volume == 3


def test_inline_secret_requires_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("transcription:\n  api_key: sk-very-secret\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert f"{path}:2: transcription.api_key: " in str(caught.value)
    assert "very-secret" not in str(caught.value)
    path.chmod(0o600)
    config = load(path, {})
    assert config.transcription.api_key.reveal() == "sk-very-secret"
    assert "very-secret" not in repr(config)


@pytest.mark.parametrize(
    "text",
    [
        "api_key: [sk-very-secret]",
        "api_key: {sk-very-secret: credential}",
        "api_key: {credential: sk-very-secret/x}",
        "api_key: {env: sk-very-secret}",
        "api_key: *sk-very-secret",
        "api_key: &sk-very-secret x",
        "{api_key:sk-very-secret}",
        "{api_key = sk-very-secret}",
        "{sk-very-secret}",
        "api_key: {credential: !sk-very-secret!x}",
        "api_key: sk-very-secret #x",
        "api_key: !sk-very-secret x",
        'api_key: "sk-very-secret',
        'api_key: "sk-very-secret\\n"',
    ],
)
def test_no_issue_quotes_the_value_of_a_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"transcription:\n  {text}\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert "very-secret" not in str(caught.value)


def test_comment_behind_an_inline_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("transcription:\n  api_key: abc #def\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="quotes"):
        load(path, {})
    path.write_text('transcription:\n  api_key: "abc #def"  # mine\n')
    assert load(path, {}).transcription.api_key.reveal() == "abc #def"


@pytest.mark.parametrize(
    "text",
    ["led:\n gpio: [" + "99," * 9900 + "]\n", "web:\n origins: [" + "'x y'," * 9000 + "]\n"],
    ids=["numbers", "texts"],
)
def test_thousands_of_issues_in_one_line_are_found_within_5_seconds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    start = time.thread_time()
    with pytest.raises(ConfigError):
        load(path, {})
    assert time.thread_time() - start < 5


def test_issue_has_no_terminal_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text('"\\e]0;x\\a\\u202e": 1\nspeaker:\n  volume: "\\e[2J"\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)
    assert "\\x1b]0;x\\x07\\u202e" in str(caught.value)


def test_origin_is_the_line_or_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    speech = "synthesis:\n  services: [fish, local]\n  fish:\n    prosody: {speed: 1.5}\n"
    path.write_text(f"speaker:\n  volume: 3\n{speech}")
    loaded = load_with_origins(path, {"VOICE_AGENT_SPEAKER__DEVICE": "none", "VOICE_AGENT_SPEAKER__VOLUME": "7"})
    assert loaded.path == path
    assert loaded.config.speaker.volume == 7
    assert loaded.config.synthesis.services == ("fish", "local")
    assert loaded.config.synthesis.settings("fish").prosody.speed == 1.5
    assert loaded.origins["speaker.volume"] == "VOICE_AGENT_SPEAKER__VOLUME"
    assert loaded.origins["speaker.device"] == "VOICE_AGENT_SPEAKER__DEVICE"
    assert loaded.origins["synthesis.services"] == f"{path}:4"
    assert loaded.origins["synthesis.fish.prosody.speed"] == f"{path}:6"
    assert "microphone.device" not in loaded.origins


def test_allowed_plaintext_url_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("transcription:\n  url: ws://stt.example.com/\n  allow_plaintext: true\n")
    warned = load_with_origins(path, {}).warnings
    assert [line.split(": ")[:2] for line in warned] == [[f"{path}:2", "transcription.url"]]


def test_merge_key_bomb_is_refused_early(tmp_path: Path) -> None:
    # Each level of this doubles what PyYAML's own loader holds: 772 bytes cost it seconds and a hundred megabytes.
    path = tmp_path / "config.yaml"
    levels = "".join(f"a{level}: &a{level}\n  <<: [*a{level - 1}, *a{level - 1}]\n" for level in range(1, 30))
    path.write_text(f"a0: &a0 {{b: c}}\n{levels}")
    with pytest.raises(ConfigError, match="more than 10000 values"):
        load(path, {})


@pytest.mark.parametrize(
    "text",
    [
        "speaker: {volume: &loud 80}\nserver: {port: *loud}\n",
        "x-common: &all\n  volume: 80\nspeaker:\n  <<: *all\nserver: {port: 80}\n",
        "x-common: &all {volume: 20, wake_seconds: 0.5}\nspeaker: {<<: *all, volume: 80}\nserver: {port: 80}\n",
        "x-a: &a {volume: 80}\nx-b: &b {volume: 20}\nspeaker:\n  <<: [*a, *b]\nserver: {port: 80}\n",
        "speaker:\n  volume: 80\n  <<: {volume: 20}\nserver: {port: 80}\n",
        "x-root: &root\n  speaker: {volume: 80}\n  server: {port: 80}\n<<: *root\n",
        "x-a: &it 20\nx-b: &it 80\nspeaker: {volume: *it}\nserver: {port: *it}\n",
        "x-a: &name volume\nspeaker: {*name : 80}\nserver: {port: 80}\n",
    ],
)
def test_aliases_and_merge_keys_are_resolved(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config = load(path, {})
    assert (config.speaker.volume, config.server.port) == (80, 80)


def test_error_in_a_merged_value_has_the_line_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("x-loud: &loud\n  volume: 101\nspeaker:\n  <<: *loud\n")
    with pytest.raises(ConfigIssues) as caught:
        load(path, {})
    (issue,) = caught.value.issues
    assert (issue.where, issue.key) == (f"{path}:2", "speaker.volume")


@pytest.mark.parametrize(
    "text",
    [
        "x-0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
        "x-0: &a0 {k: v}\n" + "".join(f"x-{i}: &a{i} {{k: *a{i - 1}}}\n" for i in range(1, 2500)),
        "x-0: &a0 [" + "x, " * 200 + "x]\nx-1: [" + "*a0, " * 9000 + "*a0]\n",
    ],
    ids=["lists of lists", "depth", "many aliases"],
)
def test_expanded_size_of_aliases_is_limited(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigIssues) as caught:
        load(path, {})
    assert "expected fewer" in caught.value.issues[0].what


def test_an_empty_path_is_reported_as_the_option() -> None:
    with pytest.raises(ConfigIssues) as caught:
        load("", {})
    (issue,) = caught.value.issues
    assert issue.where == "--config" and "empty" in issue.what and "without --config" in issue.what


@pytest.mark.parametrize(
    "text",
    [
        "control: {socket: /run/x.sock}\nspeaker: {volume: 101}\n",
        "speaker: [1\ncontrol:\n  socket: /run/x.sock\nlogging: {}\n",
        'control:\n  socket: /run/x.sock\nspeaker:\n  device: "\\d"\n',
        "# für\ncontrol:\n  socket: /run/x.sock\n".encode("latin-1"),
        "control:\n  socket: /run/x.sock\n".encode("utf-16"),
        "logging:\n\tlevel: info\ncontrol: {socket: /run/x.sock}\n",
    ],
)
def test_errors_carry_the_usable_part_of_the_configuration(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigIssues) as caught:
        load(path, {})
    assert caught.value.usable.control.socket == "/run/x.sock"
    assert caught.value.usable.speaker.volume == 100


def test_correct_parts_of_a_line_are_no_cure(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "responder:\n  rules:\n    - {pattern: \"a:b “x”\", reply: 'It’s 5:30', loud: 3}  # a “b” c:d\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigIssues) as caught:
        load(path, {})
    (issue,) = caught.value.issues
    assert issue.key == "responder.rules[0].loud" and ";" not in issue.what
