"""Rows 16, 22, 34 to 37 and 55 for transcription: frames are sent again, gaps are reported, finals are kept."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.fault_rows import Record
from support.proxy import Proxy
from support.scripted import Peer, Scripted
from support.stt_pipeline import Sessions, SttPipeline, audio_messages, serve_transcription
from support.transcriber import ANSWERS_LATE

from agent.pipeline.events import Heard, Partial
from agent.system.threads import Deadline

TURN_FRAMES = 7  # of a turn of three loud frames, with its pause


SHORT_TIMEOUTS = {"ping_seconds": 0.5, "pong_seconds": 5.0, "stall_seconds": 5.0}
"""Short, but long enough for a healthy service on a busy machine."""


def test_row_16_frames_sent_into_a_black_hole_are_sent_again(record_row: Record) -> None:
    """All frames without a final are sent again on the next connection, in order."""
    sessions = Sessions()
    with (
        Scripted(serve_transcription(sessions, "all of it")) as server,
        Proxy(server.port) as proxy,
        SttPipeline(proxy.port, connection=SHORT_TIMEOUTS) as pipeline,
    ):
        numbers = pipeline.say(10)
        sessions.await_frames(5)
        proxy.up.black_hole = proxy.down.black_hole = True
        numbers += pipeline.say(10)
        began = time.monotonic()
        pipeline.inbox.until(lambda: bool(pipeline.downs))
        took = time.monotonic() - began
        proxy.up.black_hole = proxy.down.black_hole = False
        proxy.cut()
        numbers += pipeline.say(10) + pipeline.say(4, loud=False)
        (heard,) = pipeline.heard(1)
        assert heard.text == "all of it" and pipeline.gaps == []
    assert all(session.eofs == 1 for session in sessions.ended)
    sent = len(sessions.ended[-1].frames)
    assert sessions.ended[-1].frames == numbers[:sent] and sent >= 30
    record_row(16, f"noticed after {took:.2f} s (5.5 s here, 40 s as shipped), {sent} frames sent in order")


def test_row_22_frames_for_a_blocked_peer_go_to_the_next_connection(record_row: Record) -> None:
    sessions = Sessions()
    stopped_reading = threading.Event()

    def deaf(peer: Peer) -> None:
        peer.accept()
        stopped_reading.set()
        peer.wait()

    with (
        Scripted(deaf, serve_transcription(sessions, "all of it"), receive_bytes=4096) as server,
        SttPipeline(server.port, outage_seconds=60, connection=SHORT_TIMEOUTS) as pipeline,
    ):
        assert stopped_reading.wait(10)
        numbers = pipeline.turn(200)
        (heard,) = pipeline.heard(1)
        assert heard.text == "all of it" and pipeline.gaps == []
        sent = sessions.ended[-1]
        assert sent.frames == numbers[: len(sent.frames)] and len(sent.frames) >= 200
    record_row(22, f"{len(sent.frames)} frames to the next connection, in order, none lost")


def test_an_outage_keeps_the_newest_frames_and_reports_the_gap(record_row: Record) -> None:
    """50 frames while 2 s are kept: captured frames are sent or in a gap with its start and length."""
    sessions = Sessions()
    up = threading.Event()
    sessions_script = serve_transcription(sessions, "the rest")

    def script(peer: Peer) -> None:
        if not up.is_set():
            peer.answer("503 Service Unavailable")
            return
        sessions_script(peer)

    with Scripted(script) as server, SttPipeline(server.port, outage_seconds=2.0) as pipeline:
        pipeline.inbox.until(lambda: bool(pipeline.downs))
        pipeline.say(10, loud=False)
        numbers = pipeline.say(50) + pipeline.say(2, loud=False)
        up.set()
        sessions.await_frames(1)
        pipeline.say(4, loud=False)
        pipeline.heard(1)
        frames = sessions.ended[-1].frames
        gaps = pipeline.gaps
        lost = sum(gap.seconds for gap in gaps)
        # The turn began 0.2 s before frame 11, which is 1.0 s after the microphone was opened.
        assert frames == list(range(frames[0], frames[0] + len(frames)))
        assert len(frames) + round(lost * 10) == 2 + len(numbers) + 1, (frames, gaps)
        assert gaps and abs(gaps[0].start_seconds - 0.8) < 1e-6
        assert abs(gaps[0].start_seconds + lost - (frames[0] - 1) * 0.1) < 1e-6
    kept, dropped = len(frames), round(lost * 10)
    record_row(16, f"outage: 55 frames = {kept} sent + {dropped} dropped from {gaps[0].start_seconds:.1f} s on")


@pytest.mark.parametrize("end", ["late", "never", "restart", "1006 after the final"])
def test_row_35_finals_are_kept_if_eof_is_answered_late_or_never(record_row: Record, end: str) -> None:
    """Received finals are kept; every session gets one ``eof``."""
    sessions = Sessions()
    restarted = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        session = sessions.begin()
        for opcode, data in audio_messages(peer):
            session.take(opcode, data)
            if end == "restart" and len(session.frames) == 3 and not restarted.is_set():
                restarted.set()
                peer.reset()
                return
            if data == b"eof":
                peer.text('{"result": [], "text": "the final text"}')
                if end == "late":
                    peer.over.wait(0.3)
                elif end == "never":
                    peer.read_all()
                    return
                elif end == "1006 after the final" and not restarted.is_set():
                    restarted.set()
                    peer.sock.close()
                    return
                peer.text("399e7f744c3e47c3a32f28a19f07739d")

    # Short only where the wait ends with a timeout.
    answer_seconds = 5.0 if end == "never" else 60.0
    with Scripted(script) as server, SttPipeline(server.port, answer_seconds=answer_seconds) as pipeline:
        began = time.monotonic()
        numbers = pipeline.turn(8)
        (heard,) = pipeline.heard(1)
        took = time.monotonic() - began
        assert heard.text == "the final text" and pipeline.gaps == []
    used = [session for session in sessions if session.frames]
    assert all(session.eofs <= 1 for session in sessions) and used[-1].eofs == 1
    assert used[-1].frames == numbers[: len(used[-1].frames)]
    record_row(35, f"{end}: the final kept after {took:.2f} s, {len(used)} session(s), one eof each")


def test_row_36_equal_finals_and_partials_in_any_order_are_kept(record_row: Record) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for _, data in audio_messages(peer):
            if data == b"eof":
                for text in ('{"text": "yes"}', '{"text": "yes"}', '{"partial": "and th"}', '{"partial": "and then"}'):
                    peer.text(text)
                peer.text("399e7f744c3e47c3a32f28a19f07739d")

    with Scripted(script) as server:
        with SttPipeline(server.port) as pipeline:
            pipeline.turn(5)
            (turn,) = pipeline.heard(1)
            partials = [partial.text for partial in pipeline.inbox.of(Partial)]
        assert turn.text == "yes yes and then" and partials[-1] == "yes yes and then"
        with SttPipeline(server.port, captions=True) as pipeline:
            pipeline.say(5)
        assert [heard.text for heard in pipeline.inbox.of(Heard) if heard.text] == ["yes", "yes", "and then"]
    record_row(36, "2 equal finals and the last partial, in order, as a turn and as captions")


@pytest.mark.parametrize("captions", [False, True])
def test_row_55_a_flapping_connection_loses_no_segment(record_row: Record, captions: bool) -> None:
    """20 turns with 10 cuts of the connection lose nothing and leave no thread and no descriptor."""
    sessions = Sessions()
    threads_before, descriptors_before = set(threading.enumerate()), _descriptors()
    # Captions need finals in between: a connection that is cut without any answer counts as refused.
    script = serve_transcription(sessions, "final", every=TURN_FRAMES if captions else None)
    with Scripted(script) as server, Proxy(server.port) as proxy:
        with SttPipeline(proxy.port, captions=captions, healthy_seconds=0.05, connection=SHORT_TIMEOUTS) as pipeline:
            sent: list[int] = []
            for number in range(20):
                sent += pipeline.turn(3)
                if number % 2:
                    proxy.cut()
                pipeline.heard(number + 1)
        connects = proxy.connections
        proxy.cut()
    assert pipeline.gaps == [] and connects <= 20 * 4
    if captions:
        reached = {frame_number for session in sessions for frame_number in session.frames}
        assert len(sessions.ended) >= 1 and reached >= set(sent)
    deadline = Deadline(30.0)
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(deadline.remaining())  # an abandoned dial ends by itself
    assert set(threading.enumerate()) <= threads_before and _descriptors() <= descriptors_before
    what = "captions" if captions else "turns"
    record_row(55, f"{what}: 10 cuts, {connects} connects, 0 gaps, no thread and no descriptor more")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
