"""The configuration of the tools that a language model may call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from agent.config.errors import Finding, suggestion
from agent.config.fields import key, section
from agent.config.rules import Url
from agent.config.secrets import Secret
from agent.system.named_tuple import NamedTuple

GROUPS: Mapping[str, tuple[str, ...]] = {
    "timers": ("list_timers", "set_timer", "set_alarm", "cancel_timer"),
    "volume": ("set_volume",),
    "announce": ("announce",),
    "status": ("get_status",),
}
"""The names of the built-in tools, by the values of ``ToolSettings.builtin``."""

SEPARATOR = "__"
"""Joins the name of an MCP server and the name of a tool. No configured name contains it, so that no server can replace
another tool."""

_NAME = r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*"
_MAX_NAME = 64
_MAX_SERVER_NAME = 20
QUESTION_FIELD = re.compile(r"\{(\w+)\}")
"""Matches an argument in the question of a tool."""


def _no_parameters() -> Mapping[str, Any]:
    return {"type": "object", "properties": {}}


@section
class CommandTool(NamedTuple):
    """A program on this machine that the model may run."""

    name: str = key("", "name of the tool: letters, digits, _ and -")
    description: str = key("", "what the tool does and when to use it, for the model")
    parameters: Mapping[str, Any] = key(_no_parameters, "JSON Schema of the arguments, an object")
    argv: tuple[str, ...] = key((), "program and its arguments; the model's arguments are JSON on its standard input")
    timeout_seconds: float = key(10.0, "longest run time", low=0.1, high=30.0)
    confirm: bool = key(False, "true: the device asks the user first")
    question: str = key("", "sentence of that question, with {argument} for an argument; empty: one of the language")


@section
class WebhookTool(NamedTuple):
    """A URL that gets the arguments of the model."""

    name: str = key("", "name of the tool: letters, digits, _ and -")
    description: str = key("", "what the tool does and when to use it, for the model")
    parameters: Mapping[str, Any] = key(_no_parameters, "JSON Schema of the arguments, an object")
    url: str = key("", "URL that gets a JSON POST with the arguments and answers with text or JSON")
    api_key: Secret = key(lambda: Secret(value=""), "where the bearer token is stored; without a token none is sent")
    timeout_seconds: float = key(10.0, "timeout of the request", low=0.1, high=30.0)
    confirm: bool = key(False, "true: the device asks the user first")
    question: str = key("", "sentence of that question, with {argument} for an argument; empty: one of the language")


@section
class McpServer(NamedTuple):
    """A server of the Model Context Protocol."""

    name: str = key("", "name of the server; its tools are called NAME__TOOL")
    url: str = key("", "URL of its Streamable HTTP endpoint")
    api_key: Secret = key(lambda: Secret(value=""), "where the bearer token is stored; without a token none is sent")
    tools: tuple[str, ...] = key((), "tools that the model may call; empty: all of them")
    timeout_seconds: float = key(10.0, "timeout of a request", low=0.1, high=30.0)
    confirm: bool = key(False, "true: the device asks the user before each call")


@section
class ToolSettings(NamedTuple):
    """What the model may do besides answering. It can call nothing that is not named here."""

    builtin: tuple[str, ...] = key(
        (), "timers: set, list and cancel timers and alarms | volume | announce | status", choices=tuple(GROUPS)
    )
    commands: tuple[CommandTool, ...] = key(
        (), "programs: {name, description, parameters, argv, timeout_seconds, confirm, question}"
    )
    webhooks: tuple[WebhookTool, ...] = key(
        (), "URLs: {name, description, parameters, url, api_key, timeout_seconds, confirm, question}"
    )
    mcp: tuple[McpServer, ...] = key(
        (), "MCP servers over Streamable HTTP: {name, url, api_key, tools, timeout_seconds, confirm}"
    )

    @property
    def is_on(self) -> bool:
        """Whether any tool is configured."""
        return bool(self.builtin or self.commands or self.webhooks or self.mcp)

    def urls(self) -> Iterator[Url]:
        """Yield the URLs of the tools."""
        urls = [(f"webhooks[{index}].url", each.url) for index, each in enumerate(self.webhooks)]
        urls += [(f"mcp[{index}].url", each.url) for index, each in enumerate(self.mcp)]
        for name, url in urls:
            yield Url(name, url, ("https", "http"))

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the names, the descriptions, the schemas, the questions and the programs."""
        used = {name: "builtin" for group in self.builtin for name in GROUPS[group]}
        tools: list[tuple[str, CommandTool | WebhookTool]] = []
        tools += [(f"commands[{index}]", each) for index, each in enumerate(self.commands)]
        tools += [(f"webhooks[{index}]", each) for index, each in enumerate(self.webhooks)]
        for path, tool in tools:
            yield from _check_name(tool.name, path, used, _MAX_NAME)
            yield from _check_tool(tool, path)
        servers: dict[str, str] = {}
        for index, server in enumerate(self.mcp):
            yield from _check_name(server.name, f"mcp[{index}]", servers, _MAX_SERVER_NAME)
        if self.commands:
            import shutil  # imported here because most configurations have no command

            for index, command in enumerate(self.commands):
                path, argv = f"commands[{index}].argv", command.argv
                if not argv or not argv[0] or any("\0" in word for word in argv):
                    yield Finding(path, "the program is missing, expected [PROGRAM, ARGUMENT, ...]")
                elif shutil.which(argv[0]) is None:
                    yield Finding(path, f"there is no program {argv[0]}, expected one that can be started")


def _check_name(name: str, path: str, used: dict[str, str], longest: int) -> Iterator[Finding]:
    if not re.fullmatch(_NAME, name) or len(name) > longest:
        what = f"this is no name of a tool, expected at most {longest} letters and digits with single _ or - between"
        yield Finding(f"{path}.name", what)
    elif name in used:
        yield Finding(f"{path}.name", f"{name} is the name of another tool ({used[name]}), expected a name of its own")
    used.setdefault(name, path)


def _check_tool(tool: CommandTool | WebhookTool, path: str) -> Iterator[Finding]:
    from agent.pipeline.responders.tools.json_schema import schema_problem

    if not tool.description.strip():
        yield Finding(f"{path}.description", "the description is missing, expected what the tool does, for the model")
    if (problem := schema_problem(tool.parameters)) is not None:
        yield Finding(f"{path}.parameters", problem)
        return
    properties = tool.parameters.get("properties", {})
    for name in QUESTION_FIELD.findall(tool.question):
        if name not in properties:
            expected = ", ".join(f"{{{each}}}" for each in properties) or "no field"
            what = f"there is no argument {{{name}}}, expected {expected}"
            yield Finding(f"{path}.question", what, suggestion(name, properties))
