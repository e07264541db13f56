"""The methods that read what the daemon keeps for its page."""

from __future__ import annotations

import json
import queue
from typing import Any

import pytest

from agent.frontends.api.api import Api, Caller
from agent.frontends.api.details import DetailReaders, SlowReader
from agent.pipeline.events import Event

STRANGER = Caller("web", may_read_texts=False, may_control=False)
OWNER = Caller("web", may_read_texts=True, may_control=True)
DETAILS = DetailReaders(
    queue=lambda with_texts: [{"id": "a", **({"text": "x"} if with_texts else {})}],
    turns=lambda with_texts: [],
    levels=lambda: {"speaker": -12},
    log=list,
    metrics=lambda: "up 1\n",
    config=SlowReader("configuration", list),
    checks=SlowReader("checks", list),
)


def call(method: str, caller: Caller, details: DetailReaders | None = DETAILS) -> Any:
    api, answers = Api(queue.SimpleQueue[Event]().put), []
    api.details = details
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method})
    assert api.call(request.encode(), caller, answers.append)
    (answer,) = map(json.loads, answers)
    return answer.get("result") or answer["error"]["data"]["name"]


@pytest.mark.parametrize(
    ("method", "result"), [("metrics", {"text": "up 1\n"}), ("levels", {"levels": {"speaker": -12}})]
)
def test_a_caller_without_rights_reads_metrics_and_levels(method: str, result: object) -> None:
    assert call(method, STRANGER) == result


def test_the_queue_needs_rights() -> None:
    assert call("queue", STRANGER) == "forbidden"
    assert call("queue", OWNER) == {"utterances": [{"id": "a", "text": "x"}]}


@pytest.mark.parametrize("method", ["metrics", "levels", "queue", "turns", "log", "config", "checks"])
def test_a_daemon_without_a_page_keeps_no_details(method: str) -> None:
    assert call(method, OWNER, None) == "unavailable"
