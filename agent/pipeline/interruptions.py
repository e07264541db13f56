"""The reasons why an utterance is stopped."""

BARGE_IN = "user speech"
"""The reason of an utterance that the user interrupted by speaking."""
INTERRUPTED = "an important announcement"
SPOKEN_OVER = "user speech without a word so far"
"""The reasons of an utterance that is suspended and may continue."""
MESSAGE_ARRIVED = "a message"
"""The reason of a notification that was stopped because a message arrived."""
BUSY = "another utterance is spoken or waits"
"""The reason of a notification that was dropped."""

SPEAKING_SECONDS = 600.0
"""How long an utterance may be interrupted without a wake word, where speech interrupts."""
