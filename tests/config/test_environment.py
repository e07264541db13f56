from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.environment import variable
from agent.config.errors import ConfigIssues
from agent.settings.loader import load, load_with_origins
from agent.settings.model import Config


def issues_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigIssues) as caught:
        load(None, environ)
    return str(caught.value).splitlines()


def test_variable_overrides_the_default() -> None:
    config = load(
        None,
        {
            "VOICE_AGENT_SHUTDOWN_SECONDS": "3",
            "VOICE_AGENT_SPEAKER__VOLUME": "70",
            "VOICE_AGENT_SYNTHESIS__SERVICES": "[neuphonic, local]",
            "VOICE_AGENT_SYNTHESIS__NEUPHONIC__SPEED": "1.5",
            "VOICE_AGENT_SYNTHESIS__FISH__PROSODY__VOLUME": "-3",
            "VOICE_AGENT_SYNTHESIS__NEUPHONIC__TEMPERATURE": "null",
            "VOICE_AGENT_SERVER__START": "false",
            "VOICE_AGENT_TRANSCRIPTION__API_KEY": "{env: STT_KEY}",
            "VOICE_AGENT_RESPONDER__RULES": "[{pattern: moo, reply: Moo.}]",
        },
    )
    assert config.shutdown_seconds == 3.0
    assert config.speaker.volume == 70
    assert config.synthesis.services == ("neuphonic", "local")
    assert config.synthesis.settings("neuphonic").speed == 1.5
    assert config.synthesis.settings("neuphonic").temperature is None
    assert config.synthesis.settings("fish").prosody.volume == -3.0
    assert config.server.start is False
    assert config.transcription.api_key.env == "STT_KEY"
    assert [rule.reply for rule in config.responder.rules] == ["Moo."]


def test_text_is_used_as_it_is() -> None:
    config = load(
        None,
        {
            "VOICE_AGENT_SYNTHESIS__NEUPHONIC__VOICE": "no",
            "VOICE_AGENT_SYNTHESIS__VACHANA__VOICE": "1:30",
            "VOICE_AGENT_RESPONDER__FALLBACK": "Sorry: I # did not *understand*",
            "VOICE_AGENT_RESPONDER__OPENAI__SYSTEM": "'in quotes'",
            "VOICE_AGENT_TRANSCRIPTION__EXPORT_URL": "",
            "VOICE_AGENT_MICROPHONE__DEVICE": "USB: PnP",
        },
    )
    assert config.synthesis.settings("neuphonic").voice == "no"
    assert config.synthesis.settings("vachana").voice == "1:30"
    assert config.responder.fallback == "Sorry: I # did not *understand*"
    assert config.responder.settings("openai").system == "in quotes"
    assert config.transcription.export_url is None
    assert config.microphone.device == "USB: PnP"


@pytest.mark.parametrize("text", ["{now} is the time", "[pause] well", "'tis late", '"Yes" or "no"?'])
def test_text_that_begins_like_yaml_is_used_as_it_is(text: str) -> None:
    assert load(None, {"VOICE_AGENT_RESPONDER__OPENAI__SYSTEM": text}).responder.settings("openai").system == text


def test_variables_of_a_hook_set_no_key() -> None:
    environ = {"VOICE_AGENT_EVENT": "state", "VOICE_AGENT_EVENT_STATE": "idle", "VOICE_AGENT_SPEAKER__VOLUME": "70"}
    assert load(None, environ).speaker.volume == 70


def test_variable_of_a_key_overrides_that_of_its_section() -> None:
    environ = {
        "VOICE_AGENT_SYNTHESIS__FISH__PROSODY__SPEED": "1.5",
        "VOICE_AGENT_SYNTHESIS": "{fish: {latency: low, prosody: {speed: 0.5, volume: 2}}}",
    }
    fish = load(None, environ).synthesis.settings("fish")
    assert (fish.latency, fish.prosody.speed, fish.prosody.volume) == ("low", 1.5, 2.0)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("SPEEKER__VOLUME", "3", "unknown variable"),
        ("SPEAKER_VOLUME", "3", '(did you mean "VOICE_AGENT_SPEAKER__VOLUME"?)'),
        ("speaker__volume", "3", "unknown variable"),
        ("", "3", "unknown variable"),
        ("SPEAKER__VOLUME__LEFT", "3", "unknown variable"),
        ("SPEAKER__VOLUME", "", "speaker.volume: the value is missing"),
        ("SPEAKER__VOLUME", "loud", 'speaker.volume: "loud" is not a number, expected a whole number from 0 to 100'),
        ("SPEAKER__VOLUME", "70 # percent", "truncates the value"),
        ("SPEAKER__VOLUME", "[", "this is not YAML"),
        ("SYNTHESIS__SERVICES", "[fish", "the [ here is not closed by its ]"),
        ("SPEAKER__VOLUME", "*x", "alias"),
        ("SPEAKER__VOLUME", "1" * 70000, "64 KiB"),
        ("SPEAKER__DEVICE", "a\x1b[2Jb", "control character"),
        ("SYNTHESIS__SERVICES", "fish,loca", '(did you mean "local"?)'),
        ("SYNTHESIS__SERVICES", "fish,fish", "is in the list already"),
        ("SYNTHESIS__SERVICES", "", "synthesis.services: a single value is here, expected a list: write"),
        ("TRANSCRIPTION__URL", "ws://stt.example.com", "transcription.url: ws:// to stt.example.com"),
        ("LOGGING__TRANSCRIPTS", "1", "logging.transcripts"),
    ],
)
def test_issue_names_the_variable(name: str, value: str, line: str) -> None:
    lines = issues_of({f"VOICE_AGENT_{name}": value})
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"VOICE_AGENT_{name}: ")
    assert line in lines[0]


def test_secret_in_a_variable_is_used_and_never_shown() -> None:
    config = load(None, {"VOICE_AGENT_TRANSCRIPTION__API_KEY": "0123456 # 89"})
    assert config.transcription.api_key.reveal() == "0123456 # 89"
    assert "0123456" not in repr(config)
    assert "very-secret" not in issues_of({"VOICE_AGENT_TRANSCRIPTION__API_KEY": "very-secret\n" * 2})[0]
    assert "very-secret" not in issues_of({"VOICE_AGENT_TRANSCRIPTION__API_KEY": "[very-secret]"})[0]


def test_variable_of_a_secret_may_have_the_prefix(tmp_path: Path) -> None:
    assert issues_of({"VOICE_AGENT_STT": "k"})[0].startswith("VOICE_AGENT_STT: unknown variable")
    path = tmp_path / "config.yaml"
    path.write_text("transcription: {api_key: {env: VOICE_AGENT_STT}}\n")
    assert load(path, {"VOICE_AGENT_STT": "k"}).transcription.api_key.env == "VOICE_AGENT_STT"
    environ = {"VOICE_AGENT_TRANSCRIPTION__API_KEY": "{env: VOICE_AGENT_STT}", "VOICE_AGENT_STT": "k"}
    assert load(None, environ).transcription.api_key.env == "VOICE_AGENT_STT"


def test_variables_without_the_prefix_are_ignored() -> None:
    assert load(None, {"VOICE_AGENTS": "x", "PATH": "/", "MY_VOICE_AGENT_X": ""}) == Config()


def test_variable_name_is_derived_from_the_key() -> None:
    assert variable("synthesis.neuphonic.speed") == "VOICE_AGENT_SYNTHESIS__NEUPHONIC__SPEED"
    assert variable("shutdown_seconds") == "VOICE_AGENT_SHUTDOWN_SECONDS"


@pytest.mark.parametrize(
    ("value", "services"),
    [
        ("neuphonic,local", ("neuphonic", "local")),
        ("neuphonic, local,", ("neuphonic", "local")),
        ('"neuphonic", "local"', ("neuphonic", "local")),
        (" fish , vachana,local", ("fish", "vachana", "local")),
        ("local", ("local",)),
        ("[neuphonic, local]", ("neuphonic", "local")),
        ('["fish"]', ("fish",)),
        ("- fish\n- local", ("fish", "local")),
    ],
)
def test_list_may_be_separated_by_commas(value: str, services: tuple[str, ...]) -> None:
    assert load(None, {"VOICE_AGENT_SYNTHESIS__SERVICES": value}).synthesis.services == services


CONTAINER_VARIABLES = {
    "VOICE_AGENT_PORT": "tcp://10.96.0.12:8394",
    "VOICE_AGENT_PORT_8394_TCP": "tcp://10.96.0.12:8394",
    "VOICE_AGENT_PORT_8394_TCP_PROTO": "tcp",
    "VOICE_AGENT_PORT_8394_TCP_ADDR": "10.96.0.12",
    "VOICE_AGENT_SERVICE_HOST": "10.96.0.12",
    "VOICE_AGENT_SERVICE_PORT": "8394",
    "VOICE_AGENT_SERVICE_PORT_HTTP": "8394",
    "VOICE_AGENT_SERVER_PORT": "udp://10.96.0.12:53",
}


@pytest.mark.parametrize("name", CONTAINER_VARIABLES)
def test_variable_of_a_container_system_is_a_warning(name: str) -> None:
    (warning,) = load_with_origins(None, {name: CONTAINER_VARIABLES[name]}).warnings
    assert warning.startswith(f"{name}: ") and "ignored" in warning


def test_variables_of_a_container_system_are_one_warning() -> None:
    loaded = load_with_origins(None, {**CONTAINER_VARIABLES, "VOICE_AGENT_SERVER__PORT": "8400"})
    assert loaded.config.server.port == 8400
    (warning,) = loaded.warnings
    assert f"{len(CONTAINER_VARIABLES) - 1} more" in warning


@pytest.mark.parametrize("name", ["VOICE_AGENT_PORT", "VOICE_AGENT_SERVER_PORT"])
def test_variable_with_a_number_is_no_variable_of_a_container_system(name: str) -> None:
    (line,) = issues_of({name: "8394"})
    assert line.startswith(f"{name}: unknown variable")
