"""The visible states of the conversation, and how long the device listens without speech."""

from enum import Enum


class State(Enum):
    """The visible state of the device."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


LISTEN_SECONDS = 8.0
"""How long the device waits for a user who does not speak, after a wake word or ``ListenNow``."""
