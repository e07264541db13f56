"""The configuration of the responders."""

from __future__ import annotations

from dataclasses import dataclass

from agent.config.fields import key
from agent.config.secrets import Secret


@dataclass(frozen=True)
class Rule:
    """What is answered to what."""

    pattern: str = key("", "regular expression, searched in what was heard, case ignored")
    reply: str = key("", "what is said; {time}, {date}, {weekday}, {heard} and the groups of the pattern are filled in")


def _rules() -> tuple[Rule, ...]:
    return (
        Rule(pattern=r"\bwhat time\b|\btime is it\b", reply="It is {time}."),
        Rule(pattern=r"\bwhat (day|date)\b|\bdate\b", reply="Today is {weekday}, {date}."),
        Rule(pattern=r"\b(hello|hi|good morning|good evening)\b", reply="Hello. How can I help you?"),
        Rule(pattern=r"\bthank(s| you)\b", reply="You are welcome."),
        Rule(pattern=r"\b(stop|be quiet|silence)\b", reply=""),
    )


@dataclass(frozen=True)
class OpenAI:
    """A chat service."""

    base_url: str = key("https://api.openai.com/v1", "base URL of any compatible service")
    api_key: Secret = key(lambda: Secret(credential="openai"), "key, where the service wants one")
    model: str = key("gpt-4o-mini", "which of its models answers")
    system: str = key(
        "You are a voice assistant. Answer in one or two short spoken sentences, without markup.",
        "what it is told before the first turn",
    )
    history_turns: int = key(6, "how many turns are remembered", low=0, high=100)
    max_tokens: int | None = key(None, "longest answer; null: the service's own", low=1, high=100000)


@dataclass(frozen=True)
class Webhook:
    """A program on the network."""

    url: str = key("", "gets a JSON POST {text, turn}; answers with text or JSON {text}")
    api_key: Secret = key(lambda: Secret(credential="webhook"), "sent as a Bearer token, where there is one")


@dataclass(frozen=True)
class Command:
    """A program on this machine."""

    argv: tuple[str, ...] = key((), "program and arguments; the heard text comes on its stdin, never through a shell")
    output_bytes: int = key(65536, "what it prints beyond this is cut off", low=1, high=1048576)


@dataclass(frozen=True)
class Responder:
    """Who answers."""

    kind: str = key("rules", "who answers", choices=("rules", "echo", "openai", "webhook", "command", "none"))
    timeout_seconds: float = key(20.0, "how long an answer may take", low=1.0, high=600.0)
    rules: tuple[Rule, ...] = key(_rules, "tried in this order; the first that matches answers")
    fallback: str = key("Sorry, I did not understand that.", "the answer where no rule matches; empty: none")
    openai: OpenAI = key(OpenAI, "a chat service")
    webhook: Webhook = key(Webhook, "a program on the network")
    allow_plaintext: bool = key(False, "allow http:// to a host that is neither this one nor on a private network")
    command: Command = key(Command, "a program on this machine")
