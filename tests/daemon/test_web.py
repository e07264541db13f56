"""The web frontend as the daemon builds it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.web import TOKEN, free_port

from agent.config.secrets import Secret
from agent.daemon.web import WebSources, make_web
from agent.frontends.api.api import Api, Caller
from agent.frontends.web.settings import WebSettings
from agent.pipeline.events import Announce, Event, Heard, Utterance
from agent.system.threads import Deadline

OFF = """
import os, sys, threading
from agent.daemon.builder import make_frontends
from agent.settings.model import Config
frontends = make_frontends(Config(), os.environ, print)
print([worker.name for worker in frontends.workers], threading.active_count())
print([name for name in sys.modules if name.startswith("agent.frontends.web.") and not name.endswith(".settings")])
print([name for name in ("http.server", "ssl", "agent.daemon.web") if name in sys.modules])
"""


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['control'] 1", "[]", "[]"]


@pytest.fixture
def root_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The handlers of the root logger are afterwards those of before."""
    caplog.set_level(logging.INFO, "agent")
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers


def test_notifications_and_sources_reach_the_methods(root_log: None) -> None:
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
    assert server.join(Deadline(20.0))
    assert events == []
