"""The files that are shipped: the sample that documents every key, the three examples, the schema."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agent.cli.config import schema_text
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


def test_the_sample_equals_the_defaults() -> None:
    assert load(CONFIG / "agent.yaml", {}) == Config()


def test_the_sample_holds_every_key_with_a_comment_above_it() -> None:
    loaded = load_with_origins(CONFIG / "agent.yaml", {})
    lines = (CONFIG / "agent.yaml").read_text().splitlines()
    missing = [key for key in every_key(Config) if key not in loaded.origins]
    assert missing == []
    for key in every_key(Config):
        shape_line = next(
            number
            for number in range(int(loaded.origins[key].rpartition(":")[2]), 0, -1)
            if lines[number - 1].strip().startswith(f"{key.rpartition('.')[2]}:")
        )
        assert lines[shape_line - 2].strip().startswith("# "), f"line {shape_line}: {key} has no comment"


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_is_valid_and_names_the_schema_at_its_top(name: str) -> None:
    text = (CONFIG / name).read_text()
    assert text.startswith(f"# yaml-language-server: $schema={LOCATION}\n")
    assert load_with_origins(CONFIG / name, {}).warnings == ()
    validator().validate(yaml.safe_load(text))


def test_the_examples_do_what_they_are_named_for() -> None:
    kiosk, captions = load(CONFIG / "kiosk.yaml", {}), load(CONFIG / "captions.yaml", {})
    speaker = load(CONFIG / "smart-speaker.yaml", {})
    assert (kiosk.conversation.mode, kiosk.microphone.device) == ("announce", "none")
    assert (captions.conversation.mode, captions.speaker.device) == ("captions", "none")
    assert (speaker.conversation.mode, speaker.responder.kind) == ("assistant", "openai")


def test_the_captions_set_no_turns_which_they_do_not_take() -> None:
    """``turn_seconds: 60`` stood there and did nothing: captions are one stretch without an end."""
    assert list(yaml.safe_load((CONFIG / "captions.yaml").read_text())["conversation"]) == ["mode"]


def test_the_packaged_schema_is_the_one_that_is_printed() -> None:
    text = (CONFIG / "schema.json").read_text()
    assert text == schema_text()
    assert json.loads(text) == schema(Config)


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
        (("synthesis", "services"), ["nobody"]),
        (("synthesis", "fish", "sample_rate"), 22050),
        (("synthesis", "fish", "references"), [{"audios": "x"}]),
        (("synthesis", "neuphonic", "voice"), None),
        (("transcription", "api_key"), {"credential": "a", "env": "B"}),
        (("transcription", "api_key"), {"credential": "../a"}),
        (("server", "start"), "on"),
        (("extra",), {}),
    ],
)
def test_an_editor_sees_what_is_wrong_with_a_broken_sample(path: tuple[str, ...], value: object) -> None:
    broken = copy.deepcopy(yaml.safe_load((CONFIG / "agent.yaml").read_text()))
    section = broken
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(broken)


def test_null_is_valid_where_it_means_something() -> None:
    validator().validate({"speaker": None, "synthesis": {"fish": {"sample_rate": None, "reference_id": None}}})
