"""No request breaks the API: each gets one printable response, and never an internal error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.frontends.api.api import Api, Caller
from agent.frontends.api.json_rpc import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from agent.frontends.api.methods import METHODS
from agent.frontends.api.parameters import Parameter, check_all
from agent.pipeline.events import Announce, Event

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted({name for method in METHODS.values() for name in method.parameters})
REQUESTS = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0") | VALUES,
        "id": VALUES,
        "method": st.sampled_from(sorted(METHODS)) | VALUES,
        "params": st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), VALUES, max_size=4) | VALUES,
    }
)


def call(line: bytes) -> tuple[list[bytes], list[Event]]:
    events: list[Event] = []
    answers: list[bytes] = []
    api = Api(events.append)
    caller = Caller("test", True, True, api.connect(lambda line: None, lambda: None))
    assert api.call(line, caller, answers.append) == bool(answers)
    return answers, events


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | (REQUESTS | VALUES).map(lambda value: json.dumps(value).encode()))
def test_every_line_gets_at_most_one_printable_response(line: bytes) -> None:
    answers, events = call(line)
    for answer in answers:
        response = json.loads(answer)
        assert b"\n" not in answer and len(answers) == 1
        error = response.get("error", {"code": 0, "message": "x"})
        assert error["code"] != INTERNAL_ERROR and error["message"].isprintable() and len(error["message"]) < 1000
    for event in events:
        if isinstance(event, Announce) and event.utterance.text is not None:
            event.utterance.text.encode("utf-8")


VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[3] / "docs/api.schema.json").read_text("utf-8"))
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_schema_and_checks_agree(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(METHODS)))
    parameters = METHODS[name].parameters
    candidates: dict[str, st.SearchStrategy[Any]] = {
        key: st.sampled_from([*spec.choices, [*spec.choices], [], "a", "a b", "", -101, 0, 1, 5000, 0.5, True])
        for key, spec in parameters.items()
    }
    params = data.draw(st.fixed_dictionaries({}, optional=candidates | {"unknown": st.none()}))
    request = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
    try:
        check_all(name, parameters, params)
        is_allowed = True
    except RpcError:
        is_allowed = False
    assert VALIDATOR.is_valid(request) == is_allowed


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("hush", {"priority": 1}, "no parameter 'priority'"),
        ("say", {"text": "a", "\x1b[2J": 1}, r"no parameter '\\x1b[2J'"),
        ("volume", {"percent": 101}, "from 0 to 100"),
        ("volume", {"percent": 50.5}, "from 0 to 100"),
        ("volume", {"percent": True}, "from 0 to 100"),
        ("volume", {}, "needs the parameter percent"),
        ("mute", {"device": "door"}, "speaker, microphone"),
        ("mute", {"device": []}, "speaker, microphone"),
        ("subscribe", {"events": "state"}, "events is a list"),
        ("subscribe", {"events": [1]}, "list of state"),
        ("say.append", {"id": "a", "text": "\ud800"}, "UTF-8"),
        ("history", {"limit": 0}, "from 1 to 1000"),
    ],
)
def test_invalid_parameter_is_explained(method: str, params: dict[str, Any], words: str) -> None:
    answers, events = call(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    error = json.loads(answers[0])["error"]
    assert error["code"] == INVALID_PARAMS and words in error["message"] and error["message"].isprintable()
    assert events == []


def test_schema_of_a_parameter_has_its_bounds() -> None:
    both = Parameter(("string", "integer"), "help", low=-1, high=2, choices=("a", "b"))
    assert both.schema() == {
        "anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "integer", "minimum": -1, "maximum": 2}],
        "description": "help",
    }
    text = Parameter(("string",), "help", low=1, high=9, pattern=("[a-z]+", "letters"))
    assert text.schema() == {
        "type": "string",
        "minLength": 1,
        "maxLength": 9,
        "pattern": "^[a-z]+$",
        "description": "help",
    }
