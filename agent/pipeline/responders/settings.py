"""The configuration of the responders."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from agent.config.errors import Finding, suggestion
from agent.config.fields import SectionGroup, group_key, iter_secrets, key, section
from agent.config.rules import Url
from agent.config.secrets import Secret
from agent.pipeline.responders.registry import RESPONDERS, SECTIONS, find, settings_class
from agent.system.named_tuple import NamedTuple


@section
class RuleSettings(NamedTuple):
    """One rule of the rules responder."""

    pattern: str = key("", "regular expression, searched in the user's words without regard to case")
    reply: str = key("", "text of the reply; {time}, {date}, {weekday}, {heard} and groups of the pattern are replaced")


# The end of a question about the current time or date here. It keeps "What time is it in Tokyo?" from matching.
_NOW = r"(?:\W+(?:right|just|now|please|here|today|exactly|currently|at the moment))*\W*$"


def _default_rules() -> tuple[RuleSettings, ...]:
    return (
        RuleSettings(
            pattern=rf"\bwhat (?:time|hour) (?:is it|it is|do you have|have you got){_NOW}", reply="It is {time}."
        ),
        RuleSettings(
            pattern=rf"\b(?:(?:what['’]?s|what is|tell me|give me|say|do you have|have you got|know|got) the"
            rf"|the (?:current|exact|local)|current|^) ?(?:current |exact |local )?time(?: is it)?{_NOW}",
            reply="It is {time}.",
        ),
        RuleSettings(
            pattern=rf"\b(?:what|which) (?:day|date|month|year)(?: of the (?:week|month|year))?"
            rf" (?:is it|it is|is today|today is|is this|are we in|do we have|have we got|is the date){_NOW}",
            reply="Today is {weekday}, {date}.",
        ),
        RuleSettings(
            pattern=rf"\b(?:what['’]?s|what is|tell me|give me|say|do you know|^)(?: the)?"
            rf" ?(?:current |exact )?(?:day|date|today['’]?s (?:date|day)|today)(?: of the week| is it)?{_NOW}",
            reply="Today is {weekday}, {date}.",
        ),
        RuleSettings(
            pattern=rf"\bis (?:it|today) (?:a )?(?:mon|tues|wednes|thurs|fri|satur|sun)day{_NOW}",
            reply="Today is {weekday}, {date}.",
        ),
        RuleSettings(pattern=r"\b(stop|be quiet|silence)\b", reply=""),
        RuleSettings(
            pattern=r"\bhow are (?:you|things)\b|\bhow(?:['’]?s| is) it going\b", reply="I am fine, thank you."
        ),
        RuleSettings(
            pattern=r"\b(?:who|what) are you\b|\bwhat(?:['’]?s| is) your name\b|\bare you (?:a )?(?:robot|human)\b",
            reply="I am a voice assistant.",
        ),
        RuleSettings(
            pattern=r"\bwhat can (?:you|i)\b|\bwhat do you (?:do|know)\b|\bhow can you help\b|\bhelp me\b|^\W*help\W*$",
            reply="I can tell you the time and the date. Ask me: what time is it?",
        ),
        RuleSettings(
            pattern=r"\b(?:can|do) you hear me\b|\bare you (?:there|listening|awake|ready|on)\b",
            reply="Yes, I hear you.",
        ),
        RuleSettings(
            pattern=r"\b(?:weather|forecast|temperature|news|music|song|alarm|timer|joke)\b",
            reply="I cannot do that. I can tell you the time and the date.",
        ),
        RuleSettings(pattern=r"\b(?:good ?bye|bye|good night|see you)\b", reply="Goodbye."),
        RuleSettings(
            pattern=r"\b(?:hello|hi|good (?:morning|afternoon|evening|day))\b|^\W*hey\W*$",
            reply="Hello. How can I help you?",
        ),
        RuleSettings(pattern=r"\bthank(?:s| you)\b", reply="You are welcome."),
    )


INTENT_LANGUAGES = ("de", "en", "es", "fr", "hi")
"""The languages of spoken requests, ISO 639-1. Each one is a module in ``intents/languages``."""


@section
class HomeAssistantSettings(NamedTuple):
    """Home Assistant, which gets the requests for the devices of the house."""

    url: str = key("", "its address, such as http://homeassistant.local:8123; empty: the responder gets these requests")
    token: Secret = key(lambda: Secret(credential="home-assistant"), "where a long-lived access token is stored")


@section
class IntentSettings(NamedTuple):
    """Requests about the device itself, such as timers and the volume, without a service."""

    language: str = key(
        "none",
        "language of the requests (extra intents); auto: that of the voice, none: the responder gets every text",
        choices=("none", "auto", *INTENT_LANGUAGES),
    )
    home_assistant: HomeAssistantSettings = key(HomeAssistantSettings, "Home Assistant, for requests for devices")

    @property
    def is_on(self) -> bool:
        return self.language != "none"

    def check(self) -> Iterator[Finding]:
        """Yield the errors: the libraries are missing, or Home Assistant is set and would get no request."""
        if not self.is_on:
            if self.home_assistant.url:
                yield Finding("language", "Home Assistant gets no request, expected a language or auto", "auto")
            return
        from importlib.util import find_spec

        if not all(map(find_spec, ("hassil", "home_assistant_intents"))):
            from agent.system.optional_parts import install_command

            what = f"the libraries are not installed. Install them: {install_command('spoken-requests')}"
            yield Finding("language", what, "none")


@section
class ResponderSettings(NamedTuple):
    """The source of replies."""

    kind: str = key(
        "rules", "source of the replies; echo repeats the user, none never replies", choices=tuple(RESPONDERS)
    )
    intents: IntentSettings = key(
        IntentSettings,
        "requests about the device itself; a single word means the language",
        shorthand="language",
    )
    timeout_seconds: float = key(20.0, "timeout for a whole reply; a slow model needs more", low=1.0, high=600.0)
    rules: tuple[RuleSettings, ...] = key(
        _default_rules,
        "rules in order; the first that matches gives the reply",
        note="A list here replaces all of these rules.",
    )
    fallback: str = key("Sorry, I did not understand that.", "reply if no rule matches; empty: no reply")
    empty_reply: str = key(
        "Sorry, I have no answer to that.",
        "spoken if a language model answers nothing, such as a tool call; empty: no reply",
    )
    failure_reply: str = key(
        "Sorry, I cannot answer right now.", "spoken if the source of the replies fails; empty: no reply"
    )
    start_early: str = key(
        "auto",
        "start a reply while the user may still go on, and discard it if so | auto: unless the responder has effects"
        " (webhook, command, wyoming); never with tools | always | never: saves the discarded requests",
        choices=("auto", "always", "never"),
    )
    sections: Mapping[str, Any] = group_key(
        SectionGroup(SECTIONS, settings_class, lambda responder: {responder.kind} & {*SECTIONS})
    )
    allow_plaintext: bool = key(False, "true: also http:// to public hosts, where others can read texts and keys")

    def settings(self, name: str) -> Any:
        """Return the section of a responder; its defaults if the configuration has none. Imports the responder."""
        return self.sections[name] if name in self.sections else settings_class(name)()

    def secrets(self) -> list[Secret]:
        """Return the API keys of the responder in use, and the token for Home Assistant if its URL is set."""
        home = self.intents.home_assistant
        return [secret for _, secret in iter_secrets(self._used())] + ([home.token] if home.url else [])

    def urls(self) -> Iterator[Url]:
        """Yield the URLs of the sections that are set or used, and the URL of Home Assistant if it is set."""
        for name in dict.fromkeys((*self.sections, *({self.kind} & {*SECTIONS}))):
            kind = find(name)
            if kind.url_key is None:
                continue
            url = getattr(self.settings(name), kind.url_key)
            if url or name == self.kind:
                yield Url(f"{name}.{kind.url_key}", url, kind.url_schemes, "kind")
            for more in kind.more_urls(self.settings(name)):
                yield more._replace(key=f"{name}.{more.key}")
        if self.intents.home_assistant.url:
            yield Url("intents.home_assistant.url", self.intents.home_assistant.url, ("https", "http"))

    def _used(self) -> Any:
        return self.settings(self.kind) if self.kind in SECTIONS else None

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the rules, in ``intents`` and in the section of the responder in use."""
        # The default rules are valid. Compiling their patterns would take a tenth of the daemon's start time.
        for index, rule in enumerate(() if self.rules == _default_rules() else self.rules):
            yield from _check_rule(rule, f"rules[{index}]")
        for finding in self.intents.check():
            yield finding.below("intents")
        yield from self.check_used()

    def check_used(self) -> Iterator[Finding]:
        """Yield the errors in the section of the responder in use."""
        if self.kind in SECTIONS:
            for finding in find(self.kind).check_used(self.settings(self.kind)):
                yield Finding(f"{self.kind}.{finding.key}", finding.what, finding.suggestion, "kind")


_PLACEHOLDERS = ("time", "date", "weekday", "heard")


def _check_rule(rule: RuleSettings, path: str) -> Iterator[Finding]:
    if not rule.pattern:
        yield Finding(f"{path}.pattern", "the pattern is missing, expected a regular expression")
        return
    try:
        pattern = re.compile(rule.pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"this is no regular expression: {error}; expected one in the syntax of Python's re module"
        yield Finding(f"{path}.pattern", what)
        return
    allowed = [*_PLACEHOLDERS, *pattern.groupindex]
    for name in re.findall(r"\{(\w+)\}", rule.reply):
        if name not in allowed and not (name.isdigit() and int(name[:6]) <= pattern.groups):
            expected = ", ".join(f"{{{word}}}" for word in allowed)
            what = f"there is no {{{name}}}, expected {expected} or the number of a group"
            yield Finding(f"{path}.reply", what, suggestion(name, allowed))
