"""``voice-agent status``, ``hush``, ``volume``, ``mute`` and ``unmute``: a word with a running daemon."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping

from agent.frontends.control.client import ControlClient, sockets
from agent.settings.model import Config
from agent.system.text import escape


def status(config: Config, *, as_json: bool = False) -> int:
    """How the daemon is. Raises ``ServiceError`` where none runs, as the others do."""
    answer = _ask(config, {"status": True})
    print(json.dumps(answer) if as_json else escape(str(answer.get("status", ""))), flush=True)
    return 0


def hush(config: Config) -> int:
    """Not one more word of what is being said, and nothing of what waits."""
    _ask(config, {"hush": True})
    return 0


def volume(config: Config, percent: int | None) -> int:
    """Sets how loud the daemon speaks from now on, or tells how loud that is."""
    if percent is None:
        found = _ask(config, {"status": True}).get("volume")
        print("it does not speak" if found is None else escape(str(found)), flush=True)
    else:
        _ask(config, {"volume": percent})
    return 0


def mute(config: Config, device: str, muted: bool) -> int:
    """``device``: ``speaker``, or ``microphone``, which is closed while it is muted; until the opposite is asked."""
    request = {"mute": muted} if device == "speaker" else {"microphone": "mute" if muted else "unmute"}
    _ask(config, request)
    return 0


def _ask(config: Config, request: Mapping[str, object]) -> dict[str, object]:
    with contextlib.closing(ControlClient.find(sockets(config.control.socket, os.environ))) as client:
        return client.ask(request)
