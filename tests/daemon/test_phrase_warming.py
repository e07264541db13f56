"""The warming of phrases in a running daemon."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.scripted import Scripted, silent
from support.voices import Voice

from agent.daemon.phrase_warmer import FAILED, PhraseWarmer, Warmed
from agent.daemon.phrase_warming import PhraseWarming
from agent.errors import UsageError
from agent.services.protocols import neuphonic
from agent.settings.model import Config
from agent.system.threads import Deadline


def config_for(server: Scripted) -> Config:
    section = neuphonic.Settings(url=f"ws://127.0.0.1:{server.port}/speak/en", sampling_rate=16000)
    synthesis = Config().synthesis._replace(services=("neuphonic",), sections={"neuphonic": section})
    return Config()._replace(synthesis=synthesis)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))


def test_texts_are_kept_and_found_the_next_time() -> None:
    with Scripted(Voice()) as server:
        warming = PhraseWarming(lambda: config_for(server), lambda: None)
        first = warming.warm(["One.", "Two."], None)
        assert (first["kept"], first["present"], first["failed"], first["service"]) == (2, 0, 0, "neuphonic")
        again = warming.warm(["Two.", "Three."], "neuphonic")
        assert (again["kept"], again["present"], again["errors"]) == (1, 1, [])


def test_a_service_that_is_not_configured_is_refused() -> None:
    with Scripted(Voice()) as server, pytest.raises(UsageError, match="neuphonic"):
        PhraseWarming(lambda: config_for(server), lambda: None).warm(["One."], "fish")


def test_close_ends_a_warming_that_waits_for_the_service() -> None:
    arrived = threading.Event()

    def waits(peer):  # type: ignore[no-untyped-def]
        arrived.set()
        silent(peer)

    with Scripted(waits) as server:
        warming = PhraseWarming(lambda: config_for(server), lambda: None)
        results: list[dict[str, object]] = []
        thread = threading.Thread(target=lambda: results.append(warming.warm(["One.", "Two."], None)))
        thread.start()
        assert arrived.wait(30)
        warming.close()
        thread.join(30)
        assert not thread.is_alive() and results[0]["kept"] == 0


def test_text_that_begins_after_an_abort_fails() -> None:
    """``PhraseWarming.close`` may run between the check whether it is closed and the start of the text."""
    with Scripted(Voice()) as server, PhraseWarmer(config_for(server), None) as warmer:
        warmer.abort()
        assert warmer._synthesizer.join(Deadline(30.0))
        results: list[Warmed] = []
        thread = threading.Thread(target=lambda: results.append(warmer.warm("One.")), daemon=True)
        thread.start()
        thread.join(30)
        assert [result.state for result in results] == [FAILED]
