"""Makes the responder that is configured."""

from __future__ import annotations

from agent.pipeline.responders.responder import Answers
from agent.pipeline.responders.settings import Responder


def make_responder(settings: Responder) -> Answers:
    """The responder of the kind that ``settings`` name. Raises ``ConfigError`` where what it needs is not there."""
    # Each is imported only where it answers: the network and processes of the others cost a small machine its start.
    seconds = settings.timeout_seconds
    if settings.kind == "openai":
        from agent.pipeline.responders.openai import OpenAI

        return OpenAI(settings.openai, seconds, settings.allow_plaintext)
    if settings.kind == "webhook":
        from agent.pipeline.responders.webhook import Webhook

        return Webhook(settings.webhook, seconds, settings.allow_plaintext)
    if settings.kind == "command":
        from agent.pipeline.responders.command import Command

        return Command(settings.command, seconds)
    if settings.kind == "rules":
        from agent.pipeline.responders.rules import Rules

        return Rules(settings.rules, settings.fallback)
    from agent.pipeline.responders.echo import Echo, Silence

    return Echo() if settings.kind == "echo" else Silence()
