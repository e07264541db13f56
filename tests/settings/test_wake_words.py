"""Wake words with and without their responders."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings.loader import load

KEYS = "responder: {openai: {model: m, base_url: 'http://127.0.0.1:1/v1'}}\n"


@pytest.mark.parametrize(
    ("text", "words", "responders"),
    [
        ("[alexa, hey_jarvis]", ("alexa", "hey_jarvis"), {}),
        ("[alexa, hey_jarvis: openai]", ("alexa", "hey_jarvis"), {"hey_jarvis": "openai"}),
        ("{alexa: rules, hey_jarvis: openai}", ("alexa", "hey_jarvis"), {"alexa": "rules", "hey_jarvis": "openai"}),
        ("{alexa: , hey_jarvis: echo}", ("alexa", "hey_jarvis"), {"hey_jarvis": "echo"}),
    ],
)
def test_word_names_its_responder(
    tmp_path: Path, text: str, words: tuple[str, ...], responders: dict[str, str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{KEYS}wake:\n  engine: micro\n  words: {text}\n")
    config = load(path, {})
    assert config.wake.spoken_words == words
    assert {word: each.kind for word, each in config.word_responders().items()} == responders


def test_variable_names_responders_too() -> None:
    config = load(
        "/dev/null" if False else None, {"VOICE_AGENT_WAKE__ENGINE": "micro", "VOICE_AGENT_WAKE__WORDS": "alexa: echo"}
    )
    assert config.word_responders()["alexa"].kind == "echo"
