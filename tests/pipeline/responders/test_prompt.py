from __future__ import annotations

import time
from datetime import datetime

import pytest

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.responders.openai import Settings
from agent.pipeline.responders.prompt import fill_prompt, prompt_problem
from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.timers import Clock, Timers


def test_fields_are_filled_at_each_request() -> None:
    timers = Timers(Clock(time.monotonic))
    control = DeviceControl(lambda event: None, timers, lambda all, done: done(True), volume=lambda: 40)
    device = DeviceContext(control, lambda: "box", "kitchen")
    prompt = "{name} in {room}, {volume}, timers: {timers}, {{literal}}"
    assert fill_prompt(prompt, device) == "box in kitchen, 40 percent, timers: none, {literal}"
    timers.start(3600.0, "tea {now}")
    timers.set_alarm("2999-01-02 07:05")
    filled = fill_prompt(prompt, device)
    assert 'timer "tea {now}" 1:00:00 left' in filled and "alarm at 2999-01-02 07:05" in filled
    before = datetime.now()
    now = fill_prompt("{date} {now}", device)
    assert f"{before:%A, %Y-%m-%d %H:%M}" <= now or now == f"{datetime.now():%A, %Y-%m-%d %H:%M}"


def test_a_device_that_nothing_is_known_of() -> None:
    filled = fill_prompt("{name} {room} {volume} {timers}", DeviceContext())
    assert filled == "unknown unknown unknown none"


@pytest.mark.parametrize(
    ("prompt", "expected", "suggestion"),
    [
        ("Now: {noww}", "{noww}", "now"),
        ("Answer with {", "field {,", None),
        ("Answer with }", "field },", None),
        ('Answer with JSON {"text": "..."} only', '{"text": "..."}', None),
        ("{}", "{}", None),
        ("{now!r}", "{now!r}", "now"),
        ("{now.__class__}", "{now.__class__}", None),
        ("{{now}", "field },", None),
    ],
)
def test_unknown_field_or_stray_brace_is_explained(prompt: str, expected: str, suggestion: str | None) -> None:
    problem = prompt_problem(prompt)
    assert problem is not None
    what, hint = problem
    assert expected in what and "{{ and }}" in what and "{now}" in what
    assert suggestion is None or hint == suggestion


@pytest.mark.parametrize("prompt", ["", Settings().system, "It is {now}.", 'JSON {{"a": 1}}', "{{{now}}}"])
def test_usable_prompt_has_no_problem(prompt: str) -> None:
    assert prompt_problem(prompt) is None
