from __future__ import annotations

import json
from typing import Any

import pytest

from agent.frontends.api.api import Api, Caller
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.timers import MAX_TIMERS, Clock, Timers

OWNER = Caller("test", may_read_texts=True, may_control=True)


@pytest.fixture
def api() -> Api:
    timers = Timers(Clock(lambda: 0.0))
    control = DeviceControl(
        lambda event: None, timers, lambda saved, done: done(True), lambda: 50, language=lambda: "de"
    )
    return Api(lambda event: None, device_control=lambda: control)


def call(api: Api, method: str, caller: Caller = OWNER, **params: object) -> Any:
    answers: list[bytes] = []
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    api.call(json.dumps(request).encode(), caller, answers.append)
    (answer,) = map(json.loads, answers)
    return answer.get("result") or answer["error"]


def test_timer_is_set_with_a_clean_name_in_the_language_of_the_device(api: Api) -> None:
    answer = call(api, "timers.set", seconds=90, name="  green\x1b[2J\n tea ")
    assert answer["durable"] and answer["timer"]["name"] == "green[2J tea"
    assert answer["timer"]["remaining_seconds"] == 90.0
    control = api.device_control()
    assert control is not None and control.timers.all[0].language == "de"
    assert call(api, "timers.cancel", timer="  green\x1b[2J\n tea ") == {"number": 1, "durable": True}


def test_names_are_texts(api: Api) -> None:
    call(api, "timers.set", seconds=90, name="tea")
    reader = Caller("test", may_read_texts=False, may_control=False)
    (timer,) = call(api, "timers.list", reader)["timers"]
    assert timer["name"] == "" and timer["number"] == 1
    assert call(api, "timers.cancel", reader, timer="1")["data"]["name"] == "forbidden"


def test_number_is_preferred_and_a_name_has_to_be_unique(api: Api) -> None:
    for name in ("2", "tea", "tea"):
        call(api, "timers.set", seconds=90, name=name)
    assert call(api, "timers.cancel", timer="2") == {"number": 2, "durable": True}
    call(api, "timers.set", seconds=90, name="TEA")
    error = call(api, "timers.cancel", timer="tea")
    assert error["data"]["name"] == "unknown_timer" and "3, 4" in error["message"]
    assert call(api, "timers.cancel", timer="2") == {"number": 1, "durable": True}
    assert call(api, "timers.cancel", timer="eggs")["data"]["name"] == "unknown_timer"


def test_timers_without_a_name_need_their_number(api: Api) -> None:
    call(api, "timers.set", seconds=90)
    assert call(api, "timers.cancel", timer=" ")["data"]["name"] == "unknown_timer"
    assert call(api, "timers.cancel", timer=" 1 ") == {"number": 1, "durable": True}


def test_number_of_timers_is_bounded_and_wrong_lengths_are_refused(api: Api) -> None:
    for _ in range(MAX_TIMERS):
        call(api, "timers.set", seconds=90)
    assert call(api, "timers.set", seconds=90)["data"]["name"] == "too_much"
    for seconds in (0, -1, 1e9, True, "5"):
        assert call(api, "timers.set", seconds=seconds)["code"] == -32602


def test_daemon_without_timers_names_the_setting() -> None:
    error = call(Api(lambda event: None), "timers.list")
    assert error["data"]["name"] == "unavailable" and "responder.intents" in error["message"]
