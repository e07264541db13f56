"""Reaching a daemon from the outside: found where it is, and a clear sentence where it is not."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ServiceError
from agent.frontends.control.client import ControlClient, DaemonUnreachable, sockets
from agent.frontends.control.lines import LONGEST_LINE
from agent.frontends.control.server import MOST_CALLERS
from agent.frontends.control.server import Control as Frontend
from agent.pipeline.events import Announce, Event, TextComplete, TextPiece
from agent.pipeline.status import Status
from agent.system.text import MAX_TEXT_CHARACTERS
from agent.system.threads import Deadline

SECONDS = 20.0


@pytest.fixture
def inbox() -> queue.SimpleQueue[Event]:
    return queue.SimpleQueue()


@pytest.fixture
def path(tmp_path: Path, inbox: queue.SimpleQueue[Event]) -> Iterator[Path]:
    """Where a control frontend listens."""
    control = Frontend(tmp_path / "control.sock", inbox.put)
    control.open()
    control.tell(Status("ready to speak", "idle", (), 80))
    control.start()
    yield tmp_path / "control.sock"
    control.shut()
    control.stop()
    assert control.join(Deadline(SECONDS))


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Something else that listens there: it answers the first who comes and closes."""
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


def test_the_socket_of_the_configuration_is_tried_and_no_other() -> None:
    environ = {"RUNTIME_DIRECTORY": "/run/mine"}
    assert sockets("auto", environ) == (Path("/run/mine/control.sock"), Path("/run/voice-agent/control.sock"))
    assert sockets("none", environ) == ()
    assert sockets("/a/b", environ) == (Path("/a/b"),)


def test_the_first_daemon_that_answers_is_taken(path: Path, tmp_path: Path) -> None:
    with contextlib.closing(ControlClient.find((tmp_path / "nowhere", path))) as client:
        assert client.ask({"status": True})["status"] == "ready to speak"


def test_where_no_daemon_is_each_place_is_named_with_its_reason(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(DaemonUnreachable) as failed:
        ControlClient.find((tmp_path / "nowhere", tmp_path / "dead"))
    assert f"{tmp_path}/nowhere: there is no socket" in str(failed.value)
    assert f"{tmp_path}/dead: nobody listens any more" in str(failed.value)
    assert failed.value.exit_code == 69
    with pytest.raises(DaemonUnreachable, match="control.socket is none"):
        ControlClient.find(())


def test_a_refusal_is_raised_with_its_sentence(path: Path) -> None:
    with (
        contextlib.closing(ControlClient.find((path,))) as client,
        pytest.raises(ServiceError, match="volume is a whole number"),
    ):
        client.ask({"volume": 1000})


def test_who_is_refused_at_the_door_learns_why(path: Path) -> None:
    with contextlib.ExitStack() as inside:
        for _ in range(MOST_CALLERS):
            client = inside.enter_context(contextlib.closing(ControlClient.find((path,))))
            client.ask({"status": True})
        ninth = inside.enter_context(contextlib.closing(ControlClient.find((path,))))
        with pytest.raises(ServiceError, match="8 programs are connected already"):
            ninth.ask({"status": True})


@pytest.mark.parametrize(
    "text", ["x" * MAX_TEXT_CHARACTERS, "\u4e16" * MAX_TEXT_CHARACTERS, "\U0001f600 " * (MAX_TEXT_CHARACTERS // 2)]
)
def test_the_longest_text_arrives_whole_in_lines_that_are_not_too_long(
    path: Path, inbox: queue.SimpleQueue[Event], text: str
) -> None:
    with contextlib.closing(ControlClient.find((path,))) as client:
        client.say(text, priority=2)
        announced = inbox.get(timeout=SECONDS)
        assert isinstance(announced, Announce)
        assert (announced.utterance.text, announced.utterance.priority) == (None, 2)
        pieces = []
        while not isinstance(event := inbox.get(timeout=SECONDS), TextComplete):
            assert isinstance(event, TextPiece)
            pieces.append(event.text)
    assert "".join(pieces) == text


def test_a_short_text_is_one_line(path: Path, inbox: queue.SimpleQueue[Event]) -> None:
    with contextlib.closing(ControlClient.find((path,))) as client:
        client.say("hello")
        announced = inbox.get(timeout=SECONDS)
    assert isinstance(announced, Announce) and announced.utterance.text == "hello"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no daemon"),
        (b"x" * (LONGEST_LINE + 1), "does not end"),
        (b"[]\n", "no daemon"),
    ],
)
def test_what_answers_and_is_no_daemon_is_told_as_that(tmp_path: Path, answer: bytes, sentence: str) -> None:
    with (
        answering(tmp_path / "s", answer),
        contextlib.closing(ControlClient.find((tmp_path / "s",))) as client,
        pytest.raises(ServiceError, match=sentence),
    ):
        client.ask({"status": True})


def test_a_daemon_that_does_not_answer_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with (
            contextlib.closing(ControlClient.find((tmp_path / "s",))) as client,
            pytest.raises(ServiceError, match="does not answer"),
        ):
            client.receive(Deadline(0.1))


def test_leave_ends_a_receive_in_another_thread(path: Path) -> None:
    client = ControlClient.find((path,))
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: answers.put(client.receive(Deadline(None))))
    thread.start()
    client.leave()
    assert answers.get(timeout=SECONDS) is None
    thread.join(SECONDS)
    client.close()
