from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.display import describe, entries
from agent.config.secrets import Secret
from agent.settings.loader import load, load_with_origins
from agent.settings.model import Config


def reload(text: str, tmp_path: Path) -> Config:
    path = tmp_path / "shown.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load(path, {})


def test_shown_configuration_can_be_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "synthesis:\n  fish: {temperature: 0.123456789012345, sample_rate: 24000}\n"
        "  neuphonic: {voice: 'no', temperature: null}\n"
        'responder:\n  fallback: "a \'b\' \\\\ \\" # c: \\U0001F600 \\u202e ä"\n  rules: []\n'
        "server: {start: false}\ntranscription: {api_key: {env: STT}}\nwake: {sensitivity: 0.00001}\n"
    )
    loaded = load_with_origins(path, {})
    shown = describe(loaded.config, loaded.origins)
    assert reload(shown, tmp_path) == loaded.config
    assert "\u202e" not in shown
    assert reload(describe(Config(), {}), tmp_path) == Config()


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_shown_text_has_no_control_characters(text: str) -> None:
    config = Config()
    responder = config.responder._replace(fallback=text)
    shown = describe(config._replace(responder=responder), {})
    assert all(letter.isprintable() or letter in "\n" for letter in shown)
    assert sum(line.startswith("  fallback: ") for line in shown.split("\n")) == 1


def test_each_line_has_the_origin_of_its_value(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("speaker:\n  volume: 3\n")
    loaded = load_with_origins(path, {"VOICE_AGENT_SERVER__PORT": "1234"})
    lines = [line.split("  #") for line in describe(loaded.config, loaded.origins).splitlines() if "  #" in line]
    where = {parts[0].strip(): parts[1].strip() for parts in lines}
    assert where["volume: 3"] == f"{path}:2"
    assert where["port: 1234"] == "VOICE_AGENT_SERVER__PORT"
    assert where["level: info"] == "default"
    found = {entry["key"]: entry for entry in entries(loaded.config, loaded.origins)}
    assert found["speaker.volume"] == {"key": "speaker.volume", "value": 3, "origin": f"{path}:2"}
    assert found["synthesis.fish.prosody.speed"]["origin"] == "default"


def test_secret_is_shown_as_its_place(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("transcription: {api_key: sk-very-secret}\n")
    path.chmod(0o600)
    loaded = load_with_origins(path, {"VOICE_AGENT_SYNTHESIS__FISH__API_KEY": "{env: FISH_KEY}"})
    shown = describe(loaded.config, loaded.origins)
    assert "very-secret" not in shown
    assert "very-secret" not in repr(entries(loaded.config, loaded.origins))
    assert 'api_key: "***"' in shown
    assert "api_key: {env: FISH_KEY}" in shown
    assert "api_key: {credential: neuphonic}" in shown
    assert "very-secret" not in repr(Secret(value="very-secret"))
