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
def test_make_responder_returns_each_kind(kind: str, made: type) -> None:
    sections = {"webhook": webhook.Settings(url="http://localhost/"), "command": command.Settings(argv=("true",))}
    settings = ResponderSettings(kind=kind, sections=sections)
    assert type(make_responder(settings)) is made


@pytest.mark.parametrize("kind", ["webhook", "openai"])
def test_key_is_sent_unencrypted_only_if_allowed(kind: str, service: Any, hear: Any) -> None:
    body = b'{"choices": [{"message": {"content": "Hi."}}], "text": "Hi."}'
    service.script = lambda handler: handler.reply(200, "application/json", body)
    outside = service.url.replace("127.0.0.1", "0.0.0.0")  # reaches this machine, and is no private address
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
def test_make_responder_raises_without_a_required_key(kind: str) -> None:
    with pytest.raises(ConfigError):
        make_responder(ResponderSettings(kind=kind))
