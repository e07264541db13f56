"""Transcription sessions: scripted transcripts, the end of a session, and its export."""

from __future__ import annotations

import contextlib
import io
import json
import select
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.local_server import LocalServerProcess
from websockets.sync.client import ClientConnection, connect

from agent.server.listener import Listener
from agent.server.options import ServerOptions
from agent.server.recognition_load import ClientLoad, RecognitionLoad
from agent.server.stt.engine import SttEngine
from agent.server.tts.tone import ToneEngine
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Transcript
from agent.services.protocols.transcription import NO_WORKER
from agent.system.threads import Deadline

SECOND = 32000
SCRIPT = "Good morning all.\nHow are you?\n\nThe second session.\n"


def _server(directory: Path, *arguments: str, script: str = SCRIPT) -> LocalServerProcess:
    path = directory / "script.txt"
    path.write_text(script, encoding="utf-8")
    return LocalServerProcess(
        directory, "--speech", "tone", "--recognition", "script", "--script", str(path), *arguments
    )


def _sound(seconds: float, seed: int = 1) -> bytes:
    return bytes((i * seed) % 251 for i in range(int(SECOND * seconds)))


def _send(ws: ClientConnection, pcm: bytes, frame: int = 3200) -> None:
    for at in range(0, len(pcm), frame):
        ws.send(pcm[at : at + frame])


def _session(server: LocalServerProcess, pcm: bytes, frame: int = 3200) -> tuple[list[Any], str, int | None]:
    """Return the messages before the export ID, the ID, and the close code."""
    with connect(f"{server.ws}/") as ws:
        _send(ws, pcm, frame)
        ws.send("eof")
        *messages, export_id = list(ws)
        return [json.loads(message) for message in messages], str(export_id), ws.close_code


def _get(server: LocalServerProcess, path: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(server.http + path, headers=headers), timeout=20) as answer:
        return bytes(answer.read())


def _rejection(server: LocalServerProcess, path: str, **headers: str) -> tuple[int, bytes]:
    with pytest.raises(urllib.error.HTTPError) as rejection:
        _get(server, path, **headers)
    return rejection.value.code, rejection.value.read()


def test_partials_grow_by_words_until_the_final(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        messages, _, _ = _session(server, _sound(3))
    assert messages[:4] == [
        {"partial": " Good"},
        {"partial": " Good morning"},
        {"partial": " Good morning all."},
        {
            "result": [
                {"conf": 1.0, "start": 0.0, "end": 0.3, "word": "Good"},
                {"conf": 1.0, "start": 0.3, "end": 0.6, "word": "morning"},
                {"conf": 1.0, "start": 0.6, "end": 0.9, "word": "all."},
            ],
            "text": " Good morning all.",
        },
    ]
    assert [message["text"] for message in messages if "text" in message] == [" Good morning all.", " How are you?"]


@pytest.mark.parametrize("frame", [1600, 8000, 96000])
def test_a_client_of_vosk_server_gets_one_answer_for_each_audio_message(tmp_path: Path, frame: int) -> None:
    """vosk-server's own client sends a message and then receives one."""
    with _server(tmp_path) as server, connect(f"{server.ws}/") as ws:
        ws.send(json.dumps({"config": {"sample_rate": 16000}}))
        pcm = _sound(3)
        answers = []
        for at in range(0, len(pcm), frame):
            ws.send(pcm[at : at + frame])
            answers.append(json.loads(ws.recv(timeout=20)))
        ws.send('{"eof" : 1}')
        rest = list(ws)
    finals = [answer["text"] for answer in answers if "text" in answer]
    if frame == 96000:
        assert finals == [" Good morning all. How are you?"]
        assert [word["word"] for word in answers[0]["result"]] == ["Good", "morning", "all.", "How", "are", "you?"]
    else:
        assert answers[0] == {"partial": ""}
        assert finals == [" Good morning all.", " How are you?"]
    final, export_id = rest
    assert json.loads(final)["text"] == "" and len(str(export_id)) == 32


@pytest.mark.parametrize("frame", [1601, 7999])
def test_a_client_of_vosk_server_may_send_empty_messages_and_parts_of_samples(tmp_path: Path, frame: int) -> None:
    with _server(tmp_path) as server:
        with connect(f"{server.ws}/") as ws:
            ws.send(json.dumps({"config": {"sample_rate": 16000}}))
            pcm = _sound(1) + b"\0"
            for piece in [b"", *(pcm[at : at + frame] for at in range(0, len(pcm), frame)), b""]:
                ws.send(piece)
                assert json.loads(ws.recv(timeout=20)).keys() & {"partial", "text"}
            ws.send('{"eof" : 1}')
            _, export_id = ws
        assert _get(server, f"/export/audio/{export_id}")[44:] == pcm[:-1]


@pytest.mark.parametrize("frame", [3200, 16000, 32000])
def test_eof_returns_the_last_final_the_export_id_and_close_1000(tmp_path: Path, frame: int) -> None:
    with _server(tmp_path) as server:
        messages, export_id, code = _session(server, _sound(0.7), frame)
    assert [message["text"] for message in messages if "text" in message] == [" Good morning all.", " How are you?"]
    assert len(export_id) == 32
    assert set(export_id) <= set("0123456789abcdef")
    assert code == 1000


def test_an_export_has_the_audio_and_finals_of_its_session_only(tmp_path: Path) -> None:
    with _server(tmp_path, "--api-key-transcription", "secret-key") as server:
        sessions = []
        for number in (1, 2):
            with connect(f"{server.ws}/") as ws:
                ws.send(json.dumps({"Authorization": "secret-key"}))
                pcm = _sound(1.5, number)
                _send(ws, pcm)
                ws.send("eof")
                sessions.append((pcm, str(list(ws)[-1])))
        for (pcm, export_id), texts in zip(
            sessions, [[" Good morning all.", " How are you?"], [" The second session."]], strict=True
        ):
            with wave.open(io.BytesIO(_get(server, f"/export/audio/{export_id}", key="secret-key"))) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
                assert file.readframes(file.getnframes()) == pcm
            found = json.loads(_get(server, f"/export/transcript/{export_id}", Authorization="secret-key"))
            assert [final["text"] for final in found] == texts
        export_id = sessions[0][1]
        assert _rejection(server, f"/export/audio/{export_id}") == (401, b'"Unauthorized"')
        assert _rejection(server, f"/export/transcript/{export_id}", key="wrong") == (401, b'"Unauthorized"')
        assert _rejection(server, f"/export/transcript/{export_id}", Authorization="wrong") == (
            401, b'{"detail": "Unauthorized"}',
        )  # fmt: skip
        assert "secret-key" not in server.wire_path.read_text() + server.log()


@pytest.mark.parametrize(
    ("rates", "size"),
    [((8000,), SECOND), ((48000,), SECOND), ((8000, 24000), 2 * SECOND), ((8000, 16000, 44100), 3 * SECOND)],
)
def test_an_export_has_every_sample_of_each_sample_rate(tmp_path: Path, rates: tuple[int, ...], size: int) -> None:
    with _server(tmp_path) as server:
        with connect(f"{server.ws}/") as ws:
            for rate in rates:
                ws.send(json.dumps({"config": {"sample_rate": rate}}))
                _send(ws, bytes(2 * rate))  # one second
            ws.send("eof")
            export_id = str(list(ws)[-1])
        assert len(_get(server, f"/export/audio/{export_id}")) == 44 + size


def test_a_missing_export_gets_the_errors_of_the_service(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        with connect(f"{server.ws}/") as ws:
            ws.send("eof")
            (export_id,) = list(ws)
        assert _rejection(server, f"/export/transcript/{export_id}") == (404, b"Transcription ID not found")
        assert _rejection(server, f"/export/audio/{'0' * 32}") == (404, b'{"error": "File not found"}')
        assert json.loads(_get(server, "/health")) == {"status": "ok"}


def test_an_export_is_complete_for_a_client_that_reads_slowly(tmp_path: Path) -> None:
    pcm = bytes(200 * SECOND)  # more than the buffers of the kernel hold
    with _server(tmp_path) as server:
        _, export_id, _ = _session(server, pcm, SECOND)
        with socket.create_connection((server.host, server.port), 30) as client:
            client.sendall(f"GET /export/audio/{export_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            waiting = select.poll()
            waiting.register(client, select.POLLRDHUP)
            assert waiting.poll(2500) == []  # the server does not close while the client reads nothing
            answer = bytearray()
            while more := client.recv(1 << 20):
                answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and len(body) == 44 + len(pcm)


def test_an_unknown_control_message_is_answered_and_the_session_continues(tmp_path: Path) -> None:
    with _server(tmp_path) as server, connect(f"{server.ws}/") as ws:
        ws.send("hello?")
        assert ws.recv(timeout=20) == "control message unknown"
        ws.send(_sound(0.4))
        assert json.loads(ws.recv(timeout=20)) == {"partial": " Good"}


def test_an_odd_number_of_bytes_closes_without_an_export_id(tmp_path: Path) -> None:
    with _server(tmp_path) as server, connect(f"{server.ws}/") as ws:
        ws.send(b"odd")
        assert list(ws) == []
        assert ws.close_code == 1000


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        ('{"Authorization": "wrong"}', "Provided api key is invalid"),
        ("{", "Initial websocket message contained invalid json"),
        (b"\0\0", "Initial message was not text and therefore did not match the expected auth format"),
    ],
)
def test_a_missing_key_is_answered_and_closed(tmp_path: Path, first: Any, answer: str) -> None:
    with _server(tmp_path, "--api-key", "secret-key") as server, connect(f"{server.ws}/") as ws:
        ws.send(first)
        assert list(ws) == [answer]
        assert ws.close_code == 1000


def test_a_client_that_disconnects_leaves_no_export(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        with connect(f"{server.ws}/") as ws:
            ws.send(_sound(0.5))
            assert json.loads(ws.recv(timeout=20)) == {"partial": " Good"}
            ws.socket.close()
        messages, _, code = _session(server, _sound(1))
        assert messages[-1]["text"] == " The second session."
        assert code == 1000


def test_concurrent_sessions_record_every_byte_in_order(tmp_path: Path) -> None:
    results: dict[int, bytes] = {}
    with _server(tmp_path, script="One two three.") as server:

        def talk(number: int) -> None:
            _, export_id, _ = _session(server, _sound(2, number + 1))
            results[number] = _get(server, f"/export/audio/{export_id}")[44:]

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert results == {number: _sound(2, number + 1) for number in range(6)}


def test_a_json_script_sets_words_and_times(tmp_path: Path) -> None:
    script = json.dumps(
        [{"words": [{"word": "Ja.", "start": 0.1, "end": 0.4, "conf": 0.5}], "at": 0.5}, {"text": "Und nein"}]
    )
    with _server(tmp_path, script=script) as server:
        messages, _, _ = _session(server, _sound(2))
    assert messages[1] == {"result": [{"conf": 0.5, "start": 0.1, "end": 0.4, "word": "Ja."}], "text": " Ja."}
    assert messages[-1]["result"] == [
        {"conf": 1.0, "start": 0.5, "end": 0.8, "word": "Und"},
        {"conf": 1.0, "start": 0.8, "end": 1.1, "word": "nein"},
    ]


@pytest.mark.parametrize("arguments", [("--model-path", "/nowhere"), ()])
def test_vosk_without_a_model_exits_with_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.server", "--port", "0", "--recognition", "vosk", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "--model-path" in done.stderr


class SlowEngine:
    """Takes twice as long as the audio of a client lasts, until it is released."""

    name = "slow"

    def __init__(self) -> None:
        self.released = threading.Event()

    def prepare(self) -> None:
        return

    def open(self) -> SlowStream:
        return SlowStream(self.released)


class SlowStream:
    def __init__(self, released: threading.Event) -> None:
        self._released = released

    def feed(self, pcm: bytes) -> list[Transcript]:
        self._released.wait(2 * len(pcm) / SECOND)
        return [Transcript("heard", is_final=False)]

    def early_final(self) -> list[Transcript]:
        return []

    def finish(self) -> list[Transcript]:
        return [Transcript("heard", is_final=True)]

    def close(self) -> None:
        return


class AdmissionLog(RecognitionLoad):
    """Sets an event when a client leaves."""

    def __init__(self) -> None:
        super().__init__(1)
        self.has_left = threading.Event()

    def leave(self, client: ClientLoad) -> None:
        super().leave(client)
        self.has_left.set()


@contextlib.contextmanager
def listening(engine: SttEngine, load: RecognitionLoad, wire_log: Path | None = None) -> Iterator[str]:
    log = WireLog(str(wire_log) if wire_log else None)
    listener = Listener(ServerOptions(port=0), ToneEngine(), engine, log, load=load)
    try:
        yield f"ws://127.0.0.1:{listener.address[1]}/"
    finally:
        assert listener.stop(Deadline(30.0), Deadline(60.0))


def test_a_session_that_cannot_be_recorded_is_transcribed_without_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    engine, load = SlowEngine(), AdmissionLog()
    engine.released.set()
    with listening(engine, load) as url, connect(url) as ws:
        ws.send(_sound(0.1))
        assert json.loads(ws.recv(timeout=60)) == {"partial": " heard"}
        ws.send("eof")
        final, export_id = ws
        assert json.loads(final)["text"] == " heard" and len(export_id) == 32
        assert ws.close_code == 1000
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url.replace('ws', 'http')}export/transcript/{export_id}", timeout=60)
        assert load.has_left.wait(60)


def test_a_client_whose_stream_cannot_be_closed_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: SlowStream) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SlowStream, "close", fail)
    engine, load = SlowEngine(), AdmissionLog()
    engine.released.set()
    with listening(engine, load) as url, connect(url) as ws:
        ws.send(_sound(0.1))
        ws.recv(timeout=60)
        ws.close()
        assert load.has_left.wait(60)


def test_an_eof_before_a_close_is_read_although_the_server_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear_nothing(stream: SlowStream, pcm: bytes) -> list[Transcript]:
        assert engine.released.wait(60)
        return []

    monkeypatch.setattr(SlowStream, "feed", hear_nothing)
    engine, load, path = SlowEngine(), AdmissionLog(), tmp_path / "wire.log"
    with listening(engine, load, path) as url:
        with connect(url) as ws:
            ws.send(_sound(0.6))
            ws.send("eof")
        engine.released.set()
        assert load.has_left.wait(60)
    received = [json.loads(line) for line in path.read_text().splitlines()]
    assert any(each.get("summary") == "eof" and each["direction"] == "in" for each in received)


@pytest.fixture
def slow_server() -> Iterator[tuple[SlowEngine, Listener]]:
    engine = SlowEngine()
    listener = Listener(ServerOptions(port=0), ToneEngine(), engine, WireLog(None))
    try:
        yield engine, listener
    finally:
        engine.released.set()
        assert listener.stop(Deadline(30.0), Deadline(60.0))


@contextlib.contextmanager
def busy_pair(listener: Listener) -> Iterator[tuple[ClientConnection, ClientConnection]]:
    """Two clients: the first one occupies the engine, and the second one was told to wait."""
    url = f"ws://127.0.0.1:{listener.address[1]}/"
    with connect(url) as first, connect(url) as second:
        for _ in range(3):
            first.send(_sound(0.6))
        for _ in range(2):
            assert json.loads(first.recv(timeout=60)) == {"partial": " heard"}
        second.send(_sound(0.1))
        assert second.recv(timeout=60) == NO_WORKER
        yield first, second


def test_a_client_beyond_real_time_gets_busy_and_then_its_turn(slow_server: tuple[SlowEngine, Listener]) -> None:
    engine, listener = slow_server
    with busy_pair(listener) as (first, second):
        engine.released.set()
        first.send("eof")
        assert json.loads(list(first)[-2])["text"] == " heard"
        assert json.loads(second.recv(timeout=60)) == {"partial": " heard"}
        second.send("eof")
        assert json.loads(list(second)[-2])["text"] == " heard"


def test_a_waiting_client_gets_its_pongs_and_then_all_its_transcripts(slow_server: tuple[SlowEngine, Listener]) -> None:
    engine, listener = slow_server
    with busy_pair(listener) as (first, second):
        for _ in range(100):
            second.send(_sound(0.1))
        assert second.ping().wait(20)
        engine.released.set()
        first.send("eof")
        list(first)
        second.send("eof")
        *_, final, export_id = second
    assert json.loads(final)["text"] == " heard"
    with urllib.request.urlopen(
        f"http://127.0.0.1:{listener.address[1]}/export/audio/{export_id}", timeout=20
    ) as answer:
        assert answer.read()[44:] == _sound(0.1) * 101


def test_a_client_gets_its_pongs_while_the_server_catches_up(slow_server: tuple[SlowEngine, Listener]) -> None:
    _, listener = slow_server
    with busy_pair(listener) as (first, second):
        for _ in range(60):
            second.send(_sound(0.1))
        assert second.ping().wait(20)  # the server holds all of them
        first.close()
        second.recv(timeout=60)
        for _ in range(40):
            second.send(_sound(0.1))
        assert _gets_pong(second, 50), "only after the messages that the server held"


def test_a_client_that_sends_a_file_at_once_gets_its_pongs(slow_server: tuple[SlowEngine, Listener]) -> None:
    with connect(f"ws://127.0.0.1:{slow_server[1].address[1]}/") as ws:
        for _ in range(100):
            ws.send(_sound(0.1))
        assert _gets_pong(ws, 50), "only after almost all of the file"


def _gets_pong(ws: ClientConnection, transcripts: int) -> bool:
    """Return whether the answer to a ping arrives before that many transcripts."""
    pong = ws.ping()
    for _ in range(transcripts):
        ws.recv(timeout=60)
        if pong.is_set():
            return True
    return False


def test_a_waiting_client_ends_with_the_server(slow_server: tuple[SlowEngine, Listener]) -> None:
    engine, listener = slow_server
    with busy_pair(listener) as (_, second):
        engine.released.set()
        assert listener.stop(Deadline(30.0), Deadline(60.0))
        list(second)
        assert second.close_code == 1001
