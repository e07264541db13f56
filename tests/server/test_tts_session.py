"""Shutdown of a speech session while a message is being handled."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import msgpack
import pytest
from support import server_clients as clients
from websockets.sync.client import connect

from agent.server.encoders.encoder import EncodedStream
from agent.server.listener import Listener
from agent.server.options import ServerOptions
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts import tone
from agent.server.tts_session import TtsServerSession
from agent.server.wire_log import WireLog
from agent.system.threads import Deadline


@pytest.mark.parametrize("jobs_before", [0, 1], ids=["before the text is queued", "before the end mark is queued"])
def test_finish_speaks_a_message_that_is_being_handled(monkeypatch: pytest.MonkeyPatch, jobs_before: int) -> None:
    """finish() waits for the message: text and end mark are both queued before the close."""
    finish, put = TtsServerSession.finish, TtsServerSession._put
    is_queueing, is_finished = threading.Event(), threading.Event()
    queued: list[Any] = []

    def observed_finish(session: TtsServerSession) -> None:
        finish(session)
        is_finished.set()

    def delayed_put(session: TtsServerSession, job: Any) -> None:
        if len(queued) == jobs_before:
            is_queueing.set()
            is_finished.wait(0.5)  # times out, because finish() waits for this message
        queued.append(job)
        put(session, job)

    monkeypatch.setattr(TtsServerSession, "finish", observed_finish)
    monkeypatch.setattr(TtsServerSession, "_put", delayed_put)
    options = ServerOptions(port=0)
    listener = Listener(options, tone.ToneEngine(), UnavailableRecognizer("no recognizer in this test"), WireLog(None))
    stopping = threading.Thread(target=listener.stop, args=(Deadline(30.0), Deadline(60.0)))
    try:
        with connect(f"ws://127.0.0.1:{listener.address[1]}/speak/en?sampling_rate=8000") as ws:
            ws.send("Good night. <STOP>")
            assert is_queueing.wait(30)
            stopping.start()
            assert clients.neuphonic_passage(ws) == tone.pcm("Good night.", 8000)
            assert list(ws) == [] and ws.close_code == 1001
    finally:
        assert listener.stop(Deadline(30.0), Deadline(60.0))
        if stopping.ident is not None:
            stopping.join()


@pytest.mark.parametrize("audio_format", ["mp3", "opus"])
def test_disconnect_during_the_audio_releases_the_encoder(monkeypatch: pytest.MonkeyPatch, audio_format: str) -> None:
    """The libraries of both formats allocate memory of their own, 330 KB for each stream of mp3."""
    streams: list[EncodedStream] = []
    create = EncodedStream.__init__

    def noted_create(stream: EncodedStream, *args: Any) -> None:
        streams.append(stream)
        create(stream, *args)

    monkeypatch.setattr(EncodedStream, "__init__", noted_create)
    options, recognizer = ServerOptions(port=0, pace=1.0), UnavailableRecognizer("no recognizer in this test")
    listener = Listener(options, tone.ToneEngine(), recognizer, WireLog(None))
    try:
        with connect(f"ws://127.0.0.1:{listener.address[1]}/v1/tts/live") as ws:
            clients.fish_request(ws, "word " * 1000, format=audio_format)
            assert msgpack.unpackb(ws.recv(timeout=30))["event"] == "audio"
    finally:
        assert listener.stop(Deadline(30.0), Deadline(60.0))
    (stream,) = streams
    assert stream.feed(bytes(2 * 48000), 48000) == []  # a released encoder returns nothing


def test_run_time_of_text_without_the_end_of_a_sentence_is_linear() -> None:
    options, recognizer = ServerOptions(port=0), UnavailableRecognizer("no recognizer in this test")
    listener = Listener(options, tone.ToneEngine(), recognizer, WireLog(None))
    try:
        quarter, whole = (_cost_of_messages(listener, count) for count in (500, 2000))
    finally:
        assert listener.stop(Deadline(30.0), Deadline(60.0))
    assert whole < 8 * quarter + 0.5


def _cost_of_messages(listener: Listener, count: int) -> float:
    """Return the CPU seconds of this process for ``count`` messages whose text is never spoken."""
    with connect(f"ws://127.0.0.1:{listener.address[1]}/speak/en?sampling_rate=8000") as ws:
        began = time.process_time()
        for _ in range(count):
            ws.send(json.dumps({"text": "word " * 80, "context_id": "abandoned"}))
        ws.send(json.dumps({"text": "<STOP>", "context_id": "next"}))
        assert clients.neuphonic_passage(ws) == b""
        return time.process_time() - began
