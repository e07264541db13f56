"""Joins the tool calls of a model, which arrive in fragments.

The wire format (OpenAI API reference, "Create chat completion", ``delta.tool_calls``): the first fragment of a call has
the ``index``, the ``id`` and the name. Each further fragment has the index and the next characters of the arguments.
Some servers deviate: they send no index, the index 0 for every call, complete calls whose arguments are an object, or
no id.
"""

from __future__ import annotations

import json
from typing import Any

from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

MAX_CALLS = 64
MAX_ARGUMENT_CHARACTERS = 65_536
"""Limit for the arguments of all calls of a reply together. Arguments beyond it are cut off and become invalid JSON."""


class ToolCall(NamedTuple):
    """A tool call that a model requests. Immutable. ``arguments`` is JSON, if the model makes no mistake."""

    id: str
    name: str
    arguments: str


class _Call:
    def __init__(self, id: str) -> None:
        self.id, self.name, self.arguments = id, "", ""


class ToolCalls:
    """Assembles tool calls from fragments. Not thread-safe; owned by the responder thread."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._room = MAX_ARGUMENT_CHARACTERS

    def feed(self, fragments: Any) -> None:
        """Add the fragments of one event. Values of another type are ignored."""
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                self._feed(fragment)

    def calls(self) -> list[ToolCall]:
        """Return the calls in the order in which they began, each with a unique id."""
        used: set[str] = set()
        calls = []
        for number, call in enumerate(self._calls, 1):
            id = call.id if call.id and call.id not in used else f"{call.id or 'call'}_{number}"
            used.add(id)
            calls.append(ToolCall(fix_surrogates(id), fix_surrogates(call.name), call.arguments))
        return calls

    def _feed(self, fragment: dict[str, Any]) -> None:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        id, name, arguments = fragment.get("id"), function.get("name"), function.get("arguments")
        id, name = id if isinstance(id, str) else "", name if isinstance(name, str) else ""
        text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        call = self._find(fragment.get("index"), id, name, text)
        if call is None:
            return
        call.name = call.name or name
        call.arguments += text[: self._room]
        self._room -= min(len(text), self._room)

    def _find(self, index: Any, id: str, name: str, arguments: str) -> _Call | None:
        """Return the call of a fragment, a new one if the fragment begins a call; ``None`` beyond ``MAX_CALLS``."""
        last = self._calls[-1] if self._calls else None
        known = self._by_index.get(index) if isinstance(index, int) else last
        if known is not None:
            if id:
                is_new = bool(known.id) and id != known.id
            elif isinstance(index, int):
                # Some servers give each call the index 0. Others repeat the name in each fragment of a call.
                is_other = name != known.name or bool(arguments)
                is_new = bool(name and known.arguments) and is_other and _is_whole(known)
            else:
                is_new = bool(name) and (name != known.name or _is_whole(known))
            if not is_new:
                known.id = known.id or id
                return known
        if len(self._calls) == MAX_CALLS:
            return None
        call = _Call(id)
        self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        return call


def _is_whole(call: _Call) -> bool:
    try:
        json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return False
    return True
