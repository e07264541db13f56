"""Gives the methods of the API access to the phrases of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.frontends.api.slow_work import Answer, SlowWork

if TYPE_CHECKING:
    from agent.pipeline.tts.phrase_cache import PhraseCache


class PhraseAccess(SlowWork):
    """Executes requests about phrases. Thread-safe.

    Args:
        cache: Returns the phrase cache of the current configuration, which a reload may replace.
        warm: Synthesizes texts without playback, so that they are kept as phrases. The second argument is the name of a
            service; ``None``: the first one. Returns the result of ``phrases.warm``. It may take minutes.
    """

    def __init__(self, cache: Callable[[], PhraseCache], warm: Callable[[Sequence[str], str | None], Answer]) -> None:
        super().__init__("phrases")
        self.cache, self.warm = cache, warm
