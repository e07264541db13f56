"""Makes the responder that is configured."""

from __future__ import annotations

from agent.config import model
from agent.responders.answers import Answers
from agent.responders.command import Command
from agent.responders.echo import Echo, Silence
from agent.responders.openai import OpenAI
from agent.responders.rules import Rules
from agent.responders.webhook import Webhook


def make_responder(settings: model.Responder) -> Answers:
    """The responder of the kind that ``settings`` name. Raises ``ConfigError`` where what it needs is not there."""
    seconds = settings.timeout_seconds
    if settings.kind == "rules":
        return Rules(settings.rules, settings.fallback)
    if settings.kind == "openai":
        return OpenAI(settings.openai, seconds)
    if settings.kind == "webhook":
        return Webhook(settings.webhook, seconds)
    if settings.kind == "command":
        return Command(settings.command, seconds)
    return Echo() if settings.kind == "echo" else Silence()
