"""One client of a speech service: what it said before the end is spoken to its end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support import server_clients as clients
from websockets.sync.client import connect

from agent.server.listener import Listener
from agent.server.options import Options
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts import tone
from agent.server.tts_session import Speaking
from agent.server.wire_log import WireLog
from agent.system.threads import Deadline


@pytest.mark.parametrize("after", [0, 1], ids=["before its text was handed over", "before its end mark was"])
def test_what_has_come_when_the_end_begins_is_said_to_its_mark(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The end came between the two halves of a message, text and end mark: what had not been handed over yet to the
    thread that speaks was handed over behind the goodbye, and nobody heard it."""
    finish, put = Speaking.finish, Speaking._put
    handing, goodbye = threading.Event(), threading.Event()
    handed: list[Any] = []

    def last(session: Speaking) -> None:
        finish(session)
        goodbye.set()

    def held(session: Speaking, job: Any) -> None:
        if len(handed) == after:
            handing.set()
            goodbye.wait(0.5)  # it has to wait for this message, so this waits in vain
        handed.append(job)
        put(session, job)

    monkeypatch.setattr(Speaking, "finish", last)
    monkeypatch.setattr(Speaking, "_put", held)
    server = Listener(Options(port=0), tone.ToneEngine(), UnavailableRecognizer("no recogniser here"), WireLog(None))
    stopping = threading.Thread(target=server.stop, args=(Deadline(30.0), Deadline(60.0)))
    try:
        with connect(f"ws://127.0.0.1:{server.address[1]}/speak/en?sampling_rate=8000") as ws:
            ws.send("Good night. <STOP>")
            assert handing.wait(30)
            stopping.start()
            assert clients.neuphonic_passage(ws) == tone.pcm("Good night.", 8000)
            assert list(ws) == [] and ws.close_code == 1001
    finally:
        assert server.stop(Deadline(30.0), Deadline(60.0))
        if stopping.ident is not None:
            stopping.join()
