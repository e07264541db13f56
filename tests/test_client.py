from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.control import ControlHarness

from agent import client as module
from agent.client import Client, ClientError, ConnectionLost, End, NotRunning, Refused, TimedOut
from agent.daemon.utterance_store import UtteranceStore
from agent.frontends.control.line_buffer import MAX_LINE_BYTES
from agent.frontends.control.server import MAX_PEERS
from agent.pipeline.actions import Record
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Cancel, Heard, Hush, Mute, TextComplete, TextPiece, Woken
from agent.pipeline.timers import Clock, Timers
from agent.system.text import MAX_TEXT_CHARACTERS
from agent.system.threads import Deadline

SECONDS = 20.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ControlHarness]:
    running = ControlHarness(tmp_path / "control.sock")
    yield running
    running.end()


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A server that sends ``answer`` to its first client and closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connected, _ = listener.accept()
            with connected:
                connected.settimeout(SECONDS)
                with contextlib.suppress(OSError):
                    connected.sendall(answer)
                    connected.shutdown(socket.SHUT_WR)
                    while connected.recv(65536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(SECONDS)


def test_connects_to_the_first_daemon_that_listens(daemon: ControlHarness, tmp_path: Path) -> None:
    with Client([str(tmp_path / "nowhere"), str(daemon.path)]) as client:
        assert client.path == str(daemon.path)
        assert client.status()["status"] == "ready to speak"


def test_default_paths_are_those_of_the_user_and_the_service(
    daemon: ControlHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert module.default_paths() == [
        "/run/user/1000/voice-agent/control.sock",
        "/run/voice-agent/control.sock",
    ]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert module.default_paths()[0] == "/state/voice-agent/run/control.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with Client() as client:
        assert client.path == str(daemon.path)


def test_connection_failure_names_the_reason_for_each_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NotRunning) as failed:
        Client([str(tmp_path / "nowhere"), str(tmp_path / "dead")])
    assert f"{tmp_path}/nowhere: there is no socket" in str(failed.value)
    assert f"{tmp_path}/dead: no process listens any more" in str(failed.value)
    with pytest.raises(NotRunning, match="control.socket is none"):
        Client([])


def test_say_returns_the_accepted_utterance_and_waits_for_its_end(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        speech = client.say("hello", priority="important", id="a-1")
        utterance = daemon.announced()
        assert (speech.id, speech.durable, speech.end) == ("a-1", False, None)
        assert (utterance.text, utterance.urgency.value) == ("hello", "important")
        with pytest.raises(TimedOut):
            speech.wait(0.01)
        daemon.api.notify(Record(utterance, "failed", "every service is down", 0.25))
        assert speech.wait(SECONDS) == End("a-1", "failed", "every service is down", 0.25)
        speech.cancel()
        assert daemon.inbox.get(timeout=SECONDS) == Cancel("a-1", "control")


def test_two_utterances_with_one_id_end_together(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        both = [client.say("hello", id="a"), client.say("hello", id="a")]
        daemon.api.notify(Record(daemon.announced(), "played", "", 1.0))
        assert [speech.wait(SECONDS).state for speech in both] == ["played", "played"]


def test_text_is_written_while_it_arrives(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        with client.stream(priority=2) as stream:
            stream.write("One.")
            utterance = daemon.announced()
            assert (utterance.id, utterance.text, utterance.priority) == (stream.id, None, 2)
            assert daemon.inbox.get(timeout=SECONDS) == TextPiece(stream.id, "One.")
        assert daemon.inbox.get(timeout=SECONDS) == TextComplete(stream.id)
        with pytest.raises(KeyError), client.stream() as stream:
            raise KeyError
        assert stream.wait(SECONDS).state == "cancelled"


def test_exception_in_a_stream_cancels_it_and_is_raised_in_any_case(daemon: ControlHarness) -> None:
    client = Client(daemon.path)
    with pytest.raises(LookupError), client.stream(id="a") as stream:
        stream.write("One.")
        raise LookupError
    assert daemon.announced().id == "a"
    assert [daemon.event() for _ in range(2)] == [TextPiece("a", "One."), Cancel("a", "control")]
    with pytest.raises(LookupError), client.stream():
        client.close()
        raise LookupError


def test_stream_with_a_known_id_has_its_record_and_sends_nothing(tmp_path: Path) -> None:
    store = UtteranceStore(tmp_path / "queue.db")
    store.start(lambda event: None)
    with contextlib.ExitStack() as stack:
        daemon = ControlHarness(tmp_path / "control.sock", history=store)
        stack.callback(store.close, Deadline(SECONDS))
        stack.callback(daemon.end)
        client = stack.enter_context(Client(daemon.path))
        first = client.stream(id="a")
        first.write("One.")
        known = client.stream(id="a")
        assert first.record is None and known.record is not None and known.record["state"] == "queued"
        known.write("Two.")
        known.finish()
        first.write("Three.")
        assert daemon.announced().id == "a"
        assert [daemon.event() for _ in range(2)] == [TextPiece("a", "One."), TextPiece("a", "Three.")]


@pytest.mark.parametrize(
    "text", ["x" * MAX_TEXT_CHARACTERS, "\u4e16" * MAX_TEXT_CHARACTERS, "\U00010400" * MAX_TEXT_CHARACTERS]
)
def test_longest_text_is_sent_in_pieces(daemon: ControlHarness, text: str) -> None:
    with Client(daemon.path) as client:
        client.say(text, priority=2)
        utterance = daemon.announced()
        assert (utterance.text, utterance.priority) == (None, 2)
        pieces = []
        while not isinstance(event := daemon.inbox.get(timeout=SECONDS), TextComplete):
            assert isinstance(event, TextPiece)
            pieces.append(event.text)
    assert "".join(pieces) == text


def test_text_beyond_the_limit_is_refused_and_not_cut(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        with pytest.raises(Refused, match="at most 100000 characters"):
            client.say("hello " * MAX_TEXT_CHARACTERS)
        client.hush()
        assert isinstance(daemon.event(), Hush)


def test_requests_reach_the_daemon(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        client.hush()
        client.mute()
        client.unmute()
        client.notify("hush")
    expected = [Hush("control"), Mute(True, "control"), Mute(False, "control"), Hush("control")]
    assert [daemon.inbox.get(timeout=SECONDS) for _ in expected] == expected


def test_timers_are_set_listed_and_cancelled_by_number_or_name(daemon: ControlHarness) -> None:
    timers = Timers(Clock(lambda: 0.0))
    control = DeviceControl(lambda event: None, timers, lambda saved, done: done(True), lambda: 50)
    daemon.api.device_control = lambda: control
    with Client(daemon.path) as client:
        number = client.set_timer(90)["number"]
        client.set_timer(60, "tea")
        assert [each["name"] for each in client.timers()] == ["tea", ""]
        client.cancel_timer(number)
        client.cancel_timer("tea")
        assert client.timers() == []


def test_refusal_has_code_and_name(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        with pytest.raises(Refused, match="percent is a whole number from 0 to 100") as refused:
            client.volume(1000)
        assert (refused.value.code, refused.value.name) == (-32602, None)
        with pytest.raises(Refused) as refused:
            client.call("say.end", id="nothing")
        assert refused.value.name == "unknown_utterance"


def test_refused_connection_has_the_reason(daemon: ControlHarness) -> None:
    with contextlib.ExitStack() as inside:
        for _ in range(MAX_PEERS):
            inside.enter_context(Client(daemon.path)).status()
        one_more = inside.enter_context(Client(daemon.path))
        with pytest.raises(Refused, match=f"{MAX_PEERS} programs are already connected"):
            one_more.status()


def test_events_are_iterated_while_other_threads_call(daemon: ControlHarness) -> None:
    received: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    client = Client(daemon.path)
    events = client.events("heard", texts=True)

    def iterate() -> None:
        for event in events:
            received.put(event)
        received.put(None)

    thread = threading.Thread(target=iterate)
    thread.start()
    threads = [threading.Thread(target=client.status) for _ in range(4)]
    for each in threads:
        each.start()
    for number in range(50):
        daemon.api.notify(Heard(f"{number}"))
        assert client.status()["state"] == "idle"
    for each in threads:
        each.join(SECONDS)
    texts = [(received.get(timeout=SECONDS) or {})["text"] for _ in range(50)]
    assert texts == [f"{number}" for number in range(50)]
    client.close()
    assert received.get(timeout=SECONDS) is None
    thread.join(SECONDS)
    with pytest.raises(ConnectionLost):
        client.status()


def test_events_begin_anew_with_each_iterator(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        events = client.events("heard", texts=True)
        for text in ("one", "two"):
            daemon.api.notify(Heard(text))
        assert next(events)["text"] == "one"
        client.status()  # receives the second event
        events = client.events("wake")
        daemon.api.notify(Woken("hey"))
        assert next(events)["event"] == "wake"


def test_unread_events_are_bounded_and_counted(daemon: ControlHarness) -> None:
    with Client(daemon.path) as client:
        events = client.events("heard", texts=True)
        for number in range(module.MAX_EVENTS + 100):
            daemon.api.notify(Heard(f"{number}"))
            if number % 100 == 0:
                client.status()  # receives the events that were sent before
        client.status()
        assert next(events) == {"event": "lost", "lost": 100}
        assert next(events)["text"] == "100"


def test_end_of_the_daemon_ends_all_waits(tmp_path: Path) -> None:
    daemon = ControlHarness(tmp_path / "control.sock")
    with Client(daemon.path) as client, Client(daemon.path) as listener:
        events = listener.events()
        speech = client.say("hello")
        daemon.end()
        assert speech.wait(SECONDS).state == "cancelled"
        with pytest.raises(ConnectionLost):
            next(events)
        with pytest.raises(ConnectionLost):
            client.status()
        with pytest.raises(ConnectionLost):
            client.notify("hush")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no daemon"),
        (b"x" * (5 * 1024 * 1024), "does not end"),
        (b"[]\n", "no daemon"),
    ],
)
def test_peer_that_is_no_daemon_is_reported(tmp_path: Path, answer: bytes, sentence: str) -> None:
    with (
        answering(tmp_path / "s", answer),
        Client(str(tmp_path / "s")) as client,
        pytest.raises(ConnectionLost, match=sentence),
    ):
        client.status()


def test_call_times_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with Client(str(tmp_path / "s"), timeout=0.05) as client, pytest.raises(TimedOut, match="does not answer"):
            client.status()


@pytest.mark.parametrize("message", [{"id": [], "result": {}}, {"method": "ended", "params": {"id": {}}}])
def test_id_that_is_no_valid_id_is_ignored(tmp_path: Path, message: dict[str, object]) -> None:
    path = tmp_path / "s"
    with (
        answering(path, json.dumps(message).encode() + b"\n"),
        Client(str(path)) as client,
        pytest.raises(ConnectionLost),
    ):
        client.status()


def test_late_error_of_a_request_that_timed_out_leaves_the_connection(tmp_path: Path) -> None:
    has_timed_out = threading.Event()

    def serve(listener: socket.socket) -> None:
        connected, _ = listener.accept()
        with connected, connected.makefile("rwb", buffering=0) as lines:
            late = json.loads(lines.readline())["id"]
            assert has_timed_out.wait(SECONDS)
            error = {"jsonrpc": "2.0", "id": late, "error": {"code": -32603, "message": "failed"}}
            lines.write(json.dumps(error).encode() + b"\n")
            for _ in range(2):
                number = json.loads(lines.readline())["id"]
                lines.write(json.dumps({"jsonrpc": "2.0", "id": number, "result": {}}).encode() + b"\n")
            lines.readline()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        with Client(str(tmp_path / "s")) as client:
            client._timeout = 0.05
            with pytest.raises(TimedOut):
                client.call("phrases.warm", texts=["hello"])
            client._timeout = SECONDS
            has_timed_out.set()
            client.hush()
            client.hush()
        thread.join(SECONDS)


def test_close_ends_a_wait_in_another_thread(daemon: ControlHarness) -> None:
    client = Client(daemon.path)
    speech = client.say("hello")
    failures: queue.SimpleQueue[ClientError] = queue.SimpleQueue()

    def wait() -> None:
        try:
            speech.wait()
        except ClientError as error:
            failures.put(error)

    thread = threading.Thread(target=wait)
    thread.start()
    client.close()
    client.close()
    assert isinstance(failures.get(timeout=SECONDS), ConnectionLost)
    thread.join(SECONDS)


def test_a_copy_of_the_module_works_without_the_package(daemon: ControlHarness, tmp_path: Path) -> None:
    shutil.copy(module.__file__, tmp_path / "voice_client.py")
    code = (
        "import json, sys, voice_client\n"
        "with voice_client.Client(sys.argv[1]) as agent: print(json.dumps(agent.status()))\n"
        "assert not any(name.split('.')[0] == 'agent' for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, daemon.path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "idle"


def test_requests_stay_below_the_limit_of_a_line() -> None:
    assert module.MAX_LINE_BYTES == MAX_LINE_BYTES
    assert module.MAX_TEXT_CHARACTERS == MAX_TEXT_CHARACTERS
