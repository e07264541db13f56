from __future__ import annotations

import shutil

import pytest

from agent.frontends.other_audio.settings import OtherAudioSettings


@pytest.mark.parametrize(("action", "is_used"), [("none", False), ("duck", True), ("pause", True)])
def test_it_is_off_by_default(action: str, is_used: bool) -> None:
    assert OtherAudioSettings(action).is_used is is_used
    assert not OtherAudioSettings().is_used


def test_missing_programs_are_a_warning_only_if_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*OtherAudioSettings("duck").warnings()] == []
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert [*OtherAudioSettings().warnings()] == []
    [finding] = OtherAudioSettings("pause").warnings()
    assert "apt install pulseaudio-utils" in finding.what
