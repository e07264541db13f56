"""Check of the responder: sends one short question to the language model or the webhook."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

from agent.cli.doctor.config import key_with_origin
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.cli.doctor.services import cure_of
from agent.config.secrets import Secret
from agent.errors import AgentError, ServiceError
from agent.pipeline.responders.registry import find, make_responder
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS, Responder
from agent.settings.loader import Loaded
from agent.system.threads import Deadline

QUESTION = "This is a test by voice-agent doctor. Answer with one word."
ANSWER_SECONDS = 20.0


def check_responder(loaded: Loaded, seconds: float = ANSWER_SECONDS) -> list[CheckResult]:
    """Check the responder and the MCP servers of its tools. Return no result for a responder without a URL.

    Args:
        loaded: The configuration.
        seconds: The longest time until the first word of the reply.
    """
    settings = loaded.config.responder
    kind = find(settings.kind)
    if loaded.config.conversation.mode != "assistant" or kind.url_key is None:
        return []
    subject = f"responder {settings.kind}"
    tools: list[CheckResult] = []
    section = settings.settings(settings.kind)
    if settings.kind == "openai" and section.tools.is_on:
        tools = [_check_mcp_server(loaded, index) for index in range(len(section.tools.mcp))]
        # The check must not cause actions: the model gets no tools.
        section = section._replace(tools=type(section.tools)())
        settings = settings._replace(sections={**settings.sections, settings.kind: section})
    try:
        responder = make_responder(settings)
    except AgentError as error:
        cure = f"correct {key_with_origin(loaded, f'responder.{settings.kind}')}"
        return [CheckResult(subject, ERROR, str(error), cure, own=True), *tools]
    try:
        # Shorter than the timeout of the responder: its error would not distinguish a slow model from a wrong URL.
        deadline = Deadline(min(seconds, settings.timeout_seconds - 2 * MAX_SILENCE_SECONDS))
        return [_check_reply(loaded, subject, responder, deadline), *tools]
    finally:
        responder.close()


def _check_mcp_server(loaded: Loaded, index: int) -> CheckResult:
    from agent.pipeline.responders.tools.mcp import McpConnection

    responder = loaded.config.responder
    server = responder.settings("openai").tools.mcp[index]
    subject = f"MCP server {server.name}"
    try:
        count = McpConnection(server, responder.allow_plaintext).probe()
    except AgentError as error:
        cure = f"check responder.openai.tools.mcp[{index}]: the url has to be the Streamable HTTP endpoint"
        return CheckResult(subject, WARNING, str(error).removeprefix(f"{subject}: "), cure)
    return CheckResult(subject, OK, f"{count} tools")


def _check_reply(loaded: Loaded, subject: str, responder: Responder, deadline: Deadline) -> CheckResult:
    settings = loaded.config.responder
    section, url_key = settings.settings(settings.kind), find(settings.kind).url_key
    assert url_key is not None
    url = str(getattr(section, url_key))
    dotted = key_with_origin(loaded, f"responder.{settings.kind}.{url_key}")
    host = urlsplit(url).hostname or ""
    try:
        with closing(responder.reply(QUESTION, 0)) as pieces:
            while True:
                if next(pieces).strip():
                    return CheckResult(subject, OK, f"{host} answered")
                if deadline.is_expired:
                    saw = f"{host} accepted the request and sent no word in time"
                    cure = f"a model that is being loaded answers later; else check {dotted}"
                    return CheckResult(subject, WARNING, saw, cure)
    except StopIteration as end:
        if settings.kind == "webhook" or end.value is None:
            return CheckResult(subject, OK, f"{host} answered without a text")
        return CheckResult(subject, WARNING, f"{host}: {end.value.reason}", f"check {dotted} and the model")
    except AgentError as error:
        secret = getattr(section, "api_key", None)
        cure, own = _cure(error, url, dotted, secret)
        return CheckResult(subject, ERROR, str(error).removeprefix(f"{settings.kind}: "), cure, own)


def _cure(error: AgentError, url: str, dotted: str, secret: Secret | None) -> tuple[str, bool]:
    if isinstance(error, ServiceError) and error.status is None and error.__cause__ is None:
        return f"check {dotted} and the settings beside it: the address has to be the API, not a web page", True
    return cure_of(error, url, dotted, secret)
