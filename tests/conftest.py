"""What holds for every test: the machine it runs on does not matter."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.vcard import VirtualCard

# How long one example takes, to make or to run, says more about the machine than about the code.
settings.register_profile("new examples", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in each run, so that a failure is one of the change; scripts/test --slow looks for new ones.
settings.register_profile("same examples", settings.get_profile("new examples"), derandomize=True)
settings.load_profile("same examples")

# A shell ignores SIGINT in what it starts in the background, and the programs under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection: a full collection would visit millions of objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the user's configuration, keys and state, and the service manager, from each test.

    Each test has a state directory of its own, or a daemon of root's would leave its volume to the next.
    """
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
    for name in os.environ:
        if name.startswith("VOICE_AGENT_") or name in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo what ``set_up_logging`` changes: a command that runs in this process calls it."""
    root, package = logging.getLogger(), logging.getLogger("agent")
    handlers, level, package_level = root.handlers[:], root.level, package.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    package.setLevel(package_level)
    logging.captureWarnings(False)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualCard:
    """A virtual card of this test's own: the only one that this process and its children see."""
    folder = tmp_path / "card"
    folder.mkdir()
    made = VirtualCard(folder)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    return made
