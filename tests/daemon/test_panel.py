from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from support.gathered import Gathered
from support.mock_pins import mock_pins

from agent.daemon.frontends import make_frontends
from agent.daemon.panel import make_panel
from agent.frontends.other_audio.settings import OtherAudioSettings
from agent.frontends.panel.command_light import CommandLight
from agent.frontends.panel.pin_light import PinLight
from agent.frontends.panel.settings import ButtonSettings, LedSettings
from agent.pipeline.events import Hush
from agent.pipeline.status import Status
from agent.settings.model import Config
from agent.system.threads import Deadline

SECONDS = 60.0
OFF = Config()._replace(control=Config().control._replace(socket="none"))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (OFF, []),
        (OFF._replace(button=ButtonSettings(gpio=17)), ["button"]),
        (OFF._replace(button=ButtonSettings(key="KEY_A"), led=LedSettings(gpio=(5,))), ["button", "light"]),
        (OFF._replace(led=LedSettings(command=("true",))), ["light"]),
        (OFF._replace(other_audio=OtherAudioSettings("duck")), ["other audio"]),
    ],
)
def test_the_configured_frontends_are_built(config: Config, names: list[str]) -> None:
    assert [worker.name for worker in make_frontends(config, {}, Gathered()).workers] == names


def test_a_command_is_a_light_of_its_own_kind() -> None:
    [command] = make_panel(OFF._replace(led=LedSettings(command=("true",))), {}, Gathered())
    [pins] = make_panel(OFF._replace(led=LedSettings(gpio=(5, 6, 13))), {}, Gathered())
    assert isinstance(command, CommandLight)
    assert isinstance(pins, PinLight)


def test_a_press_at_a_pin_reaches_the_inbox_and_the_state_reaches_the_led() -> None:
    gathered = Gathered()
    config = OFF._replace(button=ButtonSettings(gpio=17), led=LedSettings(gpio=(27,)))
    frontends = make_frontends(config, {}, gathered)
    assert frontends.notify is not None
    with mock_pins() as factory:
        for worker in frontends.workers:
            worker.open()
            worker.start()
        frontends.notify(Status("", "speaking"))
        pause = threading.Event()
        for _ in range(6000):  # until the pin is open
            if gathered.of(Hush) or pause.wait(0.01):
                break
            factory.pin(17).drive_low()
            factory.pin(17).drive_high()
        for worker in frontends.workers:
            worker.stop()
            assert worker.join(Deadline(SECONDS))
        states = [state.state for state in factory.pin(27).states]
    assert gathered.of(Hush)
    assert True in states
    assert states[-1] is False


def test_without_a_button_and_a_light_nothing_of_them_is_imported() -> None:
    code = (
        "import sys; from agent.daemon.frontends import make_frontends; from agent.settings.model import Config;"
        "make_frontends(Config(), {}, print);"
        "parts = ('panel.', 'other_audio.', 'gpiozero', 'evdev', 'ctypes');"
        "print([name for name in sys.modules if any(part in name for part in parts)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['agent.frontends.other_audio.settings', 'agent.frontends.panel.settings']"
