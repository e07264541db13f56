"""The API methods that manage phrases; each function returns the result of one method."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from agent.pipeline.tts.phrase_cache import CacheEntry, PhraseCache

Answer = dict[str, object]


MAX_TEXT_CHARACTERS = 100
"""Maximum length of a text in the list, so that ``MAX_LISTED`` phrases fit into the send buffer of a connection."""
MAX_LISTED = 1000
DEFAULT_LISTED = 100


def list_phrases(cache: PhraseCache, limit: int, *, texts: bool) -> Answer:
    """Return the ``limit`` phrases that were used most recently, the most recent one first."""
    sizes = [entry.size for entry in cache.entries()]
    listed = [entry.as_json(texts=texts) for entry in itertools.islice(cache.entries(checks=True), limit)]
    for phrase in listed:
        if isinstance(text := phrase.get("text"), str):
            phrase["text"] = text[:MAX_TEXT_CHARACTERS]
    return {"phrases": listed, "count": len(sizes), "bytes": sum(sizes), "capacity_bytes": cache.capacity_bytes}


def remove_phrases(cache: PhraseCache, words: Sequence[str]) -> Answer:
    """Delete the phrases with these texts or ids."""
    return _remove(cache, cache.matching(words))


def clear_phrases(cache: PhraseCache) -> Answer:
    """Delete all phrases."""
    return _remove(cache, list(cache.entries()))


def verify_phrases(cache: PhraseCache) -> Answer:
    """Read all phrases and delete the damaged ones."""
    checked, damaged = cache.verify()
    return {"checked": checked, "removed": [{"id": entry.id, "reason": entry.problem} for entry in damaged]}


def _remove(cache: PhraseCache, entries: list[CacheEntry]) -> Answer:
    cache.remove(*entries)
    return {"removed": len(entries)}
