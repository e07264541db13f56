"""The answers of the methods that manage the speech that is kept on disk."""

from __future__ import annotations

from collections.abc import Sequence

from agent.pipeline.tts.phrase_cache import Entry, PhraseCache

Answer = dict[str, object]


def list_phrases(cache: PhraseCache, *, texts: bool) -> Answer:
    """Return all phrases, the most recently used one first."""
    entries = list(cache.entries(checks=True))
    return {
        "phrases": [entry.as_json(texts=texts) for entry in entries],
        "bytes": sum(entry.size for entry in entries),
        "capacity_bytes": cache.capacity_bytes,
    }


def remove_phrases(cache: PhraseCache, words: Sequence[str]) -> Answer:
    """Delete the phrases with these texts or IDs."""
    return _remove(cache, cache.matching(words))


def clear_phrases(cache: PhraseCache) -> Answer:
    """Delete all phrases."""
    return _remove(cache, list(cache.entries()))


def verify_phrases(cache: PhraseCache) -> Answer:
    """Delete the damaged phrases."""
    checked, damaged = cache.verify()
    return {"checked": checked, "removed": [{"id": entry.id, "reason": entry.problem} for entry in damaged]}


def _remove(cache: PhraseCache, entries: list[Entry]) -> Answer:
    cache.remove(*entries)
    return {"removed": len(entries)}
