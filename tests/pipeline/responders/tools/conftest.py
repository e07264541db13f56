from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from support.chat_service import ChatService

from agent.config.secrets import Secret
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Event
from agent.pipeline.responders.openai import OpenAIResponder, Settings
from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.responders.tools.settings import ToolSettings
from agent.pipeline.timers import Clock, Timers


class TestDevice:
    """A device whose events are collected."""

    __test__ = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.timers = Timers(Clock(time.monotonic))
        self.control = DeviceControl(
            self.events.append, self.timers, lambda timers, done: done(True), volume=lambda: 40
        )
        self.device = DeviceContext(self.control, lambda: "kitchen-box", "kitchen", "en")


@pytest.fixture
def device() -> TestDevice:
    return TestDevice()


@pytest.fixture
def make(device: TestDevice) -> Callable[..., OpenAIResponder]:
    """Makes a responder for a chat service."""

    def make_responder(chat: ChatService, seconds: float = 20.0, **tools: Any) -> OpenAIResponder:
        settings = Settings(base_url=chat.url, api_key=Secret(value="sk-0123456789"), tools=ToolSettings(**tools))
        return OpenAIResponder(settings, seconds, device=device.device)

    return make_responder
