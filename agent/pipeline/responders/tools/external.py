"""Makes the tools that run a program or send a request to a URL."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.program import run_program
from agent.pipeline.responders.tools.settings import CommandTool, WebhookTool
from agent.pipeline.responders.tools.tool import Tool, ToolError, ToolResult, as_json
from agent.services.protocols.parsing import excerpt

MAX_OUTPUT_BYTES = 65536
_TEXTS = ("application/json", "text/plain", "")


def command_tool(settings: CommandTool) -> Tool:
    """Return the tool that runs a program.

    The model cannot change the command line: its arguments are JSON on the standard input of the program.
    """

    def run(arguments: Mapping[str, Any]) -> ToolResult:
        stdin = as_json(arguments).encode("utf-8", "replace") + b"\n"
        printed = bytearray()
        program = run_program(settings.name, settings.argv, stdin, settings.timeout_seconds, MAX_OUTPUT_BYTES)
        with closing(program) as output:
            for piece in output:
                printed += piece
                yield
        return printed.decode("utf-8", "replace").strip()

    parameters = dict(settings.parameters)
    return Tool(settings.name, settings.description, parameters, run, settings.confirm, settings.question)


def webhook_tool(settings: WebhookTool, allow_plaintext: bool) -> Tool:
    """Return the tool that sends a JSON POST to the URL of the configuration."""

    def run(arguments: Mapping[str, Any]) -> ToolResult:
        key = settings.api_key.reveal()
        body = bytearray()
        response = post_json(
            settings.name,
            settings.url,
            arguments,
            key=key,
            accept="application/json, text/plain",
            timeout_seconds=settings.timeout_seconds,
            allow_plaintext=allow_plaintext,
            section="responder.openai.tools.webhooks",
        )
        with closing(response) as pieces:
            for item in pieces:
                if isinstance(item, ResponseHead):
                    if item.content_type not in _TEXTS:
                        raise ToolError(f"expected text or JSON, got {excerpt(item.content_type)}")
                elif item is not None:
                    body += item
                yield
        return body.decode("utf-8", "replace").strip()

    parameters = dict(settings.parameters)
    return Tool(settings.name, settings.description, parameters, run, settings.confirm, settings.question)
