"""The configuration of the hooks."""

from __future__ import annotations

from agent.frontends.hooks.settings import HookSettings


def test_only_configured_commands_are_listed() -> None:
    assert HookSettings().commands() == {}
    assert HookSettings(heard=("lamp", "on")).commands() == {"heard": ("lamp", "on")}


def test_an_empty_program_is_an_error() -> None:
    (finding,) = HookSettings(state=("", "on")).check()
    assert finding.key == "state[0]"
    assert list(HookSettings(state=("lamp", "")).check()) == []


def test_a_program_that_does_not_exist_is_a_warning() -> None:
    settings = HookSettings(heard=("/nonexistent/lamp",), spoken=("sh", "-c", "true"))
    assert list(settings.check()) == []
    (finding,) = settings.warnings()
    assert finding.key == "heard" and "/nonexistent/lamp" in finding.what
