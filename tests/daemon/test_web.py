"""The web frontend as the daemon builds it."""

from __future__ import annotations

import json
import logging
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.machine import free_port
from support.timing import poll_until
from support.web import TOKEN

from agent.config.secrets import Secret
from agent.daemon.frontends import make_frontends
from agent.daemon.utterance_store import UtteranceStore
from agent.daemon.web import WebSources, make_web
from agent.frontends.api.api import Api, Caller
from agent.frontends.web.settings import WebSettings
from agent.pipeline.events import Announce, Event, Heard
from agent.pipeline.status import Status
from agent.pipeline.utterance import Utterance
from agent.settings.model import Config
from agent.system.threads import Deadline

SECONDS = 20.0

OFF = """
import os, sys, threading
from agent.daemon.frontends import make_frontends
from agent.settings.model import Config
frontends = make_frontends(Config(), os.environ, print)
print([worker.name for worker in frontends.workers], threading.active_count())
print([name for name in sys.modules if name.startswith("agent.frontends.web.") and not name.endswith(".settings")])
print([name for name in ("http.server", "ssl", "agent.daemon.web") if name in sys.modules])
"""


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['control'] 1", "[]", "[]"]


def test_building_it_imports_nothing_that_only_requests_need() -> None:
    script = "import sys, agent.daemon.web; print({'json', 'platform', 'http.server', 'ssl'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_shutdown_without_a_control_socket_refuses_texts_and_answers_those_that_wait() -> None:
    events: list[Event] = []
    settings = WebSettings(listen=f"127.0.0.1:{free_port()}", token=Secret(value=TOKEN))
    config = Config()
    config = config._replace(control=config.control._replace(socket="none"), web=settings)
    # The history never reports that the announcement is stored.
    history = UtteranceStore(Path("/nonexistent/queue.db"))
    frontends = make_frontends(
        config, {}, events.append, web_sources=WebSources(dict, int, list, list), history=history
    )
    (server,) = frontends.workers
    assert frontends.notify is not None
    frontends.notify(Status("ready", "idle", volume=80))
    server.open()
    server.start()
    request = {"jsonrpc": "2.0", "id": 1, "method": "say", "params": {"text": "hello"}}
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    early, late = (open_request(settings, request) for _ in range(2))
    threading.Thread(target=lambda: answers.put(send_body(*early)), daemon=True).start()
    poll_until(lambda: events)
    frontends.stop_accepting()
    server.stop_accepting()
    assert b'"shutting_down"' in send_body(*late)
    frontends.close()
    assert b'"durable": false' in answers.get(timeout=SECONDS)
    server.stop()
    assert server.join(Deadline(SECONDS))
    assert [type(event) for event in events] == [Announce]


def open_request(settings: WebSettings, request: object) -> tuple[socket.socket, bytes]:
    """Send the head of a request; return the connection and the body."""
    address, body = settings.address, json.dumps(request).encode()
    assert address is not None
    head = (
        f"POST /rpc HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connected = socket.create_connection(address, SECONDS)
    connected.sendall(head.encode())
    return connected, body


def send_body(connected: socket.socket, body: bytes) -> bytes:
    """Send the body of a request; return the whole response."""
    with connected, connected.makefile("rb") as response:
        connected.sendall(body)
        return response.read()


def test_notifications_and_sources_reach_the_methods(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent")
    events: list[Event] = []
    api = Api(events.append)
    settings = WebSettings(listen=f"127.0.0.1:{free_port()}", token=Secret(value=TOKEN))
    sources = WebSources(dict, int, lambda: [{"key": "web.listen"}], lambda: [{"subject": "clock"}])
    server, notify = make_web(settings, api, sources, events.append)
    server.open()
    server.start()
    notify(Announce(Utterance("a1", "hello")))
    notify(Heard("what time is it"))
    answers: list[bytes] = []
    caller = Caller("web", may_read_texts=True, may_control=True)
    for method in ("queue", "turns", "log", "metrics"):
        request = f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}"}}'
        assert api.call(request.encode(), caller, answers.append)
    queue, turns, log, metrics = answers
    assert b'"text": "hello"' in queue
    assert b'"heard": "what time is it"' in turns
    assert b"web: listening" in log
    assert b"voice_agent_" in metrics
    server.stop_accepting()
    server.stop()
    assert server.join(Deadline(SECONDS))
    assert events == []
