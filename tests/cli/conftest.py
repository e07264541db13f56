"""The fixtures of all tests of the command line."""

from __future__ import annotations

from support.agent_fixtures import agent

__all__ = ["agent"]
