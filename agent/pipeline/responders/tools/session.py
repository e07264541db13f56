"""Runs the rounds of a turn in which a model calls tools, and asks the user for confirmation."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence

from agent.pipeline.responders.chat_reply import ChatReply
from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.responders.tool_calls import ToolCall
from agent.pipeline.responders.tools.settings import QUESTION_FIELD
from agent.pipeline.responders.tools.tool import CheckedCall, Outcome, Tool, check_call, run_calls
from agent.pipeline.text.confirming import is_no, is_yes, sentence
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

MAX_ROUNDS = 5
MAX_SECONDS = 30.0
"""Limit for the tools of a turn, from the first tool call; includes the requests to the model between the rounds."""
MAX_CALLS = 8
"""Limit for the tool calls of one round, which run in parallel."""
CONFIRM_SECONDS = 30.0
"""Limit for the answer of the user to a confirmation question; includes the time in which the question is spoken."""
DROP_SECONDS = 300.0
"""After this time the pending calls are dropped, and the next request to the model does not mention them."""
MAX_QUESTION_CHARACTERS = 300

Messages = list[dict[str, object]]
Request = Callable[[Messages, Mapping[str, Tool], bool], Generator[str, None, tuple[ChatReply, str]]]
"""Sends a request to the model. The arguments are the messages, the tools by name, and whether the model may call them.
Yields the text of the reply as it arrives; returns the ``ChatReply`` and its visible text."""


class _Pending(NamedTuple):
    """Tool calls that wait for the confirmation by the user. Immutable.

    Attributes:
        turn: The turn of the question.
        asked_at: The time of the question, monotonic seconds.
        hushes: The value of ``DeviceControl.hushes`` at the question. A different value later means that the device was
            silenced meanwhile.
        messages: The messages of the next request, without the results of the waiting calls.
        waiting: The calls.
        rounds: The number of rounds so far.
        is_void: Whether no answer can confirm the calls, because the question was not heard to its end.
    """

    turn: int
    asked_at: float  # monotonic seconds
    hushes: int
    messages: Messages
    waiting: tuple[CheckedCall, ...]
    rounds: int
    is_void: bool = False


class ToolSession:
    """Lets a model call tools. Not thread-safe; owned by the responder thread.

    Args:
        device: The device.
        request: Sends a request to the model.
        max_seconds: As ``MAX_SECONDS``.
        confirm_seconds: As ``CONFIRM_SECONDS``.
    """

    def __init__(
        self,
        device: DeviceContext,
        request: Request,
        max_seconds: float = MAX_SECONDS,
        confirm_seconds: float = CONFIRM_SECONDS,
    ) -> None:
        self._device, self._request = device, request
        self._max_seconds, self._confirm_seconds = max_seconds, confirm_seconds
        self._pending: _Pending | None = None

    def cancel_question(self, turn: int) -> None:
        """Note that the question of a turn was not heard to its end, so that no answer confirms its calls."""
        if self._pending is not None and self._pending.turn == turn:
            self._pending = self._pending._replace(is_void=True)

    def answer(
        self, messages: Messages, transcript: str, turn: int, tools: Mapping[str, Tool]
    ) -> Generator[str, None, ChatReply | None]:
        """Yield the text of the reply to ``transcript``, and run the tools that the model calls.

        Args:
            messages: The messages before the transcript.
            transcript: The words of the user.
            turn: The number of the turn.
            tools: The tools by name.

        Returns:
            The last reply of the model; ``None`` if the last sentence comes from the device (a confirmation question or
            the result of the tools).
        """
        deadline = Deadline(self._max_seconds)
        pending, self._pending = self._pending, None
        outcomes: list[Outcome] = []
        rounds = 0
        if pending is None or time.monotonic() - pending.asked_at > DROP_SECONDS:
            messages = [*messages, {"role": "user", "content": transcript}]
        else:
            messages, rounds = [*pending.messages], pending.rounds
            if self._agrees(pending, transcript, turn):
                outcomes = yield from run_calls(pending.waiting, deadline)
            else:
                outcomes = [_refused(call, transcript) for call in pending.waiting]
            messages += map(_tool_message, outcomes)
            if not is_yes(transcript):  # "No, what is the weather?" is also a new request
                messages.append({"role": "user", "content": transcript})
        has_text = False
        while True:
            may_call = rounds < MAX_ROUNDS and not (rounds and deadline.is_expired)
            reply, text = yield from self._request(messages, tools, may_call)
            has_text = has_text or bool(text)
            calls = reply.tool_calls.calls()
            if not calls or not may_call:
                has_failed = any(each.is_error for each in outcomes)
                if rounds and not (text or (has_text and not has_failed)):
                    name = "failed" if calls or has_failed else "done"
                    yield sentence(name, self._device.language)
                    return None
                return reply
            if rounds == 0:
                deadline = Deadline(self._max_seconds)
            rounds += 1
            if text:
                yield "\n\n"  # ends the sentence, so that it is spoken while the tools run
            messages.append(_assistant_message(text, calls))
            checked = [_checked(call, index, tools) for index, call in enumerate(calls)]
            waiting = tuple(each for each in checked if isinstance(each, CheckedCall) and each.tool.confirm)
            free = [each for each in checked if isinstance(each, CheckedCall) and not each.tool.confirm]
            outcomes = [each for each in checked if isinstance(each, Outcome)]
            outcomes += yield from run_calls(free, deadline)
            outcomes.sort(key=lambda outcome: calls.index(outcome.call))
            messages += map(_tool_message, outcomes)
            if waiting:
                yield " ".join(_question(each, self._device.language) for each in waiting)
                self._pending = _Pending(turn, time.monotonic(), self._hushes, messages, waiting, rounds)
                return None

    def _agrees(self, pending: _Pending, transcript: str, turn: int) -> bool:
        is_next = turn == pending.turn + 1 and self._hushes == pending.hushes
        is_in_time = time.monotonic() - pending.asked_at <= self._confirm_seconds
        return is_next and is_in_time and not pending.is_void and is_yes(transcript)

    @property
    def _hushes(self) -> int:
        return 0 if self._device.control is None else self._device.control.hushes


def _checked(call: ToolCall, index: int, tools: Mapping[str, Tool]) -> CheckedCall | Outcome:
    if index >= MAX_CALLS:
        return Outcome(call, f"error: more than {MAX_CALLS} calls at once, call it again", is_error=True)
    return check_call(call, tools)


def _refused(call: CheckedCall, transcript: str) -> Outcome:
    why = "the user said no" if is_no(transcript) else "the user did not agree"
    return Outcome(call.call, f"error: not done, {why}", is_error=True)


def _assistant_message(text: str, calls: Sequence[ToolCall]) -> dict[str, object]:
    listed = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
        for call in calls
    ]
    return {"role": "assistant", "content": text or None, "tool_calls": listed}


def _tool_message(outcome: Outcome) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": outcome.call.id, "content": outcome.text}


def _question(call: CheckedCall, language: str) -> str:
    """Return the confirmation question: the question of the tool, or the name of the tool and its arguments."""
    tool, arguments = call.tool, call.arguments
    if tool.question and all(name in arguments for name in QUESTION_FIELD.findall(tool.question)):
        text = tool.question
        for name, value in arguments.items():
            text = text.replace(f"{{{name}}}", _spoken(value))
        text = text[:MAX_QUESTION_CHARACTERS]
    else:
        action = tool.name.replace("__", " ").replace("_", " ").replace("-", " ")
        values = [f"{name.replace('_', ' ')} {_spoken(value)}" for name, value in arguments.items()]
        action = ", ".join([f"{action[:1].upper()}{action[1:]}", *values])[:MAX_QUESTION_CHARACTERS]
        text = sentence("ask", language).format(action=action)
    return text


def _spoken(value: object) -> str:
    """Return an argument, cut to 80 characters, without line breaks and without characters that may be markup."""
    text = fix_surrogates(str(value)[:80])
    return "".join(each for each in text if each not in "{}[]<>*#`|\n\r").strip()
