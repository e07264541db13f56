from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mock_pins import PRESSED, RELEASED, REPEATED, Plugs, Remote

from agent.frontends.panel.keys import KeySource, known_keys

KEY = "KEY_PLAYPAUSE"


class Bench:
    """A source of one key, and the directory of its devices."""

    def __init__(self, directory: Path, device: str | None = None) -> None:
        self.plugs = Plugs(directory)
        self.source = KeySource(KEY, device, str(directory), self.plugs.open)

    def reported(self) -> list[bool | None]:
        """Return what all readable descriptors report."""
        presses: list[bool | None] = []
        while ready := select.select(self.source.filenos(), [], [], 0)[0]:
            presses += self.source.read(ready[0])
        return presses


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    each = Bench(tmp_path / "input")
    yield each
    each.source.close()


def test_known_keys_are_those_of_the_kernel() -> None:
    assert {KEY, "KEY_MICMUTE", "BTN_0"} <= set(known_keys())


def test_presses_and_releases_of_the_key_are_reported(bench: Bench) -> None:
    remote = Remote()
    bench.plugs.plug(remote)
    bench.source.open()
    assert bench.source.problem() is None
    for value in (PRESSED, REPEATED, RELEASED):
        remote.report(value)
    remote.report(PRESSED, "KEY_A")
    assert bench.reported() == [True, False]


def test_a_device_that_is_plugged_in_later_is_used(bench: Bench) -> None:
    bench.source.open()
    assert "no input device" in str(bench.source.problem())
    remote = Remote()
    bench.plugs.plug(remote)
    remote.report(PRESSED)
    assert bench.reported() == [True]
    assert bench.source.problem() is None


def test_an_unplugged_device_ends_its_press_and_is_used_again(bench: Bench) -> None:
    first, second = Remote(), Remote()
    bench.plugs.plug(first)
    bench.source.open()
    first.report(PRESSED)
    assert bench.reported() == [True]
    bench.plugs.unplug()
    assert bench.reported() == [None]
    assert "no input device" in str(bench.source.problem())
    bench.plugs.plug(second, "event7")
    second.report(PRESSED)
    assert bench.reported() == [True]


def test_a_device_that_is_back_at_once_is_used_again(bench: Bench) -> None:
    first, second = Remote(), Remote()
    bench.plugs.plug(first)
    bench.source.open()
    bench.plugs.unplug()
    bench.plugs.plug(second)
    assert bench.reported() == [None]
    second.report(PRESSED)
    assert bench.reported() == [True]


def test_a_directory_that_goes_with_its_last_device_is_awaited(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Remote(), Remote()
    bench.plugs.plug(first)
    bench.source.open()

    def remove(directory: str) -> list[str]:
        monkeypatch.undo()
        os.rmdir(directory)
        return os.listdir(directory)

    bench.plugs.unplug()
    monkeypatch.setattr("os.listdir", remove)
    assert bench.reported() == [None]
    bench.plugs.plug(second)
    second.report(PRESSED)
    assert bench.reported() == [True]


def test_a_device_is_used_when_its_permissions_allow_it(bench: Bench) -> None:
    remote = Remote()
    bench.plugs.forbidden.add("event0")
    bench.plugs.plug(remote)
    bench.source.open()
    assert "group input" in str(bench.source.problem())
    bench.plugs.permit()
    remote.report(PRESSED)
    assert bench.reported() == [True]
    assert bench.source.problem() is None


def test_every_device_with_the_key_is_used_and_no_other(bench: Bench) -> None:
    one, two, other = Remote(), Remote(), Remote("KEY_B")
    for index, each in enumerate((one, two, other)):
        bench.plugs.plug(each, f"event{index}")
    bench.source.open()
    one.report(PRESSED)
    one.report(RELEASED)
    two.report(PRESSED)
    assert bench.reported() == [True, False, True]
    with pytest.raises(BrokenPipeError):  # it was closed
        other.report(PRESSED)


def test_only_devices_of_the_configured_name_are_used(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "input", "remote")
    keyboard, remote = Remote(name="Keyboard"), Remote(name="ACME Remote")
    bench.plugs.plug(keyboard, "event0")
    bench.plugs.plug(remote, "event1")
    bench.source.open()
    with pytest.raises(BrokenPipeError):  # it was closed
        keyboard.report(PRESSED)
    remote.report(PRESSED)
    assert bench.reported() == [True]
    bench.source.close()
    assert bench.source.filenos() == []
