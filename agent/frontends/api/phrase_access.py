"""The phrases of the daemon, for requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.frontends.api.slow_work import Answer, SlowWork

if TYPE_CHECKING:
    from agent.pipeline.tts.phrase_cache import PhraseCache


class PhraseAccess(SlowWork):
    """Executes requests about phrases. Thread-safe.

    Args:
        cache: Returns the phrases of the configuration in effect.
        warm: Speaks texts silently, with a service or the first one; returns the result. It may take minutes.
    """

    def __init__(self, cache: Callable[[], PhraseCache], warm: Callable[[Sequence[str], str | None], Answer]) -> None:
        super().__init__("phrases")
        self.cache, self.warm = cache, warm
