"""The visible states of the conversation, and how long the wake gate stays open in them."""

from enum import Enum


class State(Enum):
    """The visible state of the device."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


LISTEN_SECONDS = 8.0
"""How long the device waits for a user who does not speak, after a wake word or ``ListenNow``."""
SPEAKING_SECONDS = 600.0
"""How long an utterance may be interrupted without a wake word, where speech interrupts."""
