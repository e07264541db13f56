"""Tests of reading the ``info`` of a Wyoming server."""

from __future__ import annotations

import pytest

from agent.services.protocols.wyoming_event import encode_event
from agent.services.protocols.wyoming_info import InfoError, ModelInfo, Program, matches, name_some, read_info

PIPER = {
    "tts": [
        {
            "name": "piper",
            "installed": True,
            "supports_synthesize_streaming": True,
            "voices": [
                {"name": "joe", "languages": ["en_US"], "installed": True},
                {"name": "eva", "languages": ["de_DE"], "installed": False},
            ],
        },
        {"name": "away", "installed": False, "voices": [{"name": "x", "languages": ["fr"]}]},
    ],
    "asr": [{"name": "whisper", "models": [{"name": "base", "languages": ["en", "de"]}]}],
}


def test_programs_and_installed_models_are_read() -> None:
    info = read_info(encode_event("info", PIPER))
    assert info.tts == (Program("piper", (ModelInfo("joe", ("en_US",)),), can_stream=True),)
    assert info.asr == (Program("whisper", (ModelInfo("base", ("en", "de")),), can_stream=False),)


@pytest.mark.parametrize(
    "data",
    [{}, {"tts": None}, {"tts": [None, 1, {"voices": 3}]}, {"tts": [{"name": 1, "voices": [1, {"languages": [2]}]}]}],
)
def test_an_info_with_other_types_has_only_what_can_be_read(data: dict[str, object]) -> None:
    assert all(isinstance(program, Program) for program in read_info(encode_event("info", data)).tts)


@pytest.mark.parametrize("message", [b"nothing", encode_event("pong")])
def test_another_event_is_refused_and_may_be_tried_again(message: bytes) -> None:
    with pytest.raises(InfoError) as refused:
        read_info(message)
    assert not refused.value.is_permanent


@pytest.mark.parametrize(
    ("language", "languages", "expected"),
    [
        ("de", ["de_DE"], True),
        ("de_DE", ["de"], True),
        ("de-at", ["de_DE"], False),
        ("EN", ["en-us"], True),
        ("d", ["de"], False),
        ("de", [], False),
    ],
)
def test_a_language_matches_its_regions(language: str, languages: list[str], expected: bool) -> None:
    assert matches(language, languages) is expected


def test_a_long_list_of_names_is_shortened() -> None:
    assert name_some([f"v{number}" for number in range(10)]).endswith("'v7' and 2 more")
    assert name_some([]) == "(none)"
