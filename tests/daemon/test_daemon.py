from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import write_wav
from support.local_server import LocalServerProcess
from support.watched import Watched, configuration

from agent.config.secrets import Secret
from agent.daemon.daemon import Daemon, DaemonTiming
from agent.daemon.shutdown import WorkerBudget
from agent.daemon.suspend import SuspendDetector
from agent.daemon.timer_bell import TimerBell
from agent.daemon.utterance_store import UtteranceStore
from agent.errors import ConfigError
from agent.frontends.frontend import Frontend, Frontends, Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Announce,
    DeviceLost,
    Event,
    Heard,
    Hush,
    PlaybackStarted,
    Reply,
    ReplyEnded,
    Restart,
    ServiceDown,
    SpeechEnded,
    Stop,
    WorkerCrashed,
)
from agent.pipeline.responders import command, openai
from agent.pipeline.status import Status
from agent.pipeline.utterance import Utterance
from agent.server.tts import tone
from agent.services.protocols import neuphonic
from agent.system.systemd import SystemdNotifier
from agent.system.threads import Deadline


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "script.txt").write_text("what time is it\n")
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(folder / "script.txt"))
    with LocalServerProcess(folder, *arguments) as running:
        yield running


def test_signal_handlers_are_installed_before_a_frontend_opens(server: LocalServerProcess) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    handlers: list[object] = []

    class FailingFrontend(Frontend):
        def open(self) -> None:
            handlers.extend(signal.getsignal(number) for number in numbers)
            raise ConfigError("cannot open")

        def stop_accepting(self) -> None:
            pass

    config = configuration(server, "announce")
    daemon = Daemon(
        config, SystemdNotifier({}), frontends=lambda report: Frontends((FailingFrontend("failing", report),))
    )
    with pytest.raises(ConfigError):
        daemon.run()
    assert len(handlers) == 4 and not set(handlers) & {*before, signal.SIG_DFL}
    assert [signal.getsignal(number) for number in numbers] == before


def test_announcement_is_played_and_recorded(server: LocalServerProcess) -> None:
    it = Watched(configuration(server, "announce"), lambda event: Stop("test") if isinstance(event, Record) else None)
    assert it.run(Announce(Utterance("a", "Dinner is ready."))) == 0
    assert it.records == [("a", "played")]


def test_timers_are_closed_even_if_the_announcements_cannot_be(
    server: LocalServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Broken(UtteranceStore):
        def close(self, deadline: Deadline) -> None:
            super().close(deadline)
            raise LookupError("unexpected")

    monkeypatch.setattr(TimerBell, "close", lambda bell, deadline: closed.append("timers"))
    timers = tmp_path / "timers.db"
    timers.touch()
    config, store = configuration(server, "assistant"), Broken(tmp_path / "queue.db", transcripts=lambda: False)
    it = Watched(config, lambda event: None, store=store, timers=timers)
    with pytest.raises(LookupError):
        it.run(Stop("test"))
    assert closed == ["timers"]


@pytest.mark.parametrize("wanted", [True, False])
def test_transcripts_are_logged_only_if_configured(
    server: LocalServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: bool
) -> None:
    write_wav(tmp_path / "question.wav", bytes(16000) + tone.pcm("a b c d e f", 16000))
    config = configuration(server, "assistant", f"file:{tmp_path}/question.wav", fallback="It is late.")
    config = config._replace(logging=config.logging._replace(transcripts=wanted))

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Reply):
            return Announce(Utterance("a", "Dinner."))
        return Stop("test") if isinstance(event, Record) and event.utterance.id == "a" else None

    it = Watched(config, when)
    with caplog.at_level("DEBUG"):
        assert it.run() == 0
    seen = [record.getMessage() for record in caplog.records]
    for words in ("what time is it", "says It is late.", "a: says Dinner."):
        assert any(words in line for line in seen) == wanted, (words, seen)


def test_question_is_recognized_answered_and_played(server: LocalServerProcess, tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", bytes(16000) + tone.pcm("a b c d e f", 16000))
    config = configuration(server, "assistant", f"file:{tmp_path}/question.wav", fallback="It is late.")
    it = Watched(config, lambda event: Stop("test") if isinstance(event, Record) else None)
    assert it.run() == 0
    assert [event.text for event in it.seen if isinstance(event, Heard)] == ["what time is it"]
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "played" and record.seconds == pytest.approx(3 * tone.WORD_SECONDS, abs=0.01)


def test_first_sentence_of_a_reply_is_played_before_the_rest_arrives(
    server: LocalServerProcess, tmp_path: Path
) -> None:
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
    seen = [type(event) for event in it.seen if isinstance(event, Reply | PlaybackStarted)]
    assert seen == [Reply, PlaybackStarted, Reply]
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "played" and record.seconds == pytest.approx(5 * tone.WORD_SECONDS, abs=0.01)


def status_recorder(problems: list[tuple[str, ...]]) -> Frontends:
    """Frontends that record the problems of each status."""

    def notify(notification: Notification) -> None:
        if isinstance(notification, Status):
            problems.append(notification.problems)

    return Frontends((), notify)


@pytest.mark.parametrize("text", ["\U0001f600", "---", "...", "\u2764\ufe0f \U0001f44d!"])
def test_announcement_without_words_goes_to_no_service(server: LocalServerProcess, text: str) -> None:
    config = configuration(server, "announce")
    synthesis = config.synthesis._replace(services=("neuphonic", "local")).with_settings(
        "neuphonic", neuphonic.Settings(url=f"{server.ws}/speak/en")
    )
    problems: list[tuple[str, ...]] = []
    it = Watched(
        config._replace(synthesis=synthesis),
        lambda event: Stop("test") if isinstance(event, Record) and event.utterance.id == "b" else None,
        frontends=lambda report: status_recorder(problems),
    )
    before = server.event_names("in", "neuphonic").count("Text")
    assert it.run(Announce(Utterance("a", text)), Announce(Utterance("b", f"Dinner. {text}"))) == 0
    assert it.records == [("a", "played"), ("b", "played")]
    assert server.event_names("in", "neuphonic").count("Text") == before + 1
    assert set(problems) == {()} and not any(isinstance(event, ServiceDown) for event in it.seen)


@pytest.mark.parametrize("text", ["\U0001f600", "---", "**...**"])
def test_answer_without_words_is_silent_and_no_failure_of_a_service(
    server: LocalServerProcess, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    responder = {"kind": "command", "sections": {"command": command.Settings(("echo", text))}}
    config = configuration(server, "assistant", **responder)
    problems: list[tuple[str, ...]] = []
    it = Watched(
        config,
        lambda event: Stop("test") if isinstance(event, ReplyEnded) else None,
        frontends=lambda report: status_recorder(problems),
    )
    assert it.run(Heard("Do you like it?")) == 0
    assert [event.shortfall for event in it.seen if isinstance(event, ReplyEnded)] == ["unspeakable"]
    assert it.records == [] and not any(isinstance(event, Reply | ServiceDown) for event in it.seen)
    assert set(problems) == {()}
    assert any("nothing that a voice can pronounce" in record.getMessage() for record in caplog.records)


def test_failed_answer_is_replaced_by_the_failure_reply(
    server: LocalServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    sections = {"openai": openai.Settings(base_url="http://127.0.0.1:9/v1", api_key=Secret(value=None))}
    config = configuration(server, "assistant", kind="openai", sections=sections, failure_reply="Ask me later.")
    it = Watched(config, lambda event: Stop("test") if isinstance(event, Record) else None)
    assert it.run(Heard("What is new?")) == 0
    assert [event.text for event in it.seen if isinstance(event, Reply)] == ["Ask me later."]
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "played" and record.seconds == pytest.approx(3 * tone.WORD_SECONDS, abs=0.01)
    assert any(
        "reply: incomplete, openai: 127.0.0.1:9 cannot be reached" in each.getMessage() for each in caplog.records
    )


def test_question_from_before_a_suspend_is_not_answered(server: LocalServerProcess, tmp_path: Path) -> None:
    question = bytes(16000) + tone.pcm("a b c d e f", 16000)
    # Seconds of silence: speech before the suspend is detected counts as old, too.
    write_wav(tmp_path / "questions.wav", question + bytes(4 * 32000) + question)
    config = configuration(server, "assistant", f"file:{tmp_path}/questions.wav", fallback="It is late.")
    slept: list[float] = []

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, SpeechEnded):
            slept.append(3600.0)
        return Stop("test") if isinstance(event, Record) else None

    it = Watched(
        config,
        when,
        suspend_detector=lambda reset: SuspendDetector(reset, clock=lambda: time.monotonic() + sum(slept[:1])),
    )
    assert it.run() == 0
    seen = [type(event) for event in it.seen if isinstance(event, SpeechEnded | Reply)]
    assert seen == [SpeechEnded, SpeechEnded, Reply]
    (hush,) = [event for event in it.seen if isinstance(event, Hush)]
    assert re.fullmatch(r"a suspend of 36[0-9]{2} s", hush.reason)
    assert [state for _, state in it.records] == ["played"]


def test_captions_are_written_line_by_line(server: LocalServerProcess, tmp_path: Path) -> None:
    write_wav(tmp_path / "talk.wav", tone.pcm("a b c d e f g h", 16000))
    config = configuration(server, "captions", f"file:{tmp_path}/talk.wav")
    it = Watched(config, lambda event: Stop("test") if isinstance(event, Heard) else None)
    assert it.run() == 0
    assert it.captions.getvalue().splitlines()[0] == "what time is it"


def test_hush_cancels_current_and_queued_utterances(server: LocalServerProcess) -> None:
    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            return Hush("test")
        done = isinstance(event, Record) and len(it.records) == 2
        return Stop("test") if done else None

    it = Watched(configuration(server, "announce"), when)
    assert it.run(Announce(Utterance("a", "word " * 100)), Announce(Utterance("b", "More."))) == 0
    assert sorted(it.records) == [("a", "cancelled"), ("b", "cancelled")]


def test_shutdown_records_every_accepted_utterance(server: LocalServerProcess) -> None:
    it = Watched(
        configuration(server, "announce")._replace(shutdown_seconds=8.0),
        lambda event: Stop("test") if isinstance(event, PlaybackStarted) else None,
        timing=DaemonTiming(worker_budget=WorkerBudget(drain=2.0, cancel=5.0)),
    )
    assert it.run(Announce(Utterance("a", "word " * 200)), Announce(Utterance("b", "Never said."))) == 0
    assert sorted(it.records) == [("a", "cancelled"), ("b", "cancelled")]
    heard = {each.utterance.id: each.seconds for each in it.seen if isinstance(each, Record)}
    assert heard["a"] > 0.5 and heard["b"] == 0.0


def test_shutdown_extends_the_stop_timeout_of_systemd(server: LocalServerProcess, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        config = configuration(server, "announce")._replace(shutdown_seconds=100.0)
        daemon = Daemon(config, SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
        daemon.inbox.put(Stop("test"))
        assert daemon.run() == 0
        lines: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines += systemd.recv(4096).decode().split("\n")
    requests = [line for line in lines[lines.index("STOPPING=1") :] if line.startswith("EXTEND_TIMEOUT_USEC=")]
    assert [int(request.partition("=")[2]) > 100_000_000 for request in requests] == [True]


def test_short_shutdown_lets_a_short_utterance_end(server: LocalServerProcess) -> None:

    def ended() -> str:
        it = Watched(
            configuration(server, "announce")._replace(shutdown_seconds=4.0),
            lambda event: Stop("test") if isinstance(event, PlaybackStarted) else None,
        )
        assert it.run(Announce(Utterance("a", "Yes."))) == 0
        ((_, state),) = it.records
        return state

    assert "played" in (ended() for _ in range(5)), "unless the machine stands still for the whole time"


def test_shutdown_lets_the_current_utterance_end(server: LocalServerProcess) -> None:
    it = Watched(
        configuration(server, "announce"), lambda event: Stop("test") if isinstance(event, PlaybackStarted) else None
    )
    assert it.run(Announce(Utterance("a", "Good night to all of you."))) == 0
    assert it.records == [("a", "played")]


def test_worker_crash_shuts_down_with_exit_code_70(server: LocalServerProcess) -> None:
    it = Watched(configuration(server, "announce"), lambda event: None)
    assert it.run(WorkerCrashed("speaker", LookupError("unexpected"))) == 70
    assert not any(thread.name in ("synthesizer", "speaker") for thread in threading.enumerate())


def test_stop_at_the_start_ends_with_exit_code_0(server: LocalServerProcess) -> None:
    for mode in ("assistant", "captions", "announce"):
        it = Watched(configuration(server, mode), lambda event: None)
        assert it.run(Stop("test")) == 0
    left = {thread.name for thread in threading.enumerate()}
    assert not left & {"microphone", "recognizer", "responder", "synthesizer", "speaker"}


def test_hush_during_the_shutdown_cancels(server: LocalServerProcess) -> None:
    said = " ".join(["word"] * 60)  # shorter than the shutdown, so only the hush can cancel it

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, PlaybackStarted):
            it.daemon.inbox.put(Stop("test"))
            return Hush("a button")
        return None

    it = Watched(configuration(server, "announce")._replace(shutdown_seconds=60.0), when)
    assert it.run(Announce(Utterance("a", said))) == 0
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert (record.state, record.reason) == ("cancelled", "by a button")


def test_worker_crash_during_the_shutdown_sets_the_exit_code(server: LocalServerProcess) -> None:
    it = Watched(configuration(server, "announce"), lambda event: None)
    assert it.run(Stop("test"), WorkerCrashed("speaker", LookupError("unexpected"))) == 70


def test_event_that_fails_during_the_shutdown_does_not_stop_it(server: LocalServerProcess) -> None:
    """The captions' reader had gone: the error of the first write ended the main loop, the same error of the second
    the end itself, and the process stayed for ever."""

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Hush):
            raise BrokenPipeError("the reader left")
        return None

    it = Watched(configuration(server, "announce"), when)
    assert it.run(Stop("test"), Hush("x")) == 70
    assert not any(thread.name in ("synthesizer", "speaker") for thread in threading.enumerate())


def test_utterance_fails_after_the_speaker_timeout(server: LocalServerProcess) -> None:
    it = Watched(
        configuration(server, "announce"),
        lambda event: Stop("test") if isinstance(event, Record) else None,
        timing=DaemonTiming(speaker_timeout_seconds=0.2),
    )
    assert it.run(Announce(Utterance("a", "word " * 200)), DeviceLost("speaker", "pulled out")) == 0
    (record,) = [each for each in it.seen if isinstance(each, Record)]
    assert record.state == "failed" and record.reason.startswith("no speaker for ")


def test_a_requested_restart_ends_with_75_and_is_refused_soon_after_a_start(server: LocalServerProcess) -> None:
    config = configuration(server, "announce")
    early = Watched(config, lambda event: Stop("test") if isinstance(event, Hush) else None)
    assert early.run(Restart("mqtt"), Hush("test")) == 0
    late = Watched(config, lambda event: None, timing=DaemonTiming(restart_seconds=0.0))
    assert late.run(Restart("mqtt")) == 75
