"""The examples in docs/api.md are accepted by the API."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from agent import client
from agent.frontends.api.api import Api, Caller
from agent.frontends.api.described import EVENTS
from agent.frontends.api.methods import METHODS
from agent.pipeline.events import Event
from agent.pipeline.status import DeviceState, ServiceState, Status

TEXT = (Path(__file__).parents[3] / "docs/api.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def call(request: dict[str, Any]) -> Any:
    events: list[Event] = []
    api = Api(events.append)
    speech = ServiceState("local", "speech", "ready", breaker="closed")
    api.notify(Status("ready", "idle", services=(speech,), devices=(DeviceState("speaker", "default", "ready"),)))
    caller = Caller("test", True, True, api.connect(lambda line: None, lambda: None))
    answers: list[bytes] = []
    assert api.call(json.dumps(request).encode(), caller, answers.append)
    return json.loads(answers[0])


def test_requests_of_the_examples_are_accepted() -> None:
    found = re.findall(r'\{"jsonrpc": "2.0", "id": \d+, "method": .*?\}(?=\n|\\n)', TEXT)
    assert len(found) >= 3
    for line in found:
        assert "result" in call(json.loads(line)), line


def test_calls_of_the_javascript_examples_name_methods_and_parameters() -> None:
    found = re.findall(r'(?:request\(\d+|call\()[, ]*"([\w.]+)", \{(.*?)\}\)', "".join(blocks("javascript")))
    assert len(found) >= 3
    for method, params in found:
        assert set(re.findall(r"(\w+): ", params)) <= METHODS[method].parameters.keys()


def test_python_examples_use_existing_names() -> None:
    for block in blocks("python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "agent.client":
                assert all(hasattr(client, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "agent":
                assert hasattr(client.Client, node.attr)


def test_status_of_the_document_has_all_fields() -> None:
    (example,) = (json.loads(block) for block in blocks("json") if block.startswith('{"status"'))
    status = call({"jsonrpc": "2.0", "id": 1, "method": "status"})["result"]
    assert example.keys() == status.keys()
    assert example["services"][0].keys() == status["services"][0].keys()
    assert example["devices"]["speaker"].keys() == status["devices"]["speaker"].keys()


def test_fields_of_every_event_are_documented() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .*`", TEXT, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names >= set(EVENTS) | {"lost"}
