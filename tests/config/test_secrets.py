from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.secrets import Secret
from agent.errors import ConfigError


def test_credential_is_read_from_the_credentials_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fish").write_text("  sk-1 \n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="fish").reveal() == "sk-1"
    assert Secret(credential="not-there-at-all").reveal() is None


def test_credential_is_found_with_the_prefix_of_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key_fish").write_text("sk-2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="fish").reveal() == "sk-2"


def test_secret_is_looked_up_at_each_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("one\n")
    secret = Secret(file=str(tmp_path / "key"))
    assert secret.reveal() == "one"
    (tmp_path / "key").write_text("two\n")
    assert secret.reveal() == "two"
    monkeypatch.setenv("SOME_KEY", "three")
    assert Secret(env="SOME_KEY").reveal() == "three"
    assert Secret(value="four").reveal() == "four"
    assert Secret(value=" ").reveal() is None


def test_unset_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY.*is not set") as caught:
        Secret(env="NO_SUCH_KEY").reveal()
    assert caught.value.exit_code == 78
    monkeypatch.setenv("NO_SUCH_KEY", "")
    assert Secret(env="NO_SUCH_KEY").reveal() is None


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX-Header: b", "a\x00b", "a\u2026b", "a\tb"])
def test_secret_that_fits_no_header_is_refused_and_not_quoted(tmp_path: Path, key: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(f"very-secret{key}".encode())
    with pytest.raises(ConfigError) as caught:
        Secret(file=str(path)).reveal()
    assert "very-secret" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_unreadable_key_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            Secret(file=str(tmp_path / name)).reveal()


def test_home_names_the_file_to_create() -> None:
    home = Secret(credential="neuphonic").storage_hint
    assert "/etc/voice-agent/credentials/neuphonic" in home and "{file: PATH}" in home
    assert Secret(file="/run/key").storage_hint == "the file /run/key"


def test_repr_hides_the_secret() -> None:
    assert "very-secret" not in repr(Secret(value="very-secret"))
    assert Secret(credential="x").origin == "the credential 'x'"
    assert Secret(value="very-secret").origin == "the configuration"
