"""Recognizes transcripts that only end a conversation."""

from __future__ import annotations

_CLOSING_WORDS = {
    "en": "thanks|thank you|no thanks|no thank you|never mind|that's all|goodbye|bye",
    "de": "danke|nein danke|das war's|schon gut|tschüss",
    "fr": "merci|non merci|c'est tout|au revoir",
    "es": "gracias|no gracias|nada más|adiós",
    "it": "grazie|no grazie|basta così|arrivederci",
    "pt": "obrigado|obrigada|é tudo|tchau",
    "nl": "bedankt|dank je|nee bedankt|dat was het|doei",
    "hi": "धन्यवाद|शुक्रिया|बस",
}


def is_closing(text: str) -> bool:
    """Return whether a transcript only ends the conversation, in any language ("Thanks.", "never mind")."""
    words = text.casefold().replace("’", "'").replace(",", "").strip(" .!?।")
    return any(words in closing.split("|") for closing in _CLOSING_WORDS.values())
