"""Files under ``/app/``: no path leaves the directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.frontends.web.static_files import is_directory, open_static


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "secret.html").write_text("secret")
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / ".git").mkdir()
    (site / ".git" / "config").write_text("hidden")
    (site / "index.html").write_text("index")
    (site / "sub" / "index.html").write_text("sub")
    (site / "a b.js").write_text("script")
    (site / "empty").mkdir()
    (site / "link.html").symlink_to(tmp_path / "secret.html")
    (site / "up").symlink_to(tmp_path)
    os.mkfifo(site / "pipe.html")
    return site


@pytest.mark.parametrize(
    ("path", "text", "content_type"),
    [
        ("", "index", "text/html; charset=utf-8"),
        ("index.html", "index", "text/html; charset=utf-8"),
        ("sub/", "sub", "text/html; charset=utf-8"),
        ("a%20b.js", "script", "text/javascript; charset=utf-8"),
    ],
)
def test_file_is_served_with_its_type(site: Path, path: str, text: str, content_type: str) -> None:
    found = open_static(str(site), path)
    assert found is not None
    with found.file as file:
        assert (file.read().decode(), found.size, found.content_type) == (text, len(text), content_type)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html",
        "%2e%2e/secret.html",
        "sub/../../secret.html",
        "sub/%2e%2e%2f%2e%2e%2fsecret.html",
        "..%5csecret.html",
        "/etc/passwd",
        "//etc/passwd",
        "%00",
        "index.html%00.js",
        "%ff",
        ".git/config",
        "./index.html",
        "link.html",
        "up/secret.html",
        "pipe.html",
        "empty/",
        "sub",
        "index.html/",
        "missing",
        "a" * 5000,
        "a/" * 500,
    ],
)
def test_other_path_is_not_served(site: Path, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert open_static(str(site), path) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_directory_is_known_without_its_slash(site: Path) -> None:
    assert is_directory(str(site), "sub")
    assert not is_directory(str(site), "index.html")
    assert not is_directory(str(site), "..")
