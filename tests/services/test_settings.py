"""The configuration of the speech services."""

from __future__ import annotations

import pytest

from agent.services.protocols.local import Settings
from agent.services.settings import SynthesisSettings, TextSettings


@pytest.mark.parametrize(
    ("voice", "language"),
    [
        ("en", "en"),
        ("de", "de"),
        ("espeak:de", "de"),
        ("espeak:en-us", "en"),
        ("flite:slt", "en"),
        ("hibari:heart", "en"),
    ],
)
def test_language_is_that_of_the_local_voice(voice: str, language: str) -> None:
    assert SynthesisSettings().with_settings("local", Settings(voice=voice)).language == language


@pytest.mark.parametrize(("language", "is_valid"), [("auto", True), ("en", True), ("bho", True), ("english", False)])
def test_language_is_auto_or_a_code(language: str, is_valid: bool) -> None:
    assert (list(TextSettings(language=language).check()) == []) is is_valid
