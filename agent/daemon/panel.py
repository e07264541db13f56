"""Builds the frontends of the device itself: the button, the light and the volume of other players."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.frontends.panel.settings import ANY_DEVICE
from agent.pipeline.events import Event
from agent.settings.model import Config
from agent.system.paths import Paths

if TYPE_CHECKING:
    from agent.frontends.panel.button import Button
    from agent.frontends.panel.interfaces import Lamp, PressSource
    from agent.frontends.panel.settings import ButtonSettings, LedSettings
    from agent.frontends.state_follower import StateFollower


def make_panel(
    config: Config, environ: Mapping[str, str], report: Callable[[Event], None]
) -> list[Button | StateFollower]:
    """Build the configured frontends; none of them is open yet."""
    workers: list[Button | StateFollower] = []
    if config.button.is_used:
        workers.append(_make_button(config.button, report))
    if config.led.is_used:
        workers.append(_make_light(config.led, environ, report))
    if config.other_audio.is_used:
        from agent.frontends.other_audio.other_audio import FILE_NAME, OtherAudio

        path = Paths.from_environment(environ).state / FILE_NAME
        workers.append(OtherAudio(config.other_audio, environ, path, report))
    return workers


def _make_button(settings: ButtonSettings, report: Callable[[Event], None]) -> Button:
    from agent.frontends.panel.button import Button

    def make_source() -> PressSource:  # called by the thread of the button, which imports the library
        if settings.gpio is not None:
            from agent.frontends.panel.pins import PinSource

            return PinSource(settings.gpio, pull_up=settings.pull == "up")
        from agent.frontends.panel.keys import KeySource

        assert settings.key is not None
        return KeySource(settings.key, None if settings.device == ANY_DEVICE else settings.device)

    return Button(make_source, settings.long_press_seconds, report)


def _make_light(settings: LedSettings, environ: Mapping[str, str], report: Callable[[Event], None]) -> StateFollower:
    if settings.command:
        from agent.frontends.panel.command_light import CommandLight

        return CommandLight(settings.command, environ, report)
    from agent.frontends.panel.patterns import COLOR, SINGLE
    from agent.frontends.panel.pin_light import PinLight

    def open_lamp() -> Lamp:
        from agent.frontends.panel.pins import PinLamp

        return PinLamp(settings.gpio, active_low=settings.active_low, brightness=settings.brightness / 100)

    return PinLight(open_lamp, SINGLE if len(settings.gpio) == 1 else COLOR, report)
