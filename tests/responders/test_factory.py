from __future__ import annotations

import pytest

from agent.config import model
from agent.errors import ConfigError
from agent.responders.command import Command
from agent.responders.echo import Echo, Silence
from agent.responders.factory import make_responder
from agent.responders.openai import OpenAI
from agent.responders.rules import Rules
from agent.responders.webhook import Webhook


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("rules", Rules),
        ("echo", Echo),
        ("none", Silence),
        ("openai", OpenAI),
        ("webhook", Webhook),
        ("command", Command),
    ],
)
def test_each_kind_makes_its_responder(kind: str, made: type) -> None:
    settings = model.Responder(
        kind=kind, webhook=model.Webhook(url="http://localhost/"), command=model.Command(argv=("true",))
    )
    assert type(make_responder(settings)) is made


@pytest.mark.parametrize("kind", ["webhook", "command"])
def test_what_a_kind_needs_must_be_configured(kind: str) -> None:
    with pytest.raises(ConfigError):
        make_responder(model.Responder(kind=kind))
