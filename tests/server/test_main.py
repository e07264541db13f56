"""The server process: start, signals and shutdown."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from support import server_clients as clients
from support.local_server import LocalServerProcess
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from agent.server.main import serve, stop_listeners
from agent.server.options import ServerOptions
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts import tone
from agent.system.threads import Deadline

TEXT = "one two three four five six"
PACED = ("--speech", "tone", "--recognition", "none", "--pace", "1", "--finish-seconds", "30")


def _neuphonic(ws: ClientConnection) -> None:
    ws.send(json.dumps({"text": f"{TEXT} <STOP>"}))


def _playai(ws: ClientConnection) -> None:
    ws.send(json.dumps({"text": TEXT, "voice": "x", "output_format": "raw", "sample_rate": 8000}))
    ws.recv(timeout=20)


def _vachana(ws: ClientConnection) -> None:
    config = {"sample_rate": 8000, "num_channels": 1, "sample_width": 2, "encoding": "linear_pcm", "container": "raw"}
    ws.send(json.dumps({"text": TEXT, "voice": "Sia", "model": "m", "audio_config": config}))
    ws.recv(timeout=20)


def _fish(ws: ClientConnection) -> None:
    ws.send(msgpack.packb({"event": "start", "request": {"text": TEXT, "format": "pcm", "sample_rate": 8000}}))
    ws.send(msgpack.packb({"event": "flush"}))


def _decode(message: str | bytes, service: str) -> tuple[bytes, str]:
    """Return the audio and the end mark, if any, of one message."""
    if service == "playai":
        return (message, "") if isinstance(message, bytes) else (b"", str(json.loads(message)["type"]))
    if service == "fish":
        assert isinstance(message, bytes)
        found = msgpack.unpackb(message)
        return found.get("audio", b""), found.get("reason", "")
    found = json.loads(message)
    if service == "vachana":
        return base64.b64decode((found["data"] or {}).get("audio", "")), found["type"].removesuffix("audio")
    return base64.b64decode(found["data"]["audio"]), "stop" if found["data"]["stop"] else ""


@pytest.mark.parametrize(
    ("service", "path", "start", "mark"),
    [
        ("neuphonic", "/speak/en?sampling_rate=8000", _neuphonic, "stop"),
        ("playai", "", _playai, "end"),
        ("vachana", "/api/v1/tts", _vachana, "complete"),
        ("fish", "/v1/tts/live", _fish, "stop"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_running_synthesis_finish(
    tmp_path: Path, service: str, path: str, start: Callable[[ClientConnection], None], mark: str, number: int
) -> None:
    with (
        LocalServerProcess(tmp_path, *PACED) as server,
        connect(server.ws + path if path else clients.playai_url(server)) as ws,
    ):
        start(ws)
        sound, seen = _decode(ws.recv(timeout=20), service)
        assert not seen
        server.process.send_signal(number)
        try:
            for message in ws:
                more, seen = _decode(message, service)
                sound += more
        except ConnectionClosed as error:
            raise AssertionError(f"the server closed abnormally: {error}") from error
        assert seen == mark
        assert sound == tone.pcm(TEXT, 8000)
        assert ws.close_code == 1001
        assert server.process.wait(20) == 0


def test_a_session_is_aborted_after_finish_seconds(tmp_path: Path) -> None:
    with LocalServerProcess(tmp_path, *PACED[:-1], "0.3") as server:
        with connect(f"{server.ws}/speak/en?sampling_rate=8000") as ws:
            ws.send(json.dumps({"text": "word " * 500 + "<STOP>"}))
            ws.recv(timeout=20)
            limit = Deadline(25.0)  # a quarter of the duration of the text
            assert server.stop() == 0
            assert not limit.is_expired
        assert "sessions aborted" in server.log()


def test_journal_lines_have_level_and_component_but_no_timestamp(tmp_path: Path) -> None:
    # Replaces systemd-python by an empty package, as on a machine without it.
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "__init__.py").write_text("")
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as journal:
        facts = os.fstat(writer)
        environ = {**os.environ, "JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}", "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-m", "agent.server", "--port=0", "--speech=tone", "--recognition=none"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, env=environ, text=True) as process:
            os.close(writer)
            assert process.stdout is not None
            with connect(f"ws://{process.stdout.readline().split()[-1]}/api/v1/tts") as ws:
                ws.send("this is no JSON")
                ws.recv(timeout=20)
            process.terminate()
            assert process.wait(20) == 0
        lines = journal.read().splitlines()
    assert "<6>speech server: client connected, service=vachana, client=1" in lines
    rejected = "<4>speech server: message rejected, service=vachana, client=1, received="
    assert any(line.startswith(rejected) for line in lines), lines
    assert "<6>speech server: stopping, reason=SIGTERM" in lines


def test_a_second_signal_exits_immediately(tmp_path: Path) -> None:
    with (
        LocalServerProcess(tmp_path, *PACED[:-1], "60") as server,
        connect(f"{server.ws}/speak/en?sampling_rate=8000") as ws,
        connect(f"{server.ws}/speak/en") as idle,
    ):
        ws.send(json.dumps({"text": "word " * 500 + "<STOP>"}))
        ws.recv(timeout=20)
        server.process.send_signal(signal.SIGTERM)
        assert list(idle) == []  # closed, so the first signal has been handled
        assert server.stop() != 0


def test_idle_and_half_open_clients_do_not_delay_shutdown(tmp_path: Path) -> None:
    with LocalServerProcess(tmp_path, "--speech", "tone", "--recognition", "none") as server:
        half = socket.create_connection((server.host, server.port))
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        silent = socket.create_connection((server.host, server.port))
        with connect(f"{server.ws}/speak/en") as idle, connect(f"{server.ws}/") as listening:
            listening.send(b"")
            server.process.send_signal(signal.SIGTERM)
            assert list(idle) == []
            assert idle.close_code == 1001
            assert server.process.wait(20) == 0
        half.close()
        silent.close()


def test_sigterm_sends_the_last_final_and_the_export_id(tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("Good morning everybody.")
    with LocalServerProcess(tmp_path, "--recognition", "script", "--script", str(script)) as server:
        with connect(f"{server.ws}/") as ws:
            ws.send(bytes(3200 * 4))
            assert json.loads(ws.recv(timeout=20)) == {"partial": " Good"}
            server.process.send_signal(signal.SIGTERM)
            final, export_id = list(ws)
            assert json.loads(final)["text"] == " Good morning everybody."
            assert len(str(export_id)) == 32
            assert ws.close_code == 1001
        assert server.process.wait(20) == 0


def test_sigterm_while_a_model_loads_exits_cleanly(tmp_path: Path) -> None:
    """The C++ code of a loading model must not crash or print during the shutdown of the interpreter."""
    for _ in range(3):
        with LocalServerProcess(tmp_path, "--recognition", "moonshine") as server:
            maps = Path(f"/proc/{server.process.pid}/maps")
            assert any("libonnxruntime" in maps.read_text() for _ in range(100_000)), "the model was not loaded"
            assert server.stop() == 0
            assert server.process.stderr is not None and server.process.stderr.read() == ""


def test_with_parent_exits_at_the_end_of_stdin(tmp_path: Path) -> None:
    with LocalServerProcess(tmp_path, "--with-parent", "--recognition", "none", stdin=subprocess.PIPE) as server:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--recognition", "script"), 2, "name it with"),
        (("--recognition", "script", "--script", "/nowhere.txt"), 2, "cannot be read"),
        (("--port", "70000"), 2, "a number from 0 to 65535"),
        (("--host", "192.0.2.1"), 78, "choose another server.host"),
        (("--wire-log", "/nowhere/log"), 2, "cannot be written"),
        (("--speech", "nothing"), 2, "invalid choice"),
    ],
)
def test_a_usage_error_prints_its_reason(arguments: tuple[str, ...], code: int, reason: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "agent.server", "--port", "0", *arguments], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == code
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_exits_with_78(tmp_path: Path) -> None:
    with LocalServerProcess(tmp_path, "--recognition", "none") as server:
        ended = subprocess.run(
            [sys.executable, "-m", "agent.server", "--port", str(server.port)],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert ended.returncode == 78
    assert f"cannot listen on 127.0.0.1:{server.port} (Address already in use by process " in ended.stderr
    assert "agent.server" in ended.stderr and "choose another server.host" in ended.stderr


def test_the_wire_log_names_the_decoded_events_in_order(tmp_path: Path) -> None:
    with LocalServerProcess(tmp_path, "--speech", "tone", "--recognition", "none") as server:
        clients.neuphonic(server, "One. <STOP>", "Two. <STOP>")
        clients.fish(server, "One.", format="pcm")
        assert server.stop() == 0
        assert server.event_names("in", "neuphonic") == ["Text", "Flush", "Text", "Flush"]
        assert server.event_names("in", "fish") == ["Text", "End"]
        assert [line["summary"] for line in server.wire() if line["direction"] == "in" and line["kind"] == "text"] == [
            '{"text": "One. <STOP>"}',
            '{"text": "Two. <STOP>"}',
        ]
        stop = [line for line in server.wire() if line.get("events") == ["End"] and line["direction"] == "in"]
        assert stop[0]["length"] == len(msgpack.packb({"event": "stop"}))


def test_a_parent_that_dies_during_the_start_ends_the_server() -> None:
    """Printing the address fails with EPIPE; the acceptor thread must not keep the process."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "agent.server", "--with-parent", "--port", "0"]
    command += ["--speech", "tone", "--recognition", "none"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        try:
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 2 and "has ended" in errors and "Traceback" not in errors


def test_a_failed_start_withdraws_the_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    withdrawn = []

    class Announcement:
        def withdraw(self) -> None:
            withdrawn.append(self)

    class Engine(UnavailableRecognizer):
        def prepare(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("agent.server.main.set_up_logging", lambda *arguments: None)
    monkeypatch.setattr("agent.server.announcement.announce", lambda *address: Announcement())
    monkeypatch.setattr("agent.server.stt.registry.create", lambda name, options: Engine(""))
    with pytest.raises(RuntimeError):
        serve(ServerOptions(port=0, wyoming=0, speech="tone", log=os.devnull))
    assert len(withdrawn) == 1


class _Ends:
    """A listener whose threads have ended, or have not."""

    def __init__(self, has_ended: bool) -> None:
        self._has_ended = has_ended

    def stop(self, finish: Deadline, abort: Deadline) -> bool:
        return self._has_ended


@pytest.mark.parametrize("results", [(), (True,), (False,), (True, True), (True, False), (False, True)])
def test_listeners_have_ended_if_each_of_them_has(results: tuple[bool, ...]) -> None:
    assert stop_listeners([_Ends(result) for result in results], 0.0) is all(results)  # type: ignore[misc]
