"""The inbox loop: what happens goes through the conversation, every utterance has its record, the end is orderly."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import write_wav
from support.local_server import Running

from agent.daemon import supervisor
from agent.daemon.daemon import Daemon
from agent.daemon.dispatch import DeviceTimeout
from agent.errors import ConfigError
from agent.frontends.frontend import Frontend
from agent.pipeline.conversation import Record
from agent.pipeline.events import (
    Announce,
    DeviceLost,
    Event,
    Heard,
    Hush,
    PlaybackStarted,
    Reply,
    SpeechEnded,
    Stop,
    Utterance,
    WorkerCrashed,
)
from agent.pipeline.responders import command
from agent.server.tts import tone
from agent.services.protocols import local
from agent.settings.model import Config
from agent.system.systemd import SystemdNotifier

TURN_SECONDS = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "script.txt").write_text("what time is it\n")
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(folder / "script.txt"))
    with Running(folder, *arguments) as running:
        yield running


def configuration(server: Running, mode: str, microphone: str = "none", **responder: Any) -> Config:
    config = Config()
    return replace(
        config,
        microphone=replace(config.microphone, device=microphone),
        speaker=replace(config.speaker, device="none"),
        conversation=replace(config.conversation, mode=mode, silence_seconds=0.2),
        transcription=replace(config.transcription, url=f"{server.ws}/"),
        synthesis=config.synthesis.with_settings("local", local.Settings(url=server.ws)),
        responder=replace(config.responder, rules=(), **responder),
        server=replace(config.server, start=False),
        control=replace(config.control, socket="none"),
        shutdown_seconds=30.0,
    )


class Watched:
    """A daemon in this thread. ``when`` is asked after each event, and what it returns is put into the inbox."""

    def __init__(self, config: Config, when: Callable[[Event | Record], Event | None]) -> None:
        self.seen: list[Event | Record] = []
        self.captions = io.StringIO()
        self._when = when
        self.daemon = Daemon(config, SystemdNotifier({}), watch=self._watch, captions=self.captions)

    def _watch(self, event: Event | Record) -> None:
        self.seen.append(event)
        answer = self._when(event)
        if answer is not None:
            self.daemon.inbox.put(answer)

    def run(self, *first: Event) -> int:
        for event in first:
            self.daemon.inbox.put(event)
        patience = threading.Timer(TURN_SECONDS, self.daemon.inbox.put, [Stop("the patience of the test")])
        patience.start()
        try:
            return self.daemon.run()
        finally:
            patience.cancel()

    @property
    def records(self) -> list[tuple[str, str]]:
        return [(each.utterance.id, each.state) for each in self.seen if isinstance(each, Record)]


def test_signals_are_caught_before_a_door_is_open(server: Running) -> None:
    """SIGUSR1 and SIGHUP killed a daemon whose control socket was just there, and left that behind; SIGTERM too."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    found: list[object] = []

    class Door(Frontend):
        def open(self) -> None:
            found.extend(signal.getsignal(number) for number in numbers)
            raise ConfigError("this door does not open")

        def stop_accepting(self) -> None:
            pass

    config = configuration(server, "announce")
    daemon = Daemon(config, SystemdNotifier({}), frontends=lambda report: [Door("door", report)])
    with pytest.raises(ConfigError):
        daemon.run()
    assert len(found) == 4 and not set(found) & {*before, signal.SIG_DFL}
    assert [signal.getsignal(number) for number in numbers] == before


def test_an_announcement_is_said_and_recorded_as_played(server: Running) -> None:
    it = Watched(configuration(server, "announce"), lambda event: Stop("test") if isinstance(event, Record) else None)
    assert it.run(Announce(Utterance("a", "Dinner is ready."))) == 0
    assert it.records == [("a", "played")]


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_heard_and_said_stands_in_the_log_where_that_is_asked_for_and_nowhere_else(
    server: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: bool
) -> None:
    """``logging.transcripts`` promised both, and only what was heard was written."""
    write_wav(tmp_path / "question.wav", bytes(16000) + tone.pcm("a b c d e f", 16000))
    config = configuration(server, "assistant", f"file:{tmp_path}/question.wav", fallback="It is late.")
    config = replace(config, logging=replace(config.logging, transcripts=wanted))

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Reply):
            return Announce(Utterance("a", "Dinner."))
        return Stop("test") if isinstance(event, Record) and event.utterance.id == "a" else None

    it = Watched(config, when)
    with caplog.at_level("DEBUG"):
        assert it.run() == 0
    told = [record.getMessage() for record in caplog.records]
    for words in ("what time is it", "says It is late.", "a: says Dinner."):
        assert any(words in line for line in told) == wanted, (words, told)


def test_a_question_is_heard_answered_and_said(server: Running, tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", bytes(16000) + tone.pcm("a b c d e f", 16000))
    config = configuration(server, "assistant", f"file:{tmp_path}/question.wav", fallback="It is late.")
    it = Watched(config, lambda event: Stop("test") if isinstance(event, Record) else None)
    assert it.run() == 0
    assert [event.text for event in it.seen if isinstance(event, Heard)] == ["what time is it"]
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "played" and record.seconds == pytest.approx(3 * tone.WORD_SECONDS, abs=0.01)


def test_the_first_sentence_of_an_answer_is_said_while_the_rest_is_written(server: Running, tmp_path: Path) -> None:
    """The sentences of an answer were put together without anything between: nobody saw where one ended, and not a
    word was said before the answer was complete."""
    write_wav(tmp_path / "question.wav", bytes(16000) + tone.pcm("a b c d e f", 16000))
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR)

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            os.write(opened, b"\n")  # now the rest may be written
        return Stop("test") if isinstance(event, Record) else None

    answer = command.Settings(("sh", "-c", f"echo It is late.; read go <{gate}; echo Good night."))
    responder = {"kind": "command", "sections": {"command": answer}}
    config = configuration(server, "assistant", f"file:{tmp_path}/question.wav", **responder)
    it = Watched(config, when)
    assert it.run() == 0
    os.close(opened)
    told = [type(event) for event in it.seen if isinstance(event, Reply | PlaybackStarted)]
    assert told == [Reply, PlaybackStarted, Reply]
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "played" and record.seconds == pytest.approx(5 * tone.WORD_SECONDS, abs=0.01)


def test_a_question_of_before_a_standstill_is_not_answered_and_the_next_one_is(server: Running, tmp_path: Path) -> None:
    question = bytes(16000) + tone.pcm("a b c d e f", 16000)
    # Seconds of silence: what is said before the standstill has been noticed is of before, too.
    write_wav(tmp_path / "questions.wav", question + bytes(4 * 32000) + question)
    config = configuration(server, "assistant", f"file:{tmp_path}/questions.wav", fallback="It is late.")
    slept: list[float] = []

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, SpeechEnded):
            slept.append(3600.0)
        return Stop("test") if isinstance(event, Record) else None

    it = Watched(config, when)
    it.daemon._standstill._clock = lambda: time.monotonic() + sum(slept[:1])
    assert it.run() == 0
    told = [type(event) for event in it.seen if isinstance(event, SpeechEnded | Reply)]
    assert told == [SpeechEnded, SpeechEnded, Reply]
    (hush,) = [event for event in it.seen if isinstance(event, Hush)]
    assert re.fullmatch(r"a standstill of 36[0-9]{2} s", hush.reason), "and how long nobody had looked before"
    assert [state for _, state in it.records] == ["played"]


def test_captions_are_printed_line_by_line(server: Running, tmp_path: Path) -> None:
    write_wav(tmp_path / "talk.wav", tone.pcm("a b c d e f g h", 16000))
    config = configuration(server, "captions", f"file:{tmp_path}/talk.wav")
    it = Watched(config, lambda event: Stop("test") if isinstance(event, Heard) else None)
    assert it.run() == 0
    assert it.captions.getvalue().splitlines()[0] == "what time is it"


def test_hush_cuts_what_is_said_and_drops_what_waits(server: Running) -> None:
    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            return Hush("test")
        done = isinstance(event, Record) and len(it.records) == 2
        return Stop("test") if done else None

    it = Watched(configuration(server, "announce"), when)
    assert it.run(Announce(Utterance("a", "word " * 100)), Announce(Utterance("b", "More."))) == 0
    assert sorted(it.records) == [("a", "cancelled"), ("b", "cancelled")]


def test_what_was_accepted_and_not_said_is_recorded_at_the_end(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 5.0)  # a speaker that is held up tells it all the same
    it = Watched(
        replace(configuration(server, "announce"), shutdown_seconds=8.0),
        lambda event: Stop("test") if isinstance(event, PlaybackStarted) else None,
    )
    assert it.run(Announce(Utterance("a", "word " * 200)), Announce(Utterance("b", "Never said."))) == 0
    assert sorted(it.records) == [("a", "cancelled"), ("b", "cancelled")]
    heard = {each.utterance.id: each.seconds for each in it.seen if isinstance(each, Record)}
    assert heard["a"] > 0.5 and heard["b"] == 0.0, "how much of it was heard is told, also of what the end cut short"


def test_systemd_is_asked_for_as_long_as_the_end_may_take(server: Running, tmp_path: Path) -> None:
    """The unit stops waiting after 15 s, and ``shutdown_seconds`` may be 120: systemd killed what was still within its
    time, and nobody got an end mark or a record."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        config = replace(configuration(server, "announce"), shutdown_seconds=100.0)
        daemon = Daemon(config, SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
        daemon.inbox.put(Stop("test"))
        assert daemon.run() == 0
        words: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                words += systemd.recv(4096).decode().split("\n")
    wishes = [word for word in words[words.index("STOPPING=1") :] if word.startswith("EXTEND_TIMEOUT_USEC=")]
    assert [int(wish.partition("=")[2]) > 100_000_000 for wish in wishes] == [True]


def test_a_short_end_is_a_gentle_one_too(server: Running) -> None:
    """In a few seconds a short word can be said to its end; the time was given away to parts that had no use for it."""

    def ended() -> str:
        it = Watched(
            replace(configuration(server, "announce"), shutdown_seconds=4.0),
            lambda event: Stop("test") if isinstance(event, PlaybackStarted) else None,
        )
        assert it.run(Announce(Utterance("a", "Yes."))) == 0
        ((_, state),) = it.records
        return state

    assert "played" in (ended() for _ in range(5)), "and not only where the machine stood still for the time it has"


def test_what_is_being_said_when_the_end_comes_is_said_to_its_end(server: Running) -> None:
    """Everything had come from the service already; dropping it then would cost what somebody is listening to."""
    it = Watched(
        configuration(server, "announce"), lambda event: Stop("test") if isinstance(event, PlaybackStarted) else None
    )
    assert it.run(Announce(Utterance("a", "Good night to all of you."))) == 0
    assert it.records == [("a", "played")]


def test_the_death_of_a_worker_ends_it_in_order_with_70(server: Running) -> None:
    it = Watched(configuration(server, "announce"), lambda event: None)
    assert it.run(WorkerCrashed("speaker", LookupError("nobody foresaw this"))) == 70
    assert not any(thread.name in ("synthesizer", "speaker") for thread in threading.enumerate())


def test_a_stop_before_anything_has_happened_ends_with_0(server: Running) -> None:
    for mode in ("assistant", "captions", "announce"):
        it = Watched(configuration(server, mode), lambda event: None)
        assert it.run(Stop("test")) == 0
    left = {thread.name for thread in threading.enumerate()}
    assert not left & {"microphone", "recognizer", "responder", "synthesizer", "speaker"}


def test_a_hush_counts_also_while_all_is_ending(server: Running) -> None:
    """The end lets what is being said be said. Somebody pressed the button then, was told that it is done, and had to
    listen all the same."""
    said = " ".join(["word"] * 60)  # shorter than the end, so only the hush can cut it

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            it.daemon.inbox.put(Stop("test"))
            return Hush("a button")
        return None

    it = Watched(replace(configuration(server, "announce"), shutdown_seconds=60.0), when)
    assert it.run(Announce(Utterance("a", said))) == 0
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert (record.state, record.reason) == ("cancelled", "by a button")


def test_a_worker_that_dies_while_all_is_ending_is_told_by_the_exit_code(server: Running) -> None:
    it = Watched(configuration(server, "announce"), lambda event: None)
    assert it.run(Stop("test"), WorkerCrashed("speaker", LookupError("nobody foresaw this"))) == 70


def test_an_event_that_cannot_be_taken_at_the_end_keeps_nobody_from_it(server: Running) -> None:
    """The captions' reader had gone: the error of the first write ended the main loop, the same error of the second
    the end itself, and the process stayed for ever."""

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Hush):
            raise BrokenPipeError("the reader left")
        return None

    it = Watched(configuration(server, "announce"), when)
    assert it.run(Stop("test"), Hush("x")) == 70
    assert not any(thread.name in ("synthesizer", "speaker") for thread in threading.enumerate())


def test_a_speaker_that_stays_away_fails_what_waits_for_it(server: Running) -> None:
    """Without a speaker the device was speaking for ever: deaf, and whoever waited for the end of a word waited too."""
    it = Watched(
        configuration(server, "announce"),
        lambda event: Stop("test") if isinstance(event, Record) else None,
    )
    it.daemon._absence = DeviceTimeout(0.2)
    assert it.run(Announce(Utterance("a", "word " * 200)), DeviceLost("speaker", "pulled out")) == 0
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "failed" and record.reason.startswith("no speaker for ")
