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
    """The reason why a reply is empty or incomplete although the request succeeded. Immutable.

    Attributes:
        kind: One of the words of ``ReplyEnded.shortfall``.
        reason: The cause, and the remedy if there is one.
    """

    kind: str
    reason: str


ReplyPieces = Generator[str, None, Shortfall | None]
"""Yields pieces of the reply text and returns the shortfall. An empty piece means that no new text has arrived. Closing
the generator cancels the reply."""


class _Working(str):
    """The type of ``WORKING``, which distinguishes it from other empty strings. Immutable."""

    __slots__ = ()


WORKING = _Working()
"""An empty piece that reports work with its own time limit, such as a tool call. It restarts the timeout for the first
word."""

MAX_SILENCE_SECONDS = 0.25
"""The longest time between two pieces. The worker checks for a cancel after each piece."""


class DeviceContext(NamedTuple):
    """The device, as far as a responder may know it. Immutable.

    Attributes:
        control: Controls the device; ``None`` if no responder needs it.
        name: Returns the name of the device.
        room: The room of the device; empty if unknown.
        language: The language that the device speaks, ISO 639-1.
        state_directory: The directory for data that survives a restart; ``None``: no data is kept.
    """

    control: DeviceControl | None = None
    name: Callable[[], str] = lambda: ""
    room: str = ""
    language: str = "en"
    state_directory: Path | None = None


class Responder(Protocol):
    """A source of replies. Not thread-safe; owned by the responder thread."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        """Yield the text of the reply to a transcript as it arrives. Only one reply is in progress at a time.

        Yields an empty piece at least every ``MAX_SILENCE_SECONDS`` while more text is awaited. Returns the shortfall
        of the reply, if it has one.

        Raises:
            AgentError: The reply is missing or incomplete.
        """

    def warm_up(self) -> None:
        """Load what the first reply needs. Called once, after READY or after a replacement."""

    def forget(self, turn: int) -> None:
        """Remove a turn from the history if it is the last one: the prepared reply was discarded."""

    def correct(self, turn: int, played_text: str | None) -> None:
        """Replace the reply of a turn in the history by the part that the user has heard.

        Args:
            turn: The number of the turn.
            played_text: The text that was played; ``None``: the whole reply.
        """

    def close(self) -> None:
        """Release all resources. Idempotent."""


class StatelessResponder:
    """Base class of the responders without state between replies. Not thread-safe; owned by the responder thread."""

    def warm_up(self) -> None:
        """Do nothing: there is nothing slow to load."""

    def forget(self, turn: int) -> None:
        """Do nothing: there is no history."""

    def correct(self, turn: int, played_text: str | None) -> None:
        """Do nothing: there is no history."""

    def close(self) -> None:
        """Do nothing: no resource is held between replies."""


def no_urls(settings: Any) -> Iterator[Url]:
    """Yield nothing: the default of ``ResponderKind.more_urls``."""
    yield from ()


def has_no_effects(settings: Any) -> bool:
    """Return ``False``: the default of ``has_effects``, ``runs_tools`` and ``needs_control``."""
    return False


def knows_no_request(settings: Any) -> Callable[[str], bool]:
    """Return a function that recognizes no text: the default of ``ResponderKind.request_matcher``."""
    return lambda text: False


class ResponderKind(NamedTuple):
    """The description of one kind of responder. Immutable.

    Attributes:
        make: Makes the responder from a ``ResponderSettings`` and the ``DeviceContext``. Raises ``ConfigError`` if a
            required key is missing.
        settings: The class of the section ``responder.NAME``; ``None`` if there is no section. The docstring of the
            class describes the section.
        check_used: Yields the errors in the section, with keys relative to the section. Called only if
            ``responder.kind`` names this kind.
        url_key: The key of the section that holds a URL; ``None`` if there is none.
        url_schemes: The URL schemes that are allowed for ``url_key``.
        is_key_optional: Whether the responder may work without an API key at a public URL.
        has_effects: Whether the start of a reply may have side effects. Such a reply starts before the end of the
            question only if ``responder.start_early`` is ``always``.
        more_urls: Yields the further URLs of the section, with keys relative to the section.
        runs_tools: Returns whether a section lets a model run tools. Then no reply starts before the end of the
            question.
        needs_control: Returns whether a section needs ``DeviceContext.control``.
        request_matcher: Returns a thread-safe function, which returns whether a text is a complete request that the
            responder knows.
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
