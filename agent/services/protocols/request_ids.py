"""Distinguishes the messages of a session's own requests from messages of other requests on the same connection."""

from __future__ import annotations

from agent.services.protocols.codec import Message

ADOPTION_SECONDS = 2.5
"""After this time without a message, audio with an unknown ID is accepted as the session's own, unless the service has
used an ID of the session. So the audio of a service that replaces the client's IDs is played, too."""

MAX_HELD_BYTES = 8 * 1024 * 1024
"""Most bytes (of text messages: characters) that one ``RequestIds`` holds; further messages are dropped."""


class RequestIds:
    """The IDs of one session's requests. Not thread-safe; owned by the codec.

    Services repeat the ID of a request in their messages. A message with another ID is foreign: its audio, end or error
    must not reach the utterance. If a request names no ID, the next unknown ID that the service uses becomes its ID.

    A service may also replace the IDs of the client with its own. So foreign messages are held until the service has
    used an ID of the session; ``adopt`` returns them.

    Attributes:
        has_held_audio: Whether the held messages contain audio.
        has_held_error: Whether the held messages contain an error.
    """

    def __init__(self) -> None:
        self._has_requests = False
        self._own: set[str] = set()
        self._unnamed_count = 0  # requests without an ID to which the service has not assigned one
        self._is_settled = False  # whether the service has answered a request of the session
        self.has_held_audio = self.has_held_error = False
        self._held_id: str | None = None
        self._held: list[Message] = []
        self._held_bytes = 0

    @property
    def has_held(self) -> bool:
        """Whether ``adopt`` would return messages. It does so only if they include audio or an error."""
        return self.has_held_audio or self.has_held_error

    def add(self, request_id: str | None) -> None:
        """Record a request of the session; ``None``: the request names no ID."""
        self._has_requests = True
        if request_id is None:
            self._unnamed_count += 1
        else:
            self._own.add(request_id)

    def claim_or_reject(self, request_id: object) -> bool:
        """Return whether the ID is of another request: the message is rejected, and the caller calls ``hold``.

        An unknown ID is claimed for a request that names none, if there is one.
        """
        if request_id is None or request_id == "" or not self._has_requests:
            return False
        request_id = str(request_id)
        if request_id not in self._own:
            if not self._unnamed_count:
                return True
            self._unnamed_count -= 1
            self._own.add(request_id)
        self.settle()
        return False

    def settle(self) -> None:
        """Record that the service has answered a request of the session. From now on no foreign messages are held."""
        self._is_settled = True
        self._clear()

    def settle_without_id(self) -> None:
        """As ``settle``, for an answer without an ID: the service assigns no IDs to requests that name none."""
        self._unnamed_count = 0
        self.settle()

    def hold(
        self, message: Message, request_id: object = None, *, has_audio: bool = False, is_error: bool = False
    ) -> None:
        """Hold a foreign message for ``adopt``.

        Only the messages of one ID are held: of the first ID with audio or an error.

        Args:
            message: The message.
            request_id: Its ID; ``None``: the ID of the message that was held last.
            has_audio: Whether the message contains audio.
            is_error: Whether the message is an error.
        """
        name = None if request_id is None else str(request_id)
        if name is not None and name != self._held_id and not self.has_held:
            self._clear()
        if name is not None and self._held and name != self._held_id:
            return
        if self._is_settled or self._held_bytes + len(message) > MAX_HELD_BYTES:
            return
        self._held_id = name or self._held_id
        self._held.append(message)
        self._held_bytes += len(message)
        self.has_held_audio = self.has_held_audio or has_audio
        self.has_held_error = self.has_held_error or is_error

    def adopt(self) -> list[Message]:
        """Accept the ID of the held messages as the session's own; return the messages to be decoded again."""
        if not self.has_held:
            return []
        held = list(self._held)
        self._clear()
        if self._held_id is not None:
            self._own.add(self._held_id)
        return held

    def _clear(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self.has_held_audio = self.has_held_error = False
