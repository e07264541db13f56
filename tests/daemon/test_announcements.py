"""Announcements in a whole daemon with a speech service and a store."""

from __future__ import annotations

import itertools
import socket
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.local_server import LocalServerProcess
from support.timing import undisturbed
from support.watched import Watched, configuration

from agent.daemon.announcements import Announcements
from agent.daemon.database import Database
from agent.daemon.utterance_store import MAX_KEPT_CHARACTERS, StoreTiming, UtteranceStore
from agent.frontends.frontend import Frontends, Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Announce,
    Event,
    Expired,
    Hush,
    PlaybackStarted,
    Restored,
    Stop,
    Stored,
    TextComplete,
    TextPiece,
    Underruns,
)
from agent.pipeline.history import Claim
from agent.pipeline.utterance import Delivery, Urgency, Utterance
from agent.server.tts import tone
from agent.services.protocols import local
from agent.system.threads import Deadline

SECONDS = 30.0
RATE = 22050
"""Of the tones of the server."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    with LocalServerProcess(tmp_path_factory.mktemp("server"), "--speech", "tone", "--recognition", "none") as running:
        yield running


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a service that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"


def until(count: int) -> Callable[[Event | Record], Event | None]:
    """Stop after so many records."""
    records: list[Record] = []

    def when(event: Event | Record) -> Event | None:
        records.extend([event] if isinstance(event, Record) else [])
        return Stop("test") if isinstance(event, Record) and len(records) == count else None

    return when


def heard(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        assert file.getframerate() == RATE
        return file.readframes(file.getnframes())


def test_interrupted_announcement_is_heard_again_from_its_sentence(server: LocalServerProcess, tmp_path: Path) -> None:
    first = Utterance("a", "One two three. Four five six.")
    alarm = Utterance("b", "Fire.", urgency=Urgency.IMPORTANT)

    numbers = itertools.count()

    def speak() -> tuple[Watched, bytes]:
        path = tmp_path / f"{next(numbers)}.wav"
        config = configuration(server, "announce")
        config = config._replace(speaker=config.speaker._replace(device=f"file:{path}"))
        stop = until(2)

        def when(event: Event | Record) -> Event | None:
            return Announce(alarm) if event == PlaybackStarted("a") and not it.records else stop(event)

        it = Watched(config, when)
        assert it.run(Announce(first)) == 0
        return it, heard(path)

    # A busy machine inserts silence and reports it.
    it, sound = undisturbed(speak, lambda spoken: any(isinstance(event, Underruns) for event in spoken[0].seen))
    assert it.records == [("b", "played"), ("a", "played")]
    whole = tone.pcm(first.text or "", RATE)
    fire = tone.pcm("Fire.", RATE)
    before, _, after = sound.partition(fire)
    assert before == whole[: len(before)] and len(before) < len(whole)
    assert after == whole
    (record,) = [each for each in it.seen if isinstance(each, Record) and each.utterance.id == "a"]
    assert record.seconds >= len(whole) / (2 * RATE)


def test_announcements_are_spoken_after_a_restart(server: LocalServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    config = configuration(server, "announce")._replace(shutdown_seconds=2.0)
    streamed = Utterance("c", None)
    it = Watched(
        config,
        lambda event: Stop("test") if isinstance(event, Stored) and event.utterance == "d" else None,
        store=UtteranceStore(path),
    )
    names = [Announce(Utterance("a", "word " * 50)), Announce(Utterance("b", "Two.", priority=-1)), Announce(streamed)]
    it.run(*names, TextPiece("c", "Th"), TextPiece("c", "ree."), TextComplete("c"), Announce(Utterance("d", "Four.")))
    assert it.records == [("a", "cancelled")]

    again = Watched(config, until(4), store=UtteranceStore(path))
    assert again.run(Announce(Utterance("e", "Five."))) == 0
    assert again.records == [("c", "played"), ("d", "played"), ("e", "played"), ("b", "played")]
    last = Watched(
        config, lambda event: Stop("test") if isinstance(event, Restored) else None, store=UtteranceStore(path)
    )
    assert last.run() == 0
    assert Restored() in last.seen and last.records == []


class UnreadStore(UtteranceStore):
    """A store whose disk does not answer after the start."""

    def start(self, report: Callable[[Event], None]) -> bool:
        super().start(report)
        return True


def test_announcements_that_waited_for_the_store_are_recorded_when_the_daemon_ends(
    server: LocalServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "state").write_bytes(b"")  # a file instead of the directory: nothing is on the disk
    store = UnreadStore(tmp_path / "state" / "queue.db")
    it = Watched(configuration(server, "announce"), lambda event: None, store=store)
    pieces = [Announce(Utterance("b", None)), TextPiece("b", "Two."), TextComplete("b")]
    assert it.run(Announce(Utterance("a", "One.")), *pieces, Stop("test")) == 0
    assert it.records == [("a", "cancelled"), ("b", "cancelled")]


def test_texts_wait_for_a_file_that_hangs_only_until_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, released = tmp_path / "queue.db", threading.Event()
    path.touch()
    monkeypatch.setattr(Database, "read", lambda database: [] if released.wait(SECONDS) else None)
    store = UtteranceStore(path)
    announcements = Announcements(store, load_seconds=0.0)
    announcements.start(lambda event: None)
    claims: list[Claim] = []
    store.claim(Utterance("a", "One."), claims.append)
    event = Announce(Utterance("b", "Two."))
    assert announcements.admit(event) == [] and claims == []
    assert announcements.due() == [event] and claims == [Claim()]
    released.set()
    announcements.close(Deadline(SECONDS))


def test_ends_that_a_restart_decides_reach_the_log_and_the_frontends(
    server: LocalServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = UtteranceStore(tmp_path / "queue.db")
    store.start(lambda event: None)
    for utterance in (
        Utterance("a", "One."),
        Utterance("b", None),
        Utterance("c", "Three.", delivery=Delivery(ttl_seconds=0.001)),
    ):
        store.accept(utterance)
    started = store.record_start("a")
    started()
    store.close(Deadline(SECONDS))

    notified: list[Notification] = []
    it = Watched(
        configuration(server, "announce"),
        lambda event: Stop("test") if isinstance(event, Restored) else None,
        store=UtteranceStore(tmp_path / "queue.db"),
        frontends=lambda report: Frontends((), notified.append),
    )
    with caplog.at_level("INFO"):
        assert it.run() == 0
    ends = [("a", "interrupted"), ("b", "failed"), ("c", "expired")]
    assert it.records == ends
    assert [(each.utterance.id, each.state) for each in notified if isinstance(each, Record)] == ends
    assert [line for line in caplog.messages if line.startswith("b: failed")] != []


def test_announcement_is_not_spoken_after_its_time_to_live(server: LocalServerProcess, silent: str) -> None:
    """The service does not answer: one is being synthesized, the other one waits."""
    config = configuration(server, "announce")
    config = config._replace(synthesis=config.synthesis.with_settings("local", local.Settings(url=silent)))
    short, other = Delivery(ttl_seconds=0.2), Delivery(ttl_seconds=0.1)
    it = Watched(config, until(2))
    first, second = Utterance("a", "One.", delivery=short), Utterance("b", "Two.", delivery=other)
    assert it.run(Announce(first), Announce(second)) == 0
    assert it.records == [("b", "expired"), ("a", "expired")]
    assert [event for event in it.seen if isinstance(event, Expired)] == [Expired("b", 0.1), Expired("a", 0.2)]


def test_time_to_live_ends_when_the_announcement_is_audible(server: LocalServerProcess) -> None:
    it = Watched(configuration(server, "announce"), until(1))
    delivery = Delivery(ttl_seconds=1.0)
    assert it.run(Announce(Utterance("a", "one two three four five six seven", delivery=delivery))) == 0
    assert it.records == [("a", "played")]


def test_start_is_stored_before_the_first_sample(server: LocalServerProcess, tmp_path: Path) -> None:
    seen: list[str] = []

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            store.read_history(1, lambda records: seen.extend(record.state for record in records))
        return Stop("test") if isinstance(event, Record) else None

    timing = StoreTiming(gate_seconds=SECONDS, answer_seconds=SECONDS)
    store = UtteranceStore(tmp_path / "queue.db", timing=timing)
    it = Watched(configuration(server, "announce"), when, store=store)
    assert it.run(Announce(Utterance("a", "One two three."))) == 0
    assert seen == ["started"]
    stored = it.seen.index(Stored("a", True))
    assert stored < it.seen.index(PlaybackStarted("a"))


def test_history_keeps_the_beginning_of_a_text_with_transcripts(server: LocalServerProcess, tmp_path: Path) -> None:
    kept: dict[str, str | None] = {}

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            return Hush("test")
        if isinstance(event, Record) and len(it.records) == 3:
            store.read_history(3, lambda records: kept.update({record.id: record.text for record in records}))
            return Stop("test")
        return None

    text = " ".join(["word"] * 100)
    waits = [Announce(Utterance("b", text)), Announce(Utterance("c", None)), TextPiece("c", text[:70])]
    spoken = [Announce(Utterance("a", None)), *(TextPiece("a", f"{word} ") for word in text.split())]
    config = configuration(server, "announce")
    config = config._replace(logging=config.logging._replace(transcripts=True))
    store = UtteranceStore(tmp_path / "queue.db", transcripts=lambda: True)
    it = Watched(config, when, store=store)
    assert it.run(*spoken, *waits, TextPiece("c", text[70:])) == 0
    assert kept == dict.fromkeys("abc", text[:MAX_KEPT_CHARACTERS].strip())


def test_history_has_the_text_of_a_reply_without_the_line_breaks_at_its_end(
    server: LocalServerProcess, tmp_path: Path
) -> None:
    kept: list[str | None] = []

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Record):
            store.read_history(1, lambda records: kept.extend(record.text for record in records))
            return Stop("test")
        return None

    config = configuration(server, "announce")
    config = config._replace(logging=config.logging._replace(transcripts=True))
    store = UtteranceStore(tmp_path / "queue.db", transcripts=lambda: True)
    pieces = [TextPiece("a", "One."), TextPiece("a", "\n\n"), TextComplete("a")]
    assert Watched(config, when, store=store).run(Announce(Utterance("a", None)), *pieces) == 0
    assert kept == ["One."]
