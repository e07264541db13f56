from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.chat_service import calls, chat_service
from support.generators import result_of
from support.mcp_server import ECHO, McpServerOfTests, mcp_server
from support.timing import poll_until

from agent.config.secrets import Secret
from agent.pipeline.responders.openai import OpenAIResponder
from agent.pipeline.responders.tools import mcp as mcp_module
from agent.pipeline.responders.tools.mcp import MAX_SERVER_REQUESTS, McpConnection
from agent.pipeline.responders.tools.settings import McpServer
from agent.pipeline.responders.tools.tool import ToolError
from agent.system.threads import Backoff, Deadline

Make = Callable[..., OpenAIResponder]


def connection(server: McpServerOfTests, **more: Any) -> McpConnection:
    settings = McpServer(name="home", url=server.url, api_key=Secret(value="sk-mcp-0123"), **more)
    return McpConnection(settings, backoff=Backoff(0.01, 0.02))


def connected(connection: McpConnection) -> McpConnection:
    """Connect in this thread."""
    assert connection._connect()
    return connection


def run(connection: McpConnection, name: str, arguments: dict[str, Any]) -> str:
    tool = next(each for each in connection.tools if each.name == name)
    return result_of(tool.run(arguments))


@pytest.fixture(params=["stream", "json", "without sessions"])
def server(request: pytest.FixtureRequest) -> Iterator[McpServerOfTests]:
    with mcp_server(is_stream=request.param == "stream", has_sessions=request.param != "without sessions") as server:
        yield server


@pytest.fixture
def streaming() -> Iterator[McpServerOfTests]:
    with mcp_server() as server:
        yield server


def test_handshake_pages_call_and_end_of_the_session(server: McpServerOfTests) -> None:
    server.tools = [{**ECHO, "name": f"echo{number}"} for number in range(5)]
    mcp = connected(connection(server))
    assert [tool.name for tool in mcp.tools] == [f"home__echo{number}" for number in range(5)]
    assert run(mcp, "home__echo3", {"text": "hi"}) == "echo3: hi"
    methods = [message.get("method") for message in server.messages if "method" in message]
    assert methods == ["initialize", "notifications/initialized", *["tools/list"] * 3, "tools/call"]
    assert server.headers[0]["accept"] == "application/json, text/event-stream"
    assert "mcp-protocol-version" not in server.headers[0]
    for headers in server.headers[1:]:
        assert headers["mcp-protocol-version"] == "2025-11-25"
        assert headers.get("mcp-session-id") == (server.sessions[0] if server.has_sessions else None)
        assert headers["authorization"] == "Bearer sk-mcp-0123"
    mcp._leave()
    assert server.ended == server.sessions


def test_ping_within_a_stream_is_answered(streaming: McpServerOfTests) -> None:
    mcp = connected(connection(streaming))
    assert run(mcp, "home__echo", {"text": "hi"}) == "echo: hi"
    assert streaming.answered.wait(20)
    answer = next(message for message in streaming.messages if message.get("id") == "ping-1")
    assert answer == {"jsonrpc": "2.0", "id": "ping-1", "result": {}}


def test_flood_of_requests_of_the_server_is_not_answered(streaming: McpServerOfTests) -> None:
    mcp = connected(connection(streaming))
    streaming.pings = 2000
    assert run(mcp, "home__echo", {"text": "hi"}) == "echo: hi"
    assert len([each for each in streaming.messages if each.get("id") == "ping-1"]) == MAX_SERVER_REQUESTS


@pytest.mark.parametrize("status", [404, 400])
def test_expired_session_is_opened_again(streaming: McpServerOfTests, status: int) -> None:
    mcp = connected(connection(streaming))
    streaming.unknown_session_status = status
    streaming.sessions.clear()  # the server has restarted
    assert run(mcp, "home__echo", {"text": "hi"}) == "echo: hi"
    assert [each["method"] for each in streaming.messages if each.get("method") == "initialize"] == ["initialize"] * 2


def test_parallel_calls_open_an_expired_session_again_once(streaming: McpServerOfTests) -> None:
    mcp = connected(connection(streaming))
    streaming.sessions[:] = ["of others"]  # the server has restarted
    calls = [mcp.tools[0].run({"text": text}) for text in ("one", "two")]
    for call in calls:
        next(call)  # with the expired session
    with ThreadPoolExecutor() as threads:
        assert [*threads.map(result_of, calls, timeout=60.0)] == ["echo: one", "echo: two"]
    assert [each.get("method") for each in streaming.messages].count("initialize") == 2


def test_unreachable_server_is_tried_again_with_one_warning(
    streaming: McpServerOfTests, caplog: pytest.LogCaptureFixture
) -> None:
    streaming.status = 503
    mcp = connection(streaming)
    with caplog.at_level(logging.INFO):
        assert [mcp._connect() for _ in range(3)] == [False] * 3
        assert mcp.tools == ()
        streaming.status = 200
        assert mcp._connect()
    assert [each.levelname for each in caplog.records if "no tools yet" in each.message] == ["WARNING"]
    assert any("reached again" in each.message for each in caplog.records)


def test_thread_connects_and_ends_the_session(streaming: McpServerOfTests) -> None:
    mcp = connection(streaming)
    mcp.start()
    poll_until(lambda: mcp.tools)
    mcp.stop()
    mcp.join(Deadline(60.0))
    assert streaming.ended == streaming.sessions == ["session-1"]


@pytest.mark.parametrize("is_stopped", [True, False])
def test_session_ends_if_the_tools_cannot_be_read(
    streaming: McpServerOfTests, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    monkeypatch.setattr(mcp_module, "LEAVE_SECONDS", 60.0)
    mcp, answer = connection(streaming), streaming.answer

    def fail(message: dict[str, Any]) -> dict[str, Any]:
        if message["method"] != "tools/list":
            return answer(message)
        if is_stopped:
            mcp.stop()
            return answer(message)
        return {"error": {"code": -1, "message": "no"}}

    streaming.answer = fail  # type: ignore[method-assign]
    assert not mcp._connect()
    assert streaming.ended == streaming.sessions == ["session-1"]


def test_what_is_no_text_is_named_and_errors_are_errors(streaming: McpServerOfTests) -> None:
    streaming.results["echo"] = {
        "content": [
            {"type": "text", "text": "A picture:"},
            {"type": "image", "data": "AAAA" * 1000, "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}},
            {"type": "resource_link", "uri": "file:///b"},
            {"type": "resource", "resource": "file:///c"},
        ]
    }
    mcp = connected(connection(streaming))
    assert run(mcp, "home__echo", {"text": "x"}).split("\n") == [
        "A picture:",
        "[image image/png: cannot be shown here]",
        "inside",
        "[resource_link file:///b: cannot be shown here]",
        "[resource : cannot be shown here]",
    ]
    streaming.results["echo"] = {"content": [{"type": "text", "text": "no such lamp"}], "isError": True}
    with pytest.raises(ToolError, match="no such lamp"):
        run(mcp, "home__echo", {"text": "x"})
    streaming.results["echo"] = {"structuredContent": {"degrees": 21}}
    assert json.loads(run(mcp, "home__echo", {"text": "x"})) == {"degrees": 21}


def test_tools_that_cannot_be_used_are_left_out(streaming: McpServerOfTests, caplog: pytest.LogCaptureFixture) -> None:
    streaming.tools = [
        {"name": "a b"},
        {"name": "a/b"},  # the same name for a model
        {"name": "x" * 80},
        {"name": "list", "inputSchema": {"type": "array"}},
        {"name": 7},
        {"name": "free", "inputSchema": {"type": "object", "minProperties": 1}, "description": "\ud83dfree"},
    ]
    mcp = connected(connection(streaming))
    assert [tool.name for tool in mcp.tools] == ["home__a_b", "home__free"]
    assert len([each for each in caplog.records if "left out" in each.message]) == 3


def test_tools_of_a_server_cannot_take_the_place_of_others(
    make: Make, streaming: McpServerOfTests, device: Any
) -> None:
    streaming.tools = [{**ECHO, "name": "set_volume"}, {**ECHO, "name": "home__set_volume"}, ECHO]
    settings = McpServer(name="home", url=streaming.url)
    steps = [calls(("set_volume", {"percent": 30})), calls(("home__set_volume", {"text": "x"}), ("home__gone", {}))]
    with chat_service(*steps, "Done.") as chat:
        responder = make(chat, builtin=("volume",), mcp=(settings,))
        connected(responder._toolbox._servers[0])  # type: ignore[union-attr]
        assert "".join(responder.reply("hello", 1)).strip() == "Done."
        offered = [each["function"]["name"] for each in chat.requests[0]["tools"]]
        assert offered == ["set_volume", "home__set_volume", "home__home__set_volume", "home__echo"]
        own, foreign, gone = chat.results()
        assert own == '{"volume": 30}' and foreign == "set_volume: x" and "no such tool" in gone
    assert len(device.events) == 1


def test_only_the_wanted_tools_are_offered(streaming: McpServerOfTests) -> None:
    streaming.tools = [ECHO, {**ECHO, "name": "other"}]
    mcp = connected(connection(streaming, tools=("other",), confirm=True))
    assert [(tool.name, tool.confirm) for tool in mcp.tools] == [("home__other", True)]


def test_cancel_closes_the_connection_of_a_call(streaming: McpServerOfTests) -> None:
    mcp = connected(connection(streaming))
    streaming.released.clear()
    running = mcp.tools[0].run({"text": "x"})
    next(running)
    running.close()
    assert streaming.abandoned.wait(20)


def test_cancel_is_possible_while_the_server_reports_progress(service: Any) -> None:
    progress = b'data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}\n\n'
    service.script = lambda handler: handler.trickle("text/event-stream", progress)
    running = McpConnection(McpServer(name="home", url=service.url, timeout_seconds=5.0))._call("echo", {})
    for _ in range(40):
        next(running)  # silence alone would be reported 20 times before the timeout
    running.close()


def test_probe_counts_the_tools_and_ends_the_session(server: McpServerOfTests) -> None:
    assert connection(server).probe() == 1
    assert server.ended == server.sessions


def test_stop_ends_the_thread_while_the_server_says_nothing(streaming: McpServerOfTests) -> None:
    freed = threading.Event()
    streaming.answer = lambda message: {} if freed.wait(60) else {}  # type: ignore[method-assign]
    mcp = connection(streaming, timeout_seconds=30.0)
    mcp.start()
    mcp.stop()
    mcp.join(Deadline(20.0))
    assert mcp._thread is not None and not mcp._thread.is_alive()
    freed.set()


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"protocolVersion": "1999-01-01"}},
        {"result": []},
        {"error": {"code": -1, "message": "no"}},
        {"error": "no"},
        {},
    ],
)
def test_answers_of_another_shape_are_no_crash(
    answer: dict[str, Any], streaming: McpServerOfTests, caplog: pytest.LogCaptureFixture
) -> None:
    streaming.answer = lambda message: answer  # type: ignore[method-assign]
    mcp = connection(streaming)
    assert mcp._connect() is False
    assert "no tools yet" in caplog.text
