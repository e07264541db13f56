"""Connection: limits, deadlines and close against valid and broken servers. Rows refer to the fault matrix."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import resource
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.authority import Authority
from support.machine import resident_kib
from support.plain import END_MARK, Plain
from support.proxy import Proxy, Toxics
from support.scripted import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    Script,
    Scripted,
    close_frame,
    deaf,
    frame,
    hangs_up,
    polite,
    resets,
    says,
    silent,
)

from agent.services.connection.dial import dial
from agent.services.connection.framing import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from agent.services.connection.keepalive import PONG_SECONDS
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection, ConnectionTiming, connect
from agent.services.protocols.codec import Audio, End, Event, Failure, Text
from agent.system.threads import Deadline, Mailbox

FAR_SECONDS = 300.0
"""Longer than any test."""


@pytest.fixture(autouse=True)
def all_sockets_are_closed() -> Iterator[None]:
    before = open_sockets()
    yield
    assert open_sockets() <= before, "a socket is still open"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def open_sockets() -> int:
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return count


def open_connection(url: str, ca_file: str | None = None, **timing: Any) -> Connection:
    codec = Plain(url)
    sock = dial(codec.handshake(), "plain", Deadline(30), ca_file=ca_file)
    return Connection(sock, codec, ConnectionTiming(**timing))


def until(connection: Connection, is_done: Callable[[list[Event]], bool], seconds: float = 30.0) -> list[Event]:
    """Pump until ``is_done`` or the connection is closed."""
    events: list[Event] = []
    deadline = Deadline(seconds)
    while not is_done(events) and not (connection.is_closed and not connection.has_pending):
        assert not deadline.is_expired, f"timeout after {len(events)} events"
        wait(connection, (), deadline.remaining())
        events += connection.pump()
    return events


def until_closed(connection: Connection, seconds: float = 30.0) -> list[Event]:
    return until(connection, lambda _: False, seconds)


def assert_closes(script: Script, code: int, **timing: Any) -> Connection:
    with Scripted(script) as server:
        connection = open_connection(server.url, **timing)
        last = until_closed(connection)[-1]
    assert isinstance(last, Failure) and last.status == code, last
    assert connection.close_code == code and connection.fileno() == -1
    assert isinstance(connection.codec, Plain) and connection.codec.closes == [code], "reported exactly once"
    return connection


def test_events_pass_through_the_codec_in_both_directions() -> None:
    with Scripted(polite) as server:
        connection = connect(Plain(server.url), Deadline(30))
        connection.send(Text("grüße"))
        connection.send(Audio(b"\0\1" * 40_000))
        assert until(connection, lambda events: len(events) == 2) == [Text("grüße"), Audio(b"\0\1" * 40_000)]
        connection.finish(Deadline(30))


def test_finish_sends_the_end_mark_once_and_completes_the_close_handshake() -> None:
    seen: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        while (received := peer.read_frame())[0] >= 0:
            seen.append(received)
            if received[0] == CLOSE:
                peer.text("late")
                peer.send(frame(CLOSE, received[1]))
                return

    with Scripted(script) as server:
        connection = open_connection(server.url, close_seconds=FAR_SECONDS)
        connection.send(Text("a"))
        events = connection.finish(Deadline(30))
        assert connection.is_end_delivered and connection.is_closed and connection.close_code == 1000
        assert connection.finish(Deadline(30)) == [] and connection.abort() == []
        server.join()
    assert seen == [(TEXT, b"a"), (TEXT, END_MARK.encode()), (CLOSE, struct.pack("!H", 1000))]
    assert events[0] == Text("late") and isinstance(events[1], Failure) and len(events) == 2


def test_finish_sends_no_second_end_mark() -> None:
    frames: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        frames.extend(peer.read_all())

    with Scripted(script) as server:
        connection = open_connection(server.url, close_seconds=0.1)
        connection.send(End())
        connection.finish(Deadline(30))
        server.join()
    assert frames == [(TEXT, END_MARK.encode()), (CLOSE, struct.pack("!H", 1000))]


def test_finish_ends_at_its_deadline_when_the_peer_does_not_answer() -> None:
    with Scripted(silent) as server:
        connection = open_connection(server.url, close_seconds=FAR_SECONDS, ping_seconds=None)
        start = time.monotonic()
        connection.finish(Deadline(0.2))
        assert time.monotonic() - start < 15 and connection.is_end_delivered and connection.fileno() == -1


def test_abort_closes_the_socket_immediately() -> None:
    with Scripted(polite) as server:
        connection = open_connection(server.url)
        assert len(connection.abort()) == 1 and connection.abort() == []
        assert connection.is_closed and connection.fileno() == -1
        assert not connection.send(Text("late"))


def test_wait_handles_a_connection_a_mailbox_and_descriptors_above_1023() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    fillers = [os.dup(0) for _ in range(1100)]
    try:
        with Scripted(polite) as server:
            connection, mailbox = open_connection(server.url, ping_seconds=None), Mailbox[str]()
            assert connection.fileno() > 1023
            assert wait(connection, [mailbox], 0.01) == (False, [])
            mailbox.put("item")
            assert wait(connection, [mailbox], 30) == (False, [mailbox])
            assert wait(None, [mailbox], 30) == (False, [mailbox])
            connection.send(Text("x"))
            mailbox.take()
            assert wait(connection, [mailbox], 30) == (True, [])
            connection.abort()
            assert wait(connection, [mailbox], 0.01) == (False, [])
            mailbox.close()
            assert wait(None, [mailbox], 0.01) == (False, [])
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_row_10_silent_peer_is_detected_within_ten_seconds() -> None:
    start = time.monotonic()
    connection = assert_closes(silent, 1006, ping_seconds=0.2, pong_seconds=0.2)
    assert 0.35 < time.monotonic() - start < 15 and "does not answer pings" in connection.close_reason
    with Scripted(silent) as server:
        usual = open_connection(server.url)
        first = usual.next_timeout()
        assert first is not None and first + PONG_SECONDS < 10
        usual.abort()


def test_pong_or_message_counts_as_a_sign_of_life() -> None:
    answered: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.accept()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == PING:
                answered.append(data)
                peer.send(frame(PONG, data) if len(answered) % 2 else frame(TEXT, b"I speak"))

    with Scripted(script) as server:
        connection = open_connection(server.url, ping_seconds=0.1, pong_seconds=30.0)
        deadline = Deadline(60)
        while len(answered) < 6 and not deadline.is_expired:
            wait(connection, (), deadline.remaining())
            assert set(connection.pump()) <= {Text("I speak")}
        assert not connection.is_closed and len(answered) >= 6, "a ping follows each sign of life"
        connection.abort()


def test_silence_has_no_deadline_without_pings() -> None:
    with Scripted(silent) as server:
        connection = open_connection(server.url, ping_seconds=None)
        assert connection.next_timeout() is None
        connection.abort()


def test_row_11_reset_delivers_earlier_messages_then_closes() -> None:
    with Scripted(resets(frame(BINARY, b"sound"))) as server:
        connection = open_connection(server.url)
        events = until_closed(connection)
        assert isinstance(events[-1], Failure) and connection.close_code == 1006
        assert events[:-1] in ([], [Audio(b"sound")])  # a RST may overtake what came before it


def test_row_11_messages_before_a_reset_are_read_although_a_write_fails_first() -> None:
    with Scripted(resets(frame(TEXT, b"one"), frame(BINARY, b"two"))) as server:
        connection = open_connection(server.url)
        server.join()
        connection.send(Audio(b"up"))
        assert not connection.is_closed and connection.has_pending
        events = until_closed(connection)
    assert events[:2] == [Text("one"), Audio(b"two")] and connection.close_code == 1006


def test_row_12_fin_without_close_frame_is_1006() -> None:
    with Scripted(hangs_up(frame(BINARY, b"sound"), frame(BINARY, b"half", length=100))) as server:
        connection = open_connection(server.url)
        events = until_closed(connection)
    assert events[0] == Audio(b"sound") and connection.close_code == 1006 and len(events) == 2


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999])
def test_rows_13_and_14_close_of_the_peer_is_reported_and_echoed(code: int) -> None:
    answers: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(close_frame(code, "wäre schön"))
        answers.extend(peer.read_all())

    connection = assert_closes(script, code)
    assert connection.close_reason == "wäre schön"
    assert answers == [(CLOSE, struct.pack("!H", code))]


def test_close_without_code_is_1005() -> None:
    assert_closes(says(frame(CLOSE)), 1005)


def test_close_is_answered_after_the_queued_data() -> None:
    kinds: list[int] = []
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(close_frame(1000))
        go.wait(30)
        kinds.extend(opcode for opcode, _ in peer.read_all())

    with Scripted(script, receive_bytes=4096) as server:
        connection = open_connection(server.url, close_seconds=FAR_SECONDS)
        for _ in range(40):
            connection.send(Audio(b"x" * 100_000))
        assert connection.unsent_bytes > 0
        connection.pump()
        assert not connection.is_closed
        go.set()
        until_closed(connection)
        server.join()
    assert kinds == [BINARY] * 40 + [CLOSE]


@pytest.mark.parametrize("half", [b"\x82", frame(BINARY, b"", length=70_000)[:5], frame(BINARY, b"some", length=1000)])
def test_row_15_silence_within_a_frame_is_detected(half: bytes) -> None:
    start = time.monotonic()
    connection = assert_closes(says(half), 1006, ping_seconds=None, stall_seconds=0.3)
    assert 0.25 < time.monotonic() - start < 15 and "middle of a message" in connection.close_reason


def test_row_15_frame_that_drips_is_detected() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(BINARY, b"", length=1000))
        while not peer.over.wait(0.02):
            peer.send(b"x")

    start = time.monotonic()
    assert_closes(script, 1006, ping_seconds=None, stall_seconds=0.3)
    assert time.monotonic() - start < 15


def test_slow_network_is_not_a_stall() -> None:
    data = os.urandom(27_000)
    with Scripted(says(frame(BINARY, data))) as server, Proxy(server.port) as proxy:
        proxy.down = Toxics(bytes_per_second=6_000, slice_bytes=1000)
        connection = open_connection(f"ws://127.0.0.1:{proxy.port}/", ping_seconds=None, stall_seconds=3.0)
        assert until(connection, bool) == [Audio(data)]
        connection.abort()


def test_steady_fragments_are_not_a_stall() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(BINARY, b"0", fin=0)[:2])
        for number in range(30):
            if peer.over.wait(0.15):
                return
            peer.send(b"0" + frame(CONTINUATION, b"0", fin=number == 29)[:2])
        peer.send(b"0")
        peer.read_all()

    with Scripted(script) as server:
        connection = open_connection(server.url, ping_seconds=None, stall_seconds=3.0)
        assert until(connection, bool) == [Audio(b"0" * 31)]
        connection.abort()


def test_row_16_black_hole_is_detected_while_data_is_unacknowledged() -> None:
    with Scripted(polite) as server, Proxy(server.port) as proxy:
        connection = open_connection(f"ws://127.0.0.1:{proxy.port}/", ping_seconds=1.5, pong_seconds=1.5)
        connection.send(Text("before"))
        assert until(connection, bool) == [Text("before")]
        proxy.up = proxy.down = Toxics(black_hole=True)
        connection.send(Audio(b"x" * 50_000))
        start = time.monotonic()
        until_closed(connection)
        assert time.monotonic() - start < 20 and connection.close_code == 1006


def test_row_19_stream_in_single_bytes_decodes_to_the_same_messages() -> None:
    messages = [b"", b"a", os.urandom(125), os.urandom(126), os.urandom(3000)]
    data = b"".join(frame(BINARY, message) + frame(PING, b"p") for message in messages)
    with Scripted(says(data)) as server, Proxy(server.port, down=Toxics(slice_bytes=1)) as proxy:
        connection = open_connection(f"ws://127.0.0.1:{proxy.port}/")
        events = until(connection, lambda events: len(events) == len(messages))
        assert events == [Audio(message) for message in messages]
        connection.abort()


def test_row_20_connection_cut_at_any_byte_closes_without_an_exception() -> None:
    stream = frame(TEXT, b"one") + frame(BINARY, b"t" * 200) + frame(PING, b"?") + close_frame(1000, "bye")
    whole = [Text("one"), Audio(b"t" * 200)]
    for offset in range(len(stream) + 1):
        with Scripted(hangs_up(stream[:offset])) as server:
            connection = open_connection(server.url)
            events = until_closed(connection)
        assert events[:-1] == whole[: len(events) - 1] and isinstance(events[-1], Failure)
        assert connection.close_code == (1000 if offset == len(stream) else 1006)


def test_row_21_finish_does_not_wait_for_a_late_close() -> None:
    with Scripted(polite) as server, Proxy(server.port, down=Toxics(latency_seconds=0.0)) as proxy:
        connection = open_connection(f"ws://127.0.0.1:{proxy.port}/", close_seconds=0.2, ping_seconds=None)
        proxy.down = Toxics(latency_seconds=FAR_SECONDS, close_seconds=FAR_SECONDS)
        start = time.monotonic()
        connection.finish(Deadline(FAR_SECONDS))
        assert time.monotonic() - start < 60 and connection.is_end_delivered


def test_row_22_peer_that_stops_reading_is_detected_while_reading_continues() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        while not peer.over.wait(0.01):
            peer.text("still here")

    with Scripted(script, receive_bytes=4096) as server:
        connection = open_connection(server.url, stall_seconds=3.0)
        events: list[Event] = []
        start = time.monotonic()
        while not connection.is_closed:
            if connection.unsent_bytes < 1_000_000:
                connection.send(Audio(b"x" * 100_000))
            wait(connection, (), 1)
            events += connection.pump()
            assert time.monotonic() - start < 60
        events += connection.pump()
        assert "stopped reading" in connection.close_reason and connection.unsent_bytes > 0
        assert events.count(Text("still here")) > 5


def test_row_22_unsent_data_is_bounded() -> None:
    with Scripted(deaf, receive_bytes=4096) as server:
        connection = open_connection(server.url)
        taken = 0
        while connection.send(Audio(b"x" * 1_000_000)):
            taken += 1
            assert taken < 40
        assert connection.is_closed and isinstance(connection.pump()[0], Failure)


def test_row_23_flood_of_pings_is_answered_within_bounds() -> None:
    pongs: list[bytes] = []
    count = 20_000

    def script(peer: Peer) -> None:
        peer.accept()
        for number in range(count):
            peer.send(frame(PING, struct.pack("!I", number) + b"p" * 121))
        peer.send(frame(PONG, b"unasked") + frame(BINARY, b"after"))
        pongs.extend(data for opcode, data in peer.read_all() if opcode == PONG)

    def sounds(peer: Peer) -> None:
        peer.accept()
        for _ in range(count):
            peer.send(frame(BINARY, b"p" * 125))
        peer.read_all()

    def seconds_of(connection: Connection, messages: int) -> float:
        events: list[Event] = []
        start = time.thread_time()
        deadline = Deadline(60)
        while len(events) < messages and not deadline.is_expired:
            wait(connection, (), deadline.remaining())
            events += connection.pump()
            largest.append(connection.unsent_bytes)
        seconds = time.thread_time() - start
        assert len(events) == messages and isinstance(events[-1], Audio)
        return seconds

    with Scripted(sounds, script) as server:
        largest: list[int] = []
        timing: dict[str, Any] = {"ping_seconds": None, "stall_seconds": FAR_SECONDS}  # the flood takes long
        connection = open_connection(server.url, **timing)
        usual = seconds_of(connection, count)
        connection.abort()
        connection = open_connection(server.url, **timing)
        assert seconds_of(connection, 1) < 10 * max(usual, 0.2) and max(largest) < 32768
        connection.finish(Deadline(30))
        server.join()
    assert pongs and pongs[-1][:4] == struct.pack("!I", count - 1), "the latest ping is answered"


def test_ten_pings_in_one_segment_are_all_answered() -> None:
    seen: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(b"".join(frame(PING, bytes([number])) for number in range(10)))
        seen.extend(peer.read_frame() for _ in range(10))
        peer.text("seen")
        peer.read_all()

    with Scripted(script) as server:
        connection = open_connection(server.url)
        until(connection, bool)
        connection.abort()
    assert seen == [(PONG, bytes([number])) for number in range(10)]


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_row_24_oversized_frame_is_refused_before_its_payload_is_kept(length: int) -> None:
    codes: list[tuple[int, bytes]] = []
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(BINARY, b"", length=length))
        codes.append(peer.read_frame())
        sent.set()

    gc.collect()
    before = resident_kib()
    assert_closes(script, 1009)
    assert sent.wait(30) and codes[0][0] == CLOSE and codes[0][1][:2] == struct.pack("!H", 1009)
    assert resident_kib() - before < 2048


def test_row_24_oversized_frame_costs_no_memory_while_it_arrives() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(BINARY, b"", length=1 << 40))
        while not peer.over.is_set():
            peer.send(bytes(65536))

    before = resident_kib()
    assert_closes(script, 1009)
    assert resident_kib() - before < 4096


def test_longest_frame_and_longest_message_are_accepted() -> None:
    longest = bytes(MAX_FRAME_BYTES)
    parts = frame(BINARY, longest), frame(BINARY, longest, fin=0), frame(CONTINUATION, longest)
    with Scripted(says(*parts)) as server:
        connection = open_connection(server.url)
        events = until(connection, lambda events: len(events) == 2)
        assert [len(event.data) for event in events if isinstance(event, Audio)] == [MAX_FRAME_BYTES, MAX_MESSAGE_BYTES]
        connection.abort()


def test_row_25_fragments_count_towards_the_message_limit() -> None:
    part = bytes(MAX_FRAME_BYTES)
    assert_closes(says(frame(BINARY, part, fin=0), frame(CONTINUATION, part, fin=0), frame(CONTINUATION, b"x")), 1009)


def test_row_25_fragments_take_linear_time() -> None:
    def seconds(count: int) -> float:
        middle = frame(CONTINUATION, b"ab", fin=0) * (count - 2)
        with Scripted(says(frame(TEXT, b"ab", fin=0) + middle + frame(CONTINUATION, b"ab"))) as server:
            connection = open_connection(server.url)
            start = resource.getrusage(resource.RUSAGE_THREAD).ru_utime
            assert until(connection, bool, 60) == [Text("ab" * count)]
            connection.abort()
            return resource.getrusage(resource.RUSAGE_THREAD).ru_utime - start

    tenth = seconds(10_000)
    assert seconds(100_000) < 40 * max(tenth, 0.02), "quadratic time would be a hundred times as much"


def test_row_25_number_of_fragments_is_bounded() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(TEXT, b"", fin=0))
        while not peer.over.is_set():
            peer.send(frame(CONTINUATION, b"", fin=0) * 1000)

    assert_closes(script, 1009)


@pytest.mark.parametrize(
    "bad",
    [
        frame(BINARY, b"x", rsv=4), frame(BINARY, b"x", rsv=2), frame(PING, b"x", rsv=1), frame(3, b""), frame(7, b"x"),
        frame(11), frame(15), frame(BINARY, b"x", mask=True), frame(CONTINUATION, b"x"), frame(PING, b"x" * 126),
        frame(PONG, b"x" * 126), frame(PING, b"x", fin=0), frame(PONG, b"x", fin=0), frame(CLOSE, b"\x03\xe8", fin=0),
        frame(TEXT, b"x", fin=0) + frame(TEXT, b"y"), frame(CLOSE, b"x"), frame(CLOSE, b"\x03\xe8" + b"x" * 124),
        *(close_frame(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    ],
)  # fmt: skip
def test_row_26_protocol_violation_is_answered_with_1002(bad: bytes) -> None:
    answers: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(bad)
        answers.extend(peer.read_all())

    assert_closes(script, 1002)
    assert [(opcode, data[:2]) for opcode, data in answers] == [(CLOSE, struct.pack("!H", 1002))]


@pytest.mark.parametrize(
    "bad",
    [
        b"\xce",
        b"ab\xe2\x82",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
    ],
)
def test_row_27_invalid_utf_8_is_answered_with_1007(bad: bytes) -> None:
    for stream in (
        frame(TEXT, bad),
        frame(TEXT, b"good ", fin=0) + frame(CONTINUATION, bad),
        b"".join(
            [frame(TEXT, bad[:1], fin=0), *(frame(CONTINUATION, bad[i : i + 1], fin=0) for i in range(1, len(bad)))]
        )
        + frame(CONTINUATION, b""),
        close_frame(1000, bad),
    ):
        answers: list[tuple[int, bytes]] = []

        def script(peer: Peer, stream: bytes = stream, answers: list[tuple[int, bytes]] = answers) -> None:
            peer.accept()
            peer.send(stream)
            answers.extend(peer.read_all())

        assert_closes(script, 1007)
        assert [(opcode, data[:2]) for opcode, data in answers] == [(CLOSE, struct.pack("!H", 1007))]


def test_character_split_between_fragments_is_decoded() -> None:
    data = "κόσμε😀".encode()
    parts = [frame(TEXT if i == 0 else CONTINUATION, data[i : i + 1], fin=i == len(data) - 1) for i in range(len(data))]
    with Scripted(says(*parts)) as server:
        connection = open_connection(server.url)
        assert until(connection, bool) == [Text("κόσμε😀")]
        connection.abort()


def test_random_bytes_never_raise() -> None:
    dice = random.Random(7)
    for _ in range(150):
        with Scripted(hangs_up(dice.randbytes(dice.randrange(1, 400)))) as server:
            connection = open_connection(server.url)
            assert isinstance(until_closed(connection)[-1], Failure)


def test_lone_surrogate_is_sent_as_a_question_mark() -> None:
    with Scripted(polite) as server:
        connection = open_connection(server.url)
        connection.send(Text("a\udc80b"))
        assert until(connection, bool) == [Text("a?b")]
        connection.abort()


def test_is_end_delivered_is_false_while_the_end_mark_is_unsent() -> None:
    with Scripted(deaf, receive_bytes=4096) as server:
        connection = open_connection(server.url, ping_seconds=None, stall_seconds=FAR_SECONDS)
        for _ in range(10):
            connection.send(Audio(b"x" * 1_000_000))
        start = time.monotonic()
        connection.finish(Deadline(0.2))
        assert time.monotonic() - start < 15 and not connection.is_end_delivered and connection.close_code == 1006


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_row_37_full_duplex_over_tls_does_not_disconnect(
    authority: Authority, version: ssl.TLSVersion, record_property: Callable[[str, object], None]
) -> None:
    """With a reader and a writer thread on one TLS socket, one connection in twenty is lost."""
    from websockets.sync.server import ServerConnection, serve

    # 30 s show a loss of one connection in twenty; TLS 1.2 runs the same code.
    seconds = float(os.environ.get("DUPLEX_SECONDS", "30" if version is ssl.TLSVersion.TLSv1_3 else "3"))
    context = authority.good()
    context.minimum_version = context.maximum_version = version
    heard: list[int] = []
    others = set(threading.enumerate())

    def handler(peer: ServerConnection) -> None:
        stop = threading.Event()

        def send_numbers() -> None:
            number = 0
            due = time.monotonic()
            while not stop.is_set() and number < seconds * 1000:
                peer.send(struct.pack("!I", number) + bytes(200))
                number += 1
                due += 0.001
                stop.wait(max(0.0, due - time.monotonic()))

        sender = threading.Thread(target=send_numbers)
        sender.start()
        heard.append(sum(len(message) for message in peer if isinstance(message, bytes)))
        stop.set()
        sender.join()

    with serve(handler, "127.0.0.1", 0, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"wss://127.0.0.1:{server.socket.getsockname()[1]}/"
        connection = open_connection(url, ca_file=authority.ca_file)
        events: list[Event] = []
        sent = 0
        due = time.monotonic()
        deadline = Deadline(10 * seconds + 60)  # both sides run in this process, and the machine may be slow
        while len(events) < seconds * 1000 and not connection.is_closed and not deadline.is_expired:
            wait(connection, (), max(0.0, due - time.monotonic()))
            events += connection.pump()
            if time.monotonic() >= due:
                connection.send(Audio(bytes(640)))
                sent += 640
                due += 0.02
        assert not connection.is_closed, connection.close_reason
        connection.finish(Deadline(30))
        server.shutdown()
        for each in set(threading.enumerate()) - others:  # shutdown() does not wait for the handlers
            each.join(30)
    numbers = [struct.unpack("!I", event.data[:4])[0] for event in events if isinstance(event, Audio)]
    assert numbers == list(range(int(seconds * 1000))) and connection.close_code == 1000
    assert heard == [sent]
    for kind, number in (("row", 37), ("show", 4)):
        record_property(kind, number)
        up_and_down = f"{sent // 640} frames up, {len(numbers)} messages down"
        record_property("figure", f"{version.name}: {seconds:g} s, {up_and_down}, 0 disconnects")


def test_decrypted_tls_records_are_pending(authority: Authority) -> None:
    data = b"".join(frame(BINARY, bytes(1000)) for _ in range(3000))
    with Scripted(says(data), tls=authority.good()) as server:
        connection = open_connection(server.url, ca_file=authority.ca_file)
        assert len(until(connection, lambda events: len(events) == 3000)) == 3000
        connection.finish(Deadline(0.1))


def test_reset_after_the_close_frame_keeps_its_code_over_tls(authority: Authority) -> None:
    """Over TLS the client reads on behind the close frame, and finds the reset before it has answered.

    Some versions of CPython report a reset as the end of the data (measured with 3.11), others raise an error.
    """
    go, has_reset = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        go.wait(30)
        peer.send(close_frame(1008, "no credit"))
        peer.reset()
        has_reset.set()

    with Scripted(script, tls=authority.good()) as server:
        codec = Plain(server.url)
        sock = dial(codec.handshake(), "plain", Deadline(30), ca_file=authority.ca_file)
        receive = sock.recv

        def recv(size: int) -> bytes:
            if data := receive(size):
                return data
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

        sock.recv = recv  # type: ignore[method-assign]
        connection = Connection(sock, codec)
        go.set()
        assert has_reset.wait(30)
        until_closed(connection)
        assert (connection.close_code, connection.close_reason) == (1008, "no credit")


def test_close_reason_reaches_a_peer_that_keeps_sending() -> None:
    """An immediate close of the socket resets the connection, and the close frame is lost."""
    answers: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(TEXT, b"x", mask=True))
        for _ in range(20):
            peer.over.wait(0.005)
            peer.send(frame(TEXT, b"more"))
        answers.append(peer.read_frame())

    assert_closes(script, 1002, linger_seconds=30.0)  # the peer may be slow
    assert answers == [(CLOSE, struct.pack("!H", 1002) + b"a server must not mask")]


def test_wait_does_not_spin() -> None:
    with Scripted(silent) as server:
        connection = open_connection(server.url, ping_seconds=0.2, pong_seconds=0.2)
        rounds = 0
        while not connection.is_closed:
            wait(connection, (), None)
            connection.pump()
            rounds += 1
        assert rounds < 12
