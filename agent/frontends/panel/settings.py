"""The configuration of the button and the light."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.errors import Finding, suggestion
from agent.config.fields import key as setting  # one of the fields has the name key
from agent.config.fields import section
from agent.system.named_tuple import NamedTuple

ANY_DEVICE = "any"
HIGHEST_PIN = 27


@section
class ButtonSettings(NamedTuple):
    """A button: a short press listens or stops the speech, a long press mutes or unmutes the microphone."""

    gpio: int | None = setting(
        None, "number of the pin (BCM) of a Raspberry Pi to which a button is wired", low=0, high=HIGHEST_PIN
    )
    pull: str = setting("up", "up: the button connects the pin to ground | down: to 3.3 V", choices=("up", "down"))
    key: str | None = setting(None, "name of a key of a USB remote or keyboard, such as KEY_PLAYPAUSE")
    device: str = setting(ANY_DEVICE, "any | part of the name of the device that has the key")
    long_press_seconds: float = setting(0.8, "a longer press mutes or unmutes", low=0.3, high=5.0)

    @property
    def is_used(self) -> bool:
        return self.gpio is not None or self.key is not None

    def check(self) -> Iterator[Finding]:
        """Yield the errors: two buttons, a missing library, a key that does not exist."""
        if self.gpio is not None and self.key is not None:
            yield Finding("key", "button.gpio is set too, expected one of the two", cause="gpio")
        if self.gpio is not None and (problem := gpio_problem()) is not None:
            yield Finding("gpio", problem)
        if self.key is not None:
            yield from self._check_key(self.key)

    def _check_key(self, name: str) -> Iterator[Finding]:
        import importlib.util

        if importlib.util.find_spec("evdev") is None:
            yield Finding("key", _missing("evdev", "python3-evdev"))
            return
        from agent.frontends.panel.keys import known_keys

        known = known_keys()
        if name not in known:
            what = f"there is no key {name}, expected a name of the kernel such as KEY_PLAYPAUSE"
            yield Finding("key", what, suggestion(name, known))


@section
class LedSettings(NamedTuple):
    """A light that shows the state: idle, listening, thinking, speaking, muted or error."""

    gpio: tuple[int, ...] = setting(
        (),
        "number of the pin (BCM) of an LED, or the three of a color LED: [red, green, blue]",
        low=0,
        high=HIGHEST_PIN,
    )
    active_low: bool = setting(False, "true: the LED is wired to 3.3 V, and a low pin lights it")
    brightness: int = setting(
        100, "brightness in percent; less than 100 needs CPU time while it is on", low=1, high=100
    )
    command: tuple[str, ...] = setting(
        (),
        "a program that is started for each state, for LEDs that are not wired to pins",
        note="The state is its last argument; at the end of the daemon it is off. A command that takes longer than 2 s"
        " is killed.",
    )

    @property
    def is_used(self) -> bool:
        return bool(self.gpio or self.command)

    def check(self) -> Iterator[Finding]:
        """Yield the errors: two lights, a wrong number of pins, a missing library, no program."""
        if self.gpio and self.command:
            yield Finding("command", "led.gpio is set too, expected one of the two", cause="gpio")
        if self.gpio and (len(self.gpio) not in (1, 3) or len(set(self.gpio)) < len(self.gpio)):
            yield Finding("gpio", "expected one pin, or three different ones for red, green and blue")
        if self.gpio and (problem := gpio_problem()) is not None:
            yield Finding("gpio", problem)
        if self.command and (not self.command[0] or "\0" in "".join(self.command)):
            yield Finding("command[0]", "the first item is no program, expected [PROGRAM, ARGUMENT, ...]")

    def warnings(self) -> Iterator[Finding]:
        """Yield a warning if the program does not exist."""
        if not self.command:
            return
        import shutil  # imported late: most configurations have no light

        if self.command[0] and shutil.which(self.command[0]) is None:
            what = f"the program {self.command[0]} does not exist or is not executable for this user"
            yield Finding("command", what)


def gpio_problem() -> str | None:
    """Return which GPIO library is missing and how to install it; ``None`` if all exist. It imports no library."""
    import importlib.util
    import os

    if importlib.util.find_spec("gpiozero") is None:
        return _missing("gpiozero", "python3-gpiozero python3-lgpio")
    # The variable chooses another library than lgpio (gpiozero's documentation, "Changing the pin factory").
    if not os.environ.get("GPIOZERO_PIN_FACTORY") and importlib.util.find_spec("lgpio") is None:
        return f"{_missing('lgpio', 'python3-lgpio')}. Debian 12 has no such package: use Raspberry Pi OS or Debian 13"
    return None


def _missing(library: str, packages: str) -> str:
    return f"the library {library} is missing, expected it: sudo apt install {packages}"
