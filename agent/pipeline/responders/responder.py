"""The interface that every responder implements."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from agent.config.errors import Finding, no_findings
from agent.config.rules import Url
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from agent.pipeline.device_control import DeviceControl


class Shortfall(NamedTuple):
    """The reason why an answer is empty or incomplete although the request succeeded. Immutable.

    Attributes:
        kind: As in ``ReplyEnded.shortfall``.
        reason: The cause, and the remedy if there is one.
    """

    kind: str
    reason: str


ReplyPieces = Generator[str, None, Shortfall | None]
"""Pieces of a reply. An empty piece means that the reply is still awaited. Closing the generator cancels the reply."""


class _Working(str):
    """The class of ``WORKING``. Immutable."""

    __slots__ = ()


WORKING = _Working()
"""An empty piece during work that has a time limit of its own: the timeout for the first word starts again."""

MAX_SILENCE_SECONDS = 0.25
"""The longest time between two pieces; it bounds how late the worker sees a cancel."""


class DeviceContext(NamedTuple):
    """What a responder may know of the device that it replies for. Immutable.

    Attributes:
        control: What it can do to the device; ``None`` where nothing needs it.
        name: Returns the name of the device.
        room: The room that it is in; empty if unknown.
        language: The language that it speaks, ISO 639-1.
        state_directory: The directory for what survives a restart; ``None`` for nothing.
    """

    control: DeviceControl | None = None
    name: Callable[[], str] = lambda: ""
    room: str = ""
    language: str = "en"
    state_directory: Path | None = None


class Responder(Protocol):
    """A source of replies. Not thread-safe; owned by the responder thread."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        """Yield the text of the reply to a transcript as it arrives, one reply at a time.

        Yields an empty piece at least every ``MAX_SILENCE_SECONDS`` while more is awaited. Returns the shortfall of the
        answer, if it has one.

        Raises:
            AgentError: There is no reply, or it is incomplete.
        """

    def warm_up(self) -> None:
        """Load what the first reply needs; called once, after READY."""

    def forget(self, turn: int) -> None:
        """Remove the reply of a turn, if it was the last one, from the history: its question was not asked."""

    def correct(self, turn: int, played_text: str | None) -> None:
        """Replace the reply of a turn in the history by the part that the user has heard; ``None``: all of it."""

    def close(self) -> None:
        """Release all resources. Idempotent."""


class StatelessResponder:
    """Base of the responders that keep nothing between two replies. Not thread-safe; owned by the responder thread."""

    def warm_up(self) -> None:
        """Do nothing: a reply needs nothing that takes long to load."""

    def forget(self, turn: int) -> None:
        """Do nothing: there is no history."""

    def correct(self, turn: int, played_text: str | None) -> None:
        """Do nothing: there is no history."""

    def close(self) -> None:
        """Do nothing: no resource is held between replies."""


def no_urls(settings: Any) -> Iterator[Url]:
    """The further URLs of a responder that has none."""
    yield from ()


def has_no_effects(settings: Any) -> bool:
    """Return ``False``: the default of ``has_effects``, ``runs_tools`` and ``needs_control``."""
    return False


def knows_no_request(settings: Any) -> Callable[[str], bool]:
    """The request matcher of a responder that accepts every text."""
    return lambda text: False


class ResponderKind(NamedTuple):
    """The description of one kind of responder. Immutable.

    Attributes:
        make: Makes the responder from a ``ResponderSettings`` and the ``DeviceContext``. Raises ``ConfigError`` if a
            required key is missing.
        settings: The class of its section ``responder.NAME``, if it has one; its docstring describes the section.
        check_used: Yields the errors in the section if ``responder.kind`` names it, with keys relative to it.
        url_key: The key of the section that holds a URL.
        url_schemes: The URL schemes that key may have.
        has_effects: Whether the start of a reply may have an effect of its own. Then it starts before the end of the
            question only if the configuration asks for that.
        more_urls: Yields the further URLs of the section, with keys relative to it.
        runs_tools: Whether a section lets a model run tools. Then no reply starts before the end of the question.
        needs_control: Whether a section needs ``DeviceContext.control``.
        is_key_optional: Whether it may work without an API key at a URL outside.
        request_matcher: Makes a thread-safe function that tells whether a text is a complete request that the responder
            knows.
    """

    make: Callable[[Any, DeviceContext], Responder]
    settings: Any = None
    check_used: Callable[[Any], Iterator[Finding]] = no_findings
    url_key: str | None = None
    url_schemes: tuple[str, ...] = ("https", "http")
    is_key_optional: bool = False
    has_effects: bool = False
    more_urls: Callable[[Any], Iterator[Url]] = no_urls
    runs_tools: Callable[[Any], bool] = has_no_effects
    needs_control: Callable[[Any], bool] = has_no_effects
    request_matcher: Callable[[Any], Callable[[str], bool]] = knows_no_request
