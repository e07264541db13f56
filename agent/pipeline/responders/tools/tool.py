"""Defines a tool, checks the calls of a language model, and runs several calls in parallel."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from agent.errors import AgentError
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS, WORKING
from agent.pipeline.responders.tool_calls import ToolCall
from agent.pipeline.responders.tools.json_schema import ArgumentError, check_arguments
from agent.system.json_text import fix_surrogates, parse_json
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MAX_RESULT_CHARACTERS = 8000
CANCEL_SECONDS = 1.0
"""Longest time that a cancel waits for the tools. A tool notices the cancel within ``MAX_SILENCE_SECONDS``; a program
then needs up to ``program.TERM_SECONDS`` to end."""

ToolResult = Generator[None, None, str]
"""One run of a tool: yields at least every ``MAX_SILENCE_SECONDS`` and returns the result for the model. Closing the
generator cancels the run."""


class ToolError(AgentError):
    """A tool has failed. The message is for the model."""


class Tool(NamedTuple):
    """A tool. Immutable.

    Attributes:
        name: The name that the model uses.
        description: The purpose of the tool, for the model.
        parameters: The JSON Schema of the arguments, without a ``schema_problem``.
        run: Starts a run with arguments that fit the schema. Raises ``AgentError``, also during the run. Called in a
            thread of its own.
        confirm: Whether the user must agree first.
        question: The sentence that asks the user; empty for the default sentence of the language.
        is_from_server: Whether the schema comes from an MCP server. Its regular expressions are then not used.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], ToolResult]
    confirm: bool = False
    question: str = ""
    is_from_server: bool = False

    def describe(self) -> dict[str, object]:
        """Return the description of the tool for a chat request."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


class CheckedCall(NamedTuple):
    """A valid call: the tool exists, and the arguments fit its schema. Immutable."""

    call: ToolCall
    tool: Tool
    arguments: Mapping[str, Any]


class Outcome(NamedTuple):
    """The result of a call, for the model. Immutable."""

    call: ToolCall
    text: str
    is_error: bool = False


def check_call(call: ToolCall, tools: Mapping[str, Tool]) -> CheckedCall | Outcome:
    """Return the call with its tool and parsed arguments, or the error for the model."""
    tool = tools.get(call.name)
    if tool is None:
        log.warning("tool: refused, the model called an unknown one, tool=%s", escape(call.name, 80))
        return Outcome(call, f"error: there is no such tool, expected one of {', '.join(tools)}", is_error=True)
    arguments = parse_json(call.arguments.strip() or "{}")
    if isinstance(arguments, str):
        problem = f"the arguments cannot be used: {arguments}"
    else:
        try:
            check_arguments(tool.parameters, arguments, with_patterns=not tool.is_from_server)
            return CheckedCall(call, tool, arguments)
        except ArgumentError as error:
            problem = str(error)
    log.warning("tool: refused, the arguments do not fit, tool=%s", call.name)
    return Outcome(call, f"error: {problem}", is_error=True)


def run_calls(calls: Sequence[CheckedCall], deadline: Deadline) -> Generator[str, None, list[Outcome]]:
    """Run calls in parallel, each in a thread of its own.

    Yields ``WORKING`` at least every ``MAX_SILENCE_SECONDS``. Closing the generator cancels the calls and waits for
    them at most ``CANCEL_SECONDS``.

    Args:
        calls: The calls.
        deadline: The deadline for all calls. Calls that have not ended by then are cancelled, with an error as outcome.

    Returns:
        The outcomes, in the order of the calls.
    """
    cancelled = threading.Event()
    outcomes: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()

    def drive(index: int, call: CheckedCall) -> None:
        outcomes.put((index, _drive(call, deadline, cancelled)))

    threads = []
    done: dict[int, Outcome] = {}
    for index, call in enumerate(calls):
        # A daemon thread, because getaddrinfo(3) cannot be interrupted and must not delay the exit of the process.
        thread = threading.Thread(target=drive, args=(index, call), name=f"tool {call.tool.name}", daemon=True)
        try:
            thread.start()
            threads.append(thread)
        except RuntimeError as error:
            done[index] = Outcome(call.call, f"error: it cannot be started: {error}", is_error=True)
    try:
        while len(done) < len(calls):
            try:
                index, outcome = outcomes.get(timeout=MAX_SILENCE_SECONDS)
                done[index] = outcome
            except queue.Empty:
                yield WORKING
    finally:
        cancelled.set()
        limit = Deadline(CANCEL_SECONDS)
        for thread in threads:
            thread.join(limit.remaining())
    return [done[index] for index in range(len(calls))]


def _drive(call: CheckedCall, deadline: Deadline, cancelled: threading.Event) -> Outcome:
    started = time.monotonic()
    name = call.tool.name
    text, is_error = "", True
    try:
        with closing(call.tool.run(call.arguments)) as running:
            while True:
                try:
                    next(running)
                except StopIteration as end:
                    text, is_error = end.value, False
                    break
                if cancelled.is_set() or deadline.is_expired:
                    raise ToolError("it did not finish in time and was cancelled")
    except AgentError as error:
        text = f"error: {error}"
    except Exception:  # noqa: BLE001 - run_calls waits for an outcome in any case
        log.exception("tool: internal error, tool=%s", name)
        text = "error: it has failed"
    seconds = time.monotonic() - started
    if is_error:
        log.warning("tool: failed, tool=%s, seconds=%.2f, %s", name, seconds, escape(text, 200))
    else:
        log.info("tool: done, tool=%s, seconds=%.2f, characters=%d", name, seconds, len(text))
    return Outcome(call.call, bounded(text), is_error)


def bounded(text: str) -> str:
    """Return a result, cut to ``MAX_RESULT_CHARACTERS``; ``done`` for an empty result."""
    text = fix_surrogates(text)
    if len(text) <= MAX_RESULT_CHARACTERS:
        return text or "done"
    return f"{text[:MAX_RESULT_CHARACTERS]} (the rest is cut off)"


def as_json(value: object) -> str:
    """Return a value as JSON text for the model."""
    return json.dumps(value, ensure_ascii=False)
