"""Synthesizes texts without playback, at the request of other programs, while the daemon runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.errors import UsageError
from agent.settings.model import Config

if TYPE_CHECKING:
    from agent.daemon.local_server import LocalServer
    from agent.daemon.phrase_warmer import PhraseWarmer


class PhraseWarming:
    """Keeps the audio of texts as phrases, at the request of other programs. Thread-safe; one ``warm`` call at a time.

    Args:
        config: Returns the configuration in effect.
        local: Returns the local server of the daemon.
    """

    def __init__(self, config: Callable[[], Config], local: Callable[[], LocalServer | None]) -> None:
        self._config, self._local = config, local
        self._lock = threading.Lock()
        self._is_closed = False
        self._warmer: PhraseWarmer | None = None

    def warm(self, texts: Sequence[str], service: str | None) -> dict[str, object]:
        """Synthesize texts without playback; return the result as a JSON object.

        Args:
            texts: The texts.
            service: The service to use; by default the first service whose speech is kept.

        Raises:
            UsageError: The service is not configured.
            AgentError: No service may keep its speech, or a worker crashed.
        """
        from agent.daemon.phrase_warmer import FAILED, KEPT, PRESENT, PhraseWarmer, Warmed

        config = self._config()
        if service is not None and service not in config.synthesis.services:
            raise UsageError(f"service is one of {', '.join(config.synthesis.services)}")
        results: list[tuple[str, Warmed]] = []
        with PhraseWarmer(config, self._local(), service) as warmer:
            for text in texts:
                with self._lock:
                    self._warmer = None if self._is_closed else warmer
                if self._warmer is None:
                    break
                results.append((text, warmer.warm(text)))
        self._warmer = None
        states = [warmed.state for _, warmed in results]
        return {
            "service": warmer.service,
            **{state: states.count(state) for state in (KEPT, PRESENT, FAILED)},
            "seconds": round(sum(warmed.seconds for _, warmed in results), 3),
            "errors": [{"text": text, "reason": warmed.reason} for text, warmed in results if warmed.state == FAILED],
        }

    def close(self) -> None:
        """Abort a ``warm`` call in progress, because its threads would keep the process from exiting."""
        with self._lock:
            self._is_closed, warmer = True, self._warmer
        if warmer is not None:
            warmer.abort()
