"""The error codes that this API adds to those of JSON-RPC."""

from __future__ import annotations

from agent.frontends.api.json_rpc import RpcError

ID_CONFLICT = -32001
WRONG_MODE = -32002
UNKNOWN_UTTERANCE = -32003
FORBIDDEN = -32004
SHUTTING_DOWN = -32005
TOO_MUCH = -32006
UNAVAILABLE = -32007
UNKNOWN_TIMER = -32008

NAMES = {
    ID_CONFLICT: ("id_conflict", "another text with the same `id` is in the history"),
    WRONG_MODE: ("wrong_mode", "the mode of the daemon does not speak, or does not listen"),
    UNKNOWN_UTTERANCE: ("unknown_utterance", "no utterance or text with this `id` is open"),
    FORBIDDEN: ("forbidden", "the caller may not use this method"),
    SHUTTING_DOWN: ("shutting_down", "the daemon is shutting down"),
    TOO_MUCH: ("too_much", "a limit is exceeded"),
    UNAVAILABLE: ("unavailable", "the daemon cannot do this now"),
    UNKNOWN_TIMER: ("unknown_timer", "no timer, or more than one, has this number or name"),
}
"""By code: the name for programs, and the meaning for the documentation."""


def failure(code: int, message: str) -> RpcError:
    """Return an error with one of the codes of this module and the name of that code."""
    return RpcError(code, message, NAMES[code][0])
