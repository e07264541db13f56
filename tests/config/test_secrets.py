from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.secrets import Secret
from agent.errors import ConfigError


def test_a_credential_is_read_from_the_directory_that_systemd_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fish").write_text("  sk-1 \n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="fish").reveal() == "sk-1"
    assert Secret(credential="not-there-at-all").reveal() is None


def test_a_credential_of_a_directory_that_the_unit_hands_over_is_found_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key_fish").write_text("sk-2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="fish").reveal() == "sk-2"


def test_a_key_is_looked_up_each_time_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("one\n")
    secret = Secret(file=str(tmp_path / "key"))
    assert secret.reveal() == "one"
    (tmp_path / "key").write_text("two\n")
    assert secret.reveal() == "two"
    monkeypatch.setenv("SOME_KEY", "three")
    assert Secret(env="SOME_KEY").reveal() == "three"
    assert Secret(value="four").reveal() == "four"
    assert Secret(value=" ").reveal() is None


def test_a_variable_that_is_named_and_not_set_is_a_mistake_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``{env: NAME}`` without the variable was silent: the service was asked without a key."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY.*is not set") as caught:
        Secret(env="NO_SUCH_KEY").reveal()
    assert caught.value.exit_code == 78
    monkeypatch.setenv("NO_SUCH_KEY", "")
    assert Secret(env="NO_SUCH_KEY").reveal() is None


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX-Header: b", "a\x00b", "a\u2026b", "a\tb"])
def test_a_key_that_no_header_may_carry_is_refused_without_being_told(tmp_path: Path, key: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(f"very-secret{key}".encode())
    with pytest.raises(ConfigError) as caught:
        Secret(file=str(path)).reveal()
    assert "very-secret" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_key_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            Secret(file=str(tmp_path / name)).reveal()


def test_a_key_that_is_missing_has_a_place_that_can_be_typed() -> None:
    home = Secret(credential="neuphonic").home
    assert "/etc/voice-agent/credentials/neuphonic" in home and "{file: PATH}" in home
    assert Secret(file="/run/key").home == "the file /run/key"


def test_a_key_never_shows_in_its_repr() -> None:
    assert "very-secret" not in repr(Secret(value="very-secret"))
    assert Secret(credential="x").origin == "the credential 'x'"
    assert Secret(value="very-secret").origin == "the configuration"
