"""litellm, aimock and the reference server of the Model Context Protocol as counterparts of the language model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.generators import result_of
from support.model_servers import KEY, aimock, litellm, mcp_everything
from support.timing import poll_until

from agent.config.secrets import Secret
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.responders.openai import OpenAIResponder, Settings
from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.responders.tools.mcp import McpConnection
from agent.pipeline.responders.tools.settings import McpServer, ToolSettings
from agent.pipeline.responders.tools.tool import ToolError
from agent.pipeline.timers import Clock, Timers
from agent.system.threads import Deadline

# Making an environment takes minutes on a slow line, and litellm half a minute to start.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIXTURES = {
    "fixtures": [
        {
            "match": {"userMessage": "timer", "hasToolResult": False},
            "response": {
                "content": "One moment.",
                "toolCalls": [
                    {"name": "set_timer", "arguments": '{"seconds": 90, "name": "tea"}'},
                    {"name": "set_volume", "arguments": '{"percent": 30}'},
                ],
            },
        },
        {"match": {"userMessage": "timer", "hasToolResult": True}, "response": {"content": "The timer runs."}},
        {
            "match": {"userMessage": "reboot", "hasToolResult": False},
            "response": {"toolCalls": [{"name": "run_shell", "arguments": '{"command": "reboot"}'}]},
        },
        {"match": {"userMessage": "reboot", "hasToolResult": True}, "response": {"content": "I cannot do that."}},
    ]
}


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with aimock(FIXTURES, tmp_path_factory.mktemp("aimock")) as url:
        yield url


@pytest.fixture(scope="module")
def proxy(mock: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = {
        "openai": {"model": "openai/gpt-4o", "api_base": f"{mock}/v1", "api_key": "mock"},
        "anthropic": {"model": "anthropic/claude-3-5-sonnet-20241022", "api_base": mock, "api_key": "mock"},
    }
    with litellm(models, tmp_path_factory.mktemp("litellm")) as url:
        yield url


def ask(url: str, model: str, text: str) -> tuple[str, list[Any], list[float]]:
    """The reply, the events of the device and the seconds of its timers."""
    events: list[Any] = []
    timers = Timers(Clock(time.monotonic))
    control = DeviceControl(events.append, timers, lambda timers, done: done(True), volume=lambda: 40)
    tools = ToolSettings(builtin=("timers", "volume"))
    settings = Settings(base_url=url, api_key=Secret(value=KEY), model=model, tools=tools)
    responder = OpenAIResponder(settings, 60.0, device=DeviceContext(control))
    return "".join(responder.reply(text, 1)).strip(), events, [timer.seconds for timer in timers.all]


def test_tool_calls_of_aimock(mock: str) -> None:
    reply, events, seconds = ask(f"{mock}/v1", "gpt-4o", "Set a timer.")
    assert (reply, seconds) == ("One moment.\n\nThe timer runs.", [90.0])
    assert [event.percent for event in events] == [30]


def test_a_tool_that_is_not_configured_is_refused(mock: str) -> None:
    assert ask(f"{mock}/v1", "gpt-4o", "Please reboot.") == ("I cannot do that.", [], [])


@pytest.mark.parametrize("model", ["openai", "anthropic"])
def test_tool_calls_through_litellm(model: str, proxy: str) -> None:
    reply, events, seconds = ask(proxy, model, "Set a timer.")
    assert (reply, seconds) == ("One moment.\n\nThe timer runs.", [90.0])
    assert [event.percent for event in events] == [30]


def test_the_reference_mcp_server() -> None:
    def run(name: str, arguments: dict[str, Any]) -> str:
        return result_of(next(each for each in mcp.tools if each.name == f"all__{name}").run(arguments))

    with mcp_everything() as url:
        mcp = McpConnection(McpServer(name="all", url=url))
        mcp.start()
        poll_until(lambda: mcp.tools)
        assert len(mcp.tools) >= 10
        assert run("echo", {"message": "hi"}) == "Echo: hi"
        assert run("get-sum", {"a": 2, "b": 3}) == "The sum of 2 and 3 is 5."
        assert "[image image/png: cannot be shown here]" in run("get-tiny-image", {})
        assert "Duration: 1 seconds" in run("trigger-long-running-operation", {"duration": 1, "steps": 2})
        with pytest.raises(ToolError):
            run("get-sum", {"a": "two"})
        mcp.stop()
        mcp.join(Deadline(20.0))
