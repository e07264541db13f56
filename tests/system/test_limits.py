"""The limit of open file descriptors."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.system.limits import MIN_DESCRIPTORS, describe_no_descriptor, require_descriptors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_low_soft_limit_is_raised(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (MIN_DESCRIPTORS - 1, limits[1]))
    require_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (MIN_DESCRIPTORS, limits[1])


def test_sufficient_limit_is_unchanged(limits: tuple[int, int]) -> None:
    require_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def with_hard_limit(limit: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("limit", [8, 20, MIN_DESCRIPTORS - 1])
@pytest.mark.parametrize("command", [("devices",), ("run",), ("say", "hello"), ("server",)])
def test_low_hard_limit_is_named_by_every_command_that_needs_descriptors(limit: int, command: tuple[str, ...]) -> None:
    done = with_hard_limit(limit, *command)
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.count("\n") == 1 and f"the limit is {limit}" in done.stderr and "LimitNOFILE" in done.stderr


def test_configuration_is_checked_with_a_low_limit() -> None:
    assert with_hard_limit(8, "config", "show").returncode == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EMFILE, "any"), f"limit of {os.sysconf('SC_OPEN_MAX')} open files"),
        (OSError(errno.ENFILE, "any"), "the system"),
        (OSError(errno.ENOENT, "any"), None),
        (ValueError(errno.EMFILE), None),
    ],
)
def test_no_free_descriptor_is_described(error: Exception, text: str | None) -> None:
    description = describe_no_descriptor(error)
    assert (description is None) == (text is None) and (text or "") in (description or "")
