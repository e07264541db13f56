from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ServiceError
from agent.frontends.control.client import ControlClient, DaemonUnreachable, socket_paths
from agent.frontends.control.line_buffer import MAX_LINE_BYTES
from agent.frontends.control.server import MAX_ACTIVE_PEERS, ControlServer
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
    """The socket of a running control server."""
    control = ControlServer(tmp_path / "control.sock", inbox.put)
    control.open()
    control.notify(Status("ready to speak", "idle", (), 80))
    control.start()
    yield tmp_path / "control.sock"
    control.stop_accepting()
    control.stop()
    assert control.join(Deadline(SECONDS))


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


def test_socket_paths_follow_the_configuration() -> None:
    environ = {"RUNTIME_DIRECTORY": "/run/mine"}
    assert socket_paths("auto", environ) == ("/run/mine/control.sock", "/run/voice-agent/control.sock")
    assert socket_paths("none", environ) == ()
    assert socket_paths("/a/b", environ) == ("/a/b",)


def test_connect_takes_the_first_daemon_that_listens(path: Path, tmp_path: Path) -> None:
    with contextlib.closing(ControlClient.connect((tmp_path / "nowhere", path))) as client:
        assert client.request({"status": True})["status"] == "ready to speak"


def test_connect_reports_the_reason_for_each_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(DaemonUnreachable) as failed:
        ControlClient.connect((tmp_path / "nowhere", tmp_path / "dead"))
    assert f"{tmp_path}/nowhere: there is no socket" in str(failed.value)
    assert f"{tmp_path}/dead: no process listens any more" in str(failed.value)
    assert failed.value.exit_code == 69
    with pytest.raises(DaemonUnreachable, match="control.socket is none"):
        ControlClient.connect(())


def test_request_raises_a_refusal(path: Path) -> None:
    with (
        contextlib.closing(ControlClient.connect((path,))) as client,
        pytest.raises(ServiceError, match="volume is a whole number"),
    ):
        client.request({"volume": 1000})


def test_request_raises_the_reason_of_a_refused_connection(path: Path) -> None:
    with contextlib.ExitStack() as inside:
        for _ in range(MAX_ACTIVE_PEERS):
            client = inside.enter_context(contextlib.closing(ControlClient.connect((path,))))
            client.request({"status": True})
        ninth = inside.enter_context(contextlib.closing(ControlClient.connect((path,))))
        with pytest.raises(ServiceError, match="8 programs are already connected"):
            ninth.request({"status": True})


@pytest.mark.parametrize(
    "text", ["x" * MAX_TEXT_CHARACTERS, "\u4e16" * MAX_TEXT_CHARACTERS, "\U00010400 " * (MAX_TEXT_CHARACTERS // 2)]
)
def test_say_sends_the_longest_text_in_pieces(path: Path, inbox: queue.SimpleQueue[Event], text: str) -> None:
    with contextlib.closing(ControlClient.connect((path,))) as client:
        client.say(text, priority=2)
        announced = inbox.get(timeout=SECONDS)
        assert isinstance(announced, Announce)
        assert (announced.utterance.text, announced.utterance.priority) == (None, 2)
        pieces = []
        while not isinstance(event := inbox.get(timeout=SECONDS), TextComplete):
            assert isinstance(event, TextPiece)
            pieces.append(event.text)
    assert "".join(pieces) == text


def test_say_sends_a_short_text_in_one_line(path: Path, inbox: queue.SimpleQueue[Event]) -> None:
    with contextlib.closing(ControlClient.connect((path,))) as client:
        client.say("hello")
        announced = inbox.get(timeout=SECONDS)
    assert isinstance(announced, Announce) and announced.utterance.text == "hello"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no daemon"),
        (b"x" * (MAX_LINE_BYTES + 1), "does not end"),
        (b"[]\n", "no daemon"),
    ],
)
def test_request_reports_a_peer_that_is_no_daemon(tmp_path: Path, answer: bytes, sentence: str) -> None:
    with (
        answering(tmp_path / "s", answer),
        contextlib.closing(ControlClient.connect((tmp_path / "s",))) as client,
        pytest.raises(ServiceError, match=sentence),
    ):
        client.request({"status": True})


def test_receive_times_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with (
            contextlib.closing(ControlClient.connect((tmp_path / "s",))) as client,
            pytest.raises(ServiceError, match="does not answer"),
        ):
            client.receive(Deadline(0.1))


def test_shutdown_ends_receive_in_another_thread(path: Path) -> None:
    client = ControlClient.connect((path,))
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: answers.put(client.receive(Deadline(None))))
    thread.start()
    client.shutdown()
    assert answers.get(timeout=SECONDS) is None
    thread.join(SECONDS)
    client.close()
