"""The visible states of the conversation."""

from enum import Enum


class State(Enum):
    """The visible state of the device."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
