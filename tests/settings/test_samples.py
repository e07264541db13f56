"""Tests of the shipped files: the sample with every key, the examples, the schema and the generated documents."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agent.config.fields import fields_of
from agent.config.json_schema import LOCATION, schema
from agent.settings.loader import load, load_with_origins
from agent.settings.model import Config

CONFIG = Path(__file__).parents[2] / "config"
FILES = ("agent.yaml", "kiosk.yaml", "smart-speaker.yaml", "captions.yaml")


def every_key(cls: Any, path: str = "") -> list[str]:
    found = []
    for name, field in fields_of(cls).items():
        dotted = f"{path}.{name}" if path else name
        found += every_key(field.cls, dotted) if field.kind == "section" else [dotted]
    return found


def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(schema(Config))
    return jsonschema.Draft202012Validator(schema(Config))


def test_sample_equals_the_defaults() -> None:
    assert load(CONFIG / "agent.yaml", {}) == Config()


def test_sample_has_every_key_below_a_comment() -> None:
    loaded = load_with_origins(CONFIG / "agent.yaml", {})
    lines = (CONFIG / "agent.yaml").read_text().splitlines()
    missing = [key for key in every_key(Config) if key not in loaded.origins]
    assert missing == []
    for key in every_key(Config):
        key_line = next(
            number
            for number in range(int(loaded.origins[key].rpartition(":")[2]), 0, -1)
            if lines[number - 1].strip().startswith(f"{key.rpartition('.')[2]}:")
        )
        assert lines[key_line - 2].strip().startswith("# "), f"line {key_line}: {key} has no comment"


@pytest.mark.parametrize("name", FILES)
def test_shipped_file_is_valid_and_names_the_schema(name: str) -> None:
    text = (CONFIG / name).read_text()
    assert text.startswith(f"# yaml-language-server: $schema={LOCATION}\n")
    assert load_with_origins(CONFIG / name, {}).warnings == ()
    validator().validate(yaml.safe_load(text))


def test_examples_do_what_their_names_say() -> None:
    kiosk, captions = load(CONFIG / "kiosk.yaml", {}), load(CONFIG / "captions.yaml", {})
    speaker = load(CONFIG / "smart-speaker.yaml", {})
    assert (kiosk.conversation.mode, kiosk.microphone.device) == ("announce", "none")
    assert (captions.conversation.mode, captions.speaker.device) == ("captions", "none")
    assert (speaker.conversation.mode, speaker.wake.engine, speaker.responder.kind) == ("assistant", "micro", "rules")
    assert speaker.responder.settings("openai").model


def test_captions_example_sets_no_key_of_turns() -> None:
    assert list(yaml.safe_load((CONFIG / "captions.yaml").read_text())["conversation"]) == ["mode"]


def test_generated_files_equal_the_code() -> None:
    done = subprocess.run([CONFIG.parent / "scripts/generate", "--check"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("speaker", "volume"), 101),
        (("speaker", "volume"), "80"),
        (("speaker", "volume"), 80.5),
        (("speaker", "volum"), 80),
        (("conversation", "mode"), "asistant"),
        (("synthesis", "services"), []),
        (("synthesis", "services"), ["local", "local"]),
        (("synthesis", "services"), ["unknown"]),
        (("synthesis", "fish", "sample_rate"), 22050),
        (("synthesis", "fish", "references"), [{"audios": "x"}]),
        (("synthesis", "neuphonic", "voice"), None),
        (("transcription", "api_key"), {"credential": "a", "env": "B"}),
        (("transcription", "api_key"), {"credential": "../a"}),
        (("server", "start"), "on"),
        (("extra",), {}),
    ],
)
def test_schema_rejects_invalid_values(path: tuple[str, ...], value: object) -> None:
    broken = copy.deepcopy(yaml.safe_load((CONFIG / "agent.yaml").read_text()))
    section = broken
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(broken)


def test_schema_accepts_null_for_optional_keys_and_sections() -> None:
    validator().validate({"speaker": None, "synthesis": {"fish": {"sample_rate": None, "reference_id": None}}})
    validator().validate(
        {"hooks": {"wake": None}, "led": {"gpio": None}, "web": {"origins": None}, "wake": {"words": None}}
    )
