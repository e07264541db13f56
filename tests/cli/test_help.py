"""The help of each command: every line starts with a verb, and every metavar is a word."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from agent.cli.main import main

# fmt: off
VERBS = {
    "accept", "allow", "ask", "cancel", "check", "close", "end", "limit", "listen", "list", "load", "log",
    "mute", "omit", "place", "play", "prepare", "print", "read", "recognize", "record", "require", "run", "send",
    "set", "show", "speak", "start", "stop", "transcribe", "unmute", "use", "wait", "warm",
    "write",
}
COMMANDS = (
    "run", "say", "transcribe", "demo", "status", "hush", "cancel", "listen", "history", "events", "timers", "top",
    "volume", "mute", "unmute", "server", "devices",
    "meter", "phrases", "fleet", "voices", "test-speaker", "test-microphone", "test-wake", "doctor", "config",
)
# fmt: on

Help = Callable[..., str]


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    """Return a function that returns the help of a command, without line breaks inside an entry."""
    monkeypatch.setenv("COLUMNS", "1000")

    def read(*words: str) -> str:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        return capsys.readouterr().out

    return read


def entries(help: str) -> list[tuple[str, str]]:
    """Return each argument or command with its help."""
    pairs = re.findall(r"^ {2,4}(\S+(?: \S+)*)(?: {2,}|\n {10,})(\S.*)$", help, re.MULTILINE)
    names = re.findall(r"^ {2,4}(\S+(?: \S+)*)", help, re.MULTILINE)
    assert [name for name, _ in pairs] == [name for name in names if name != "COMMAND"], "an entry without help"
    return pairs


def first_word(text: str) -> str:
    return re.split(r"\W", text, maxsplit=1)[0].lower()


def test_the_list_of_commands_is_complete(help_of: Help) -> None:
    names = [name for name, _ in entries(help_of()) if not name.startswith("-")]
    assert names == list(COMMANDS)


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)], ids=lambda words: "".join(words) or "-")
def test_help_lines_start_with_a_verb(help_of: Help, words: list[str]) -> None:
    help = help_of(*words)
    description = help.split("\n\n")[1]
    lines = [("description", description), *entries(help)]
    assert [f"{name}: {text}" for name, text in lines if first_word(text) not in VERBS] == []


@pytest.mark.parametrize("words", [[command] for command in COMMANDS], ids="".join)
def test_metavars_are_words_or_choices(help_of: Help, words: list[str]) -> None:
    usage = help_of(*words).split("\n\n")[0]
    arguments = re.findall(r"--[\w-]+ ([^\]\s]+)", usage)
    positional = re.sub(r"\[-[^\]]*\]", "", usage).split()[3:]
    for metavar in (*arguments, *(word.strip("[].") for word in positional)):
        assert not metavar or re.fullmatch(r"[A-Z]{2,}|\{.*\}", metavar), metavar
