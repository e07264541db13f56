"""Check of Home Assistant, which executes requests for devices: sends it one text that is no request."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent.cli.doctor.config import key_with_origin
from agent.cli.doctor.result import ERROR, OK, CheckResult
from agent.cli.doctor.services import cure_of
from agent.errors import AgentError
from agent.pipeline.responders.intents.home_assistant import SERVICE, HomeAssistant
from agent.settings.loader import Loaded

TEXT = "voice-agent doctor"
"""A text that is no request for any device, so that nothing is switched."""


def check_home_assistant(loaded: Loaded) -> CheckResult:
    """Check the address and the token in ``responder.intents.home_assistant``."""
    settings, language = loaded.config.responder.intents.home_assistant, "en"
    home = HomeAssistant(settings, language, allow_plaintext=loaded.config.responder.allow_plaintext)
    try:
        for _ in home.request(TEXT):
            pass
    except AgentError as error:
        dotted = key_with_origin(loaded, "responder.intents.home_assistant.url")
        cure, own = cure_of(error, settings.url, dotted, settings.token)
        return CheckResult("Home Assistant", ERROR, str(error).removeprefix(f"{SERVICE}: "), cure, own)
    return CheckResult("Home Assistant", OK, f"{urlsplit(settings.url).hostname} answered")
