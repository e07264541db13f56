"""Tests of the rules of the configuration: every accepted audio format has a decoder."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from agent.audio.decoders.decoder import create_decoder
from agent.config.fields import fields_of
from agent.errors import ConfigError
from agent.pipeline.responders.settings import INTENT_LANGUAGES, HomeAssistantSettings, IntentSettings
from agent.services.protocols import fish, playai, vachana
from agent.settings.checks import findings
from agent.settings.loader import load
from agent.settings.model import Config


def _choices(cls: type, key: str) -> tuple[object, ...]:
    return fields_of(cls)[key].choices


@pytest.mark.parametrize("output_format", _choices(playai.Settings, "output_format"))
def test_every_accepted_format_of_playai_has_a_decoder(output_format: str) -> None:
    encoding = playai.encoding_of(output_format, 24000)
    create_decoder(encoding.container, encoding.samples, 24000, 1)


def test_every_accepted_audio_config_of_vachana_has_a_decoder() -> None:
    keys = ("encoding", "container", "sample_rate", "sample_width", "num_channels")
    accepted = 0
    for values in itertools.product(*(_choices(vachana.AudioSettings, key) for key in keys)):
        audio = vachana.AudioSettings(**dict(zip(keys, values, strict=True)))
        config = Config()
        synthesis = config.synthesis.with_settings("vachana", vachana.Settings(audio_config=audio))
        config = config._replace(synthesis=synthesis)
        if any(finding.key.startswith("synthesis.vachana") for finding in findings(config)):
            continue
        accepted += 1
        audio_config = vachana.read_audio_config(audio)
        assert isinstance(audio_config, dict), (audio, audio_config)
        encoding = vachana.encoding_of(audio_config)
        create_decoder(encoding.container, encoding.samples, 48000, encoding.channels)
    assert accepted > 20


@pytest.mark.parametrize("format", _choices(fish.Settings, "format"))
def test_every_accepted_format_of_fish_audio_has_a_decoder(format: str) -> None:
    create_decoder({"pcm": "raw"}.get(format, format), "s16le", 44100, 1)


@pytest.mark.parametrize(
    ("listens", "interrupt", "canceller", "keys"),
    [
        (False, "never", "none", []),
        (True, "never", "none", []),
        (False, "speech", "speex", []),
        (False, "word", "speex", []),
        (False, "never", "speex", []),
        (False, "speech", "none", ["conversation.interrupt"]),
        (False, "word", "none", ["conversation.interrupt"]),
        (True, "never", "speex", ["conversation.listen_while_speaking"]),
        (True, "speech", "speex", ["conversation.interrupt", "conversation.listen_while_speaking"]),
    ],
)
def test_interruption_needs_a_canceller_and_excludes_a_microphone_with_one(
    listens: bool, interrupt: str, canceller: str, keys: list[str]
) -> None:
    config = Config()
    conversation = config.conversation._replace(listen_while_speaking=listens, interrupt=interrupt)
    config = config._replace(conversation=conversation, echo=config.echo._replace(canceller=canceller))
    assert [each.key for each in findings(config) if each.key.startswith(("conversation", "echo"))] == keys


@pytest.mark.parametrize(
    ("intents", "key", "what"),
    [
        (IntentSettings("none", HomeAssistantSettings("http://home.local:8123")), "language", "Home Assistant gets no"),
        (IntentSettings("en", HomeAssistantSettings("http://example.com")), "home_assistant.url", "without encryption"),
        (IntentSettings("en", HomeAssistantSettings("home.local:8123")), "home_assistant.url", "the address"),
    ],
)
def test_home_assistant_needs_a_language_and_an_address_that_keeps_the_token(
    intents: IntentSettings, key: str, what: str
) -> None:
    config = Config()
    (finding,) = findings(config._replace(responder=config.responder._replace(intents=intents)))
    assert finding.key == f"responder.intents.{key}" and what in finding.what


def test_requests_need_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hassil", None)
    config = Config()
    intents = IntentSettings("en")
    (finding,) = findings(config._replace(responder=config.responder._replace(intents=intents)))
    assert finding.key == "responder.intents.language" and "scripts/run --spoken-requests" in finding.what


def test_unsupported_language_of_requests_is_one_error_that_lists_the_others(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("responder: {intents: nl}\n")
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    (line,) = str(caught.value).splitlines()
    assert "responder.intents" in line and all(code in line for code in INTENT_LANGUAGES)
