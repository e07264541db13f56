from __future__ import annotations

from typing import Any

import pytest

from agent.config.secrets import Secret
from agent.errors import ConfigError
from agent.pipeline.responders import command, openai, webhook
from agent.pipeline.responders.command import CommandResponder
from agent.pipeline.responders.echo import EchoResponder, SilentResponder
from agent.pipeline.responders.openai import OpenAIResponder
from agent.pipeline.responders.registry import make_responder
from agent.pipeline.responders.rules import RulesResponder
from agent.pipeline.responders.settings import ResponderSettings
from agent.pipeline.responders.webhook import WebhookResponder


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("rules", RulesResponder),
        ("echo", EchoResponder),
        ("none", SilentResponder),
        ("openai", OpenAIResponder),
        ("webhook", WebhookResponder),
        ("command", CommandResponder),
    ],
)
def test_each_kind_makes_its_responder(kind: str, made: type) -> None:
    sections = {"webhook": webhook.Settings(url="http://localhost/"), "command": command.Settings(argv=("true",))}
    settings = ResponderSettings(kind=kind, sections=sections)
    assert type(make_responder(settings)) is made


@pytest.mark.parametrize("kind", ["webhook", "openai"])
def test_a_key_travels_without_encryption_only_where_that_is_allowed(kind: str, service: Any, hear: Any) -> None:
    """The configuration asks for ``responder.allow_plaintext`` and warns of it, and then every answer was refused: the
    address would have to be https://."""
    body = b'{"choices": [{"message": {"content": "Hi."}}], "text": "Hi."}'
    service.script = lambda handler: handler.reply(200, "application/json", body)
    outside = service.url.replace("127.0.0.1", "0.0.0.0")  # it leads here, and is on no private network
    key = Secret(value="a key of the test")
    sections = {
        "webhook": webhook.Settings(url=outside, api_key=key),
        "openai": openai.Settings(base_url=outside, api_key=key),
    }
    settings = {
        is_allowed: ResponderSettings(kind=kind, sections=sections, allow_plaintext=is_allowed)
        for is_allowed in (True, False)
    }
    assert hear(make_responder(settings[True])) == ["Hi."]
    with pytest.raises(ConfigError, match="without encryption"):
        hear(make_responder(settings[False]))
    assert [headers["authorization"] for _, headers, _ in service.requests] == ["Bearer a key of the test"]


@pytest.mark.parametrize("kind", ["webhook", "command"])
def test_what_a_kind_needs_must_be_configured(kind: str) -> None:
    with pytest.raises(ConfigError):
        make_responder(ResponderSettings(kind=kind))
