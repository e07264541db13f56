"""Collects the tools of a language model: built-in, from the configuration and from MCP servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.responders.tools.builtin import builtin_tools
from agent.pipeline.responders.tools.external import command_tool, webhook_tool
from agent.pipeline.responders.tools.settings import ToolSettings
from agent.pipeline.responders.tools.tool import Tool
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.pipeline.responders.tools.mcp import McpConnection


class Toolbox:
    """The tools that the configuration enables. Not thread-safe; owned by the responder thread.

    Args:
        settings: The configuration.
        device: The device, for the built-in tools.
        allow_plaintext: Whether keys may be sent unencrypted to a public address.
    """

    def __init__(self, settings: ToolSettings, device: DeviceContext, allow_plaintext: bool = False) -> None:
        self._settings, self._device = settings, device
        external = [*map(command_tool, settings.commands)]
        external += [webhook_tool(each, allow_plaintext) for each in settings.webhooks]
        self._external = {tool.name: tool for tool in external}
        self._servers: list[McpConnection] = []
        if settings.mcp:
            from agent.pipeline.responders.tools.mcp import McpConnection

            self._servers = [McpConnection(server, allow_plaintext) for server in settings.mcp]

    def connect(self) -> None:
        """Start to connect to the MCP servers. Their tools are available as soon as the servers have answered."""
        for server in self._servers:
            server.start()

    def tools(self) -> dict[str, Tool]:
        """Return the tools that can be called now, by name."""
        tools = {tool.name: tool for tool in builtin_tools(self._settings.builtin, self._device)} | self._external
        for server in self._servers:
            # No conflict: the names of MCP tools contain SEPARATOR, and no other name does.
            tools |= {tool.name: tool for tool in server.tools}
        return tools

    def close(self) -> None:
        """End the sessions with the MCP servers. Waits at most ``LEAVE_SECONDS``."""
        for server in self._servers:
            server.stop()
        if self._servers:
            from agent.pipeline.responders.tools.mcp import LEAVE_SECONDS

            deadline = Deadline(LEAVE_SECONDS)
            for server in self._servers:
                server.join(deadline)
