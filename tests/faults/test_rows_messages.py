"""Rows 24 to 33 and 61: invalid and foreign frames and messages. They never reach the speaker."""

from __future__ import annotations

import base64
import json
import logging
import struct
from collections.abc import Callable, Sequence

import msgpack
import pytest
from support.fault_rows import Record
from support.machine import resident_kib
from support.scripted import BINARY, CLOSE, CONTINUATION, TEXT, Peer, Script, Scripted, frame
from support.speech_services import (
    RATE,
    SERVICES,
    ServiceSession,
    accept_session,
    audio_of,
    client_messages,
    frames_of,
    serve_speech,
    synthesis_settings,
)
from support.tts_pipeline import TtsPipeline

from agent.pipeline.events import UtteranceFailed, UtterancePlayed
from agent.services.protocols.codec import Message
from agent.services.settings import SynthesisSettings

FIRST = "Only audio is played."
NEXT = "And the next one."


def serve_modified(service: str, change: Callable[[list[bytes]], Sequence[bytes]], times: int = 1) -> Script:
    """A service whose first ``times`` answers go through ``change``, as frames."""
    left = [times]

    def script(peer: Peer) -> None:
        session = accept_session(peer, service)
        if session is None:
            return
        for message in client_messages(peer):
            frames: Sequence[bytes] = frames_of(session.receive(message))
            if frames and left[0]:
                left[0] -= 1
                frames = change(list(frames))
            for each in frames:
                peer.send(each)

    return script


def prepend(*parts: bytes) -> Callable[[list[bytes]], Sequence[bytes]]:
    return lambda frames: [*parts, *frames]


def message(content: Message) -> bytes:
    return frames_of([content])[0]


def audio_message(service: str, data: bytes) -> bytes:
    """Return an audio message of the service with these bytes."""
    if service in ("neuphonic", "vachana"):
        audio = base64.b64encode(data).decode()
        return message(json.dumps({"type": "audio", "data": {"audio": audio, "stop": False}}))
    return message(data if service == "playai" else msgpack.packb({"event": "audio", "audio": data}))


# --- frames: rows 24 to 27


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("row", "bad", "code"),
    [
        pytest.param(24, frame(BINARY, b"x" * 64, length=1 << 62), 1009, id="row-24-2^62"),
        pytest.param(24, frame(TEXT, b"x" * 64, length=1 << 40), 1009, id="row-24-1TiB"),
        pytest.param(24, frame(BINARY, b"x" * 64, length=(4 << 20) + 1), 1009, id="row-24-max+1"),
        pytest.param(25, frame(BINARY, b"", fin=0) + frame(CONTINUATION, b"", fin=0) * (1 << 17), 1009, id="row-25"),
        pytest.param(26, frame(TEXT, b"{}", rsv=4), 1002, id="row-26-rsv"),
        pytest.param(26, frame(3, b"x"), 1002, id="row-26-opcode"),
        pytest.param(26, frame(BINARY, b"x", mask=True), 1002, id="row-26-masked"),
        pytest.param(26, frame(CLOSE, struct.pack("!H", 999)), 1002, id="row-26-close-code"),
        pytest.param(27, frame(TEXT, b"\xce\xba\xe1\xbd"), 1007, id="row-27-truncated"),
        pytest.param(27, frame(TEXT, b"\xc0\xaf"), 1007, id="row-27-overlong"),
    ],
)
def test_rows_24_to_27_an_invalid_frame_fails_only_its_utterance(
    record_row: Record, service: str, row: int, bad: bytes, code: int
) -> None:
    closes: dict[int, int] = {}  # close code by connection
    sent_bad_to: list[int] = []

    def script(peer: Peer) -> None:
        session = accept_session(peer, service)
        if session is None:
            return
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                closes[peer.index] = struct.unpack("!H", data[:2])[0]
                peer.send(frame(CLOSE, data))
                return
            messages = session.receive(data.decode() if opcode == TEXT else data) if opcode in (TEXT, BINARY) else []
            if messages and FIRST in "".join(session.texts) and peer.index not in sent_bad_to:
                sent_bad_to.append(peer.index)
                peer.send(bad)
            elif peer.index not in sent_bad_to:
                for each in frames_of(messages):
                    peer.send(each)

    with (
        Scripted(script) as server,
        # The server may read the close frame late on a busy machine.
        TtsPipeline(synthesis_settings(server.port, service), connection={"linger_seconds": 30.0}) as pipeline,
    ):
        assert pipeline.spoken(NEXT) == audio_of(NEXT)  # so that memory of the first use does not count
        before = resident_kib()
        assert isinstance(pipeline.ended(pipeline.say(FIRST)), UtteranceFailed)
        grown = resident_kib() - before
        took = pipeline.speak_until_played(NEXT)
    assert closes[sent_bad_to[0]] == code and grown < 2048
    record_row(
        row, f"{service}: {code} and failed, memory up by {max(grown, 0)} KiB, the next one played after {took:.2f} s"
    )


# --- messages: rows 28 to 31

INVALID: dict[str, Callable[[str], Message]] = {
    "no JSON": lambda service: "{nonsense",
    "wrong types": lambda service: json.dumps({"data": 7, "type": 8, "event": [], "request_id": {}}),
    "no audio": lambda service: json.dumps({"type": "audio", "data": {"audio": 12}}),
    "10 MB": lambda service: json.dumps({"x": "y" * 5_000_000})[:4_000_000],
    "NaN": lambda service: '{"data": {"audio": NaN, "sampling_rate": Infinity}}',
    "deep": lambda service: "[" * 100_000,
    "bare binary": lambda service: b"\xc1\xff\x00",
}


@pytest.mark.parametrize(
    ("service", "what"),
    [
        (service, what)
        for service in SERVICES
        for what in INVALID
        if what != "bare binary" or service in ("neuphonic", "fish")
    ],  # for the others it is audio
)
def test_row_28_invalid_messages_are_ignored_and_logged_once(
    record_row: Record, caplog: pytest.LogCaptureFixture, service: str, what: str
) -> None:
    """The utterance is played unchanged."""
    bad = message(INVALID[what](service))
    caplog.set_level(logging.WARNING)
    with (
        Scripted(serve_modified(service, prepend(bad, bad, bad))) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        assert pipeline.spoken(FIRST) == audio_of(FIRST)
        assert pipeline.spoken(NEXT) == audio_of(NEXT)
    refusals = [record for record in caplog.records if "message refused" in record.getMessage()]
    assert len(refusals) <= 1 and all(len(record.getMessage()) < 600 for record in caplog.records)
    record_row(28, f"{service}, {what}: 3 ignored, {len(refusals)} line, played to the last byte")


@pytest.mark.parametrize("service", SERVICES)
def test_row_28_too_many_invalid_messages_fail_the_utterance(record_row: Record, service: str) -> None:
    with (
        Scripted(serve_modified(service, lambda frames: [message("{nonsense")] * 200)) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        end = pipeline.failed(FIRST)
        assert "invalid messages" in end.reason
        assert pipeline.spoken(NEXT) == audio_of(NEXT)
    record_row(28, f"{service}: more than 100 invalid messages in a session: failed")


@pytest.mark.parametrize("service", ["neuphonic", "vachana"])
@pytest.mark.parametrize("junk", ["!!!!", "QUJ", "QUJDR", "_-_-", "QUJD QUJD", "ÄÖÜ"])
def test_row_29_invalid_base64_is_not_played(record_row: Record, service: str, junk: str) -> None:
    fields = {"type": "audio", "data": {"audio": junk, "sampling_rate": RATE, "stop": False}}
    with (
        Scripted(serve_modified(service, prepend(message(json.dumps(fields))))) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        heard = pipeline.spoken(FIRST)
        if heard != audio_of(FIRST):  # a tolerant decoder may accept it: whole samples, nothing shifted
            extra = len(heard) - len(audio_of(FIRST))
            assert 0 < extra <= 8 and extra % 2 == 0 and heard[extra:] == audio_of(FIRST)
    record_row(29, f"{service}: {junk!r} was not played as noise, the audio is complete")


@pytest.mark.parametrize("service", SERVICES)
def test_row_29_samples_split_between_messages_are_joined(record_row: Record, service: str) -> None:
    """The complete audio in chunks with odd numbers of bytes."""
    pcm = audio_of(FIRST)
    pieces = [pcm[:1], pcm[1:4], pcm[4:1001], pcm[1001:1002], pcm[1002:]]

    def odd(frames: list[bytes]) -> list[bytes]:
        head, tail = (frames[:1], frames[-1:]) if service in ("playai", "vachana") else ([], frames[-1:])
        made = [audio_message(service, piece) for piece in pieces]
        return [*head, *made, *([] if service == "fish" else tail)]

    with (
        Scripted(serve_modified(service, odd)) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        assert pipeline.spoken(FIRST) == pcm
    record_row(29, f"{service}: chunks of 1, 3, 997, 1 and {len(pieces[-1])} bytes, bit for bit")


BOMBS: dict[str, bytes] = {
    "a map of 2^32": b"\xdf\xff\xff\xff\xff",
    "binary of 4 GiB": b"\xc6\xff\xff\xff\xff" + b"x" * 64,
    "nested": b"\x91" * 100_000,
    "trailing": msgpack.packb({"event": "audio", "audio": b"abcd"}) + b"garbage",
    "str for bin": msgpack.packb({"event": "audio", "audio": "abcd"}),
    "unknown event": msgpack.packb({"event": "applause", "audio": b"abcd"}),
    "extension": msgpack.packb(msgpack.ExtType(5, b"x" * 100)),
}


@pytest.mark.parametrize("what", BOMBS)
def test_row_30_invalid_messagepack_is_ignored(record_row: Record, what: str) -> None:
    before = resident_kib()
    with (
        Scripted(serve_modified("fish", prepend(message(BOMBS[what])))) as server,
        TtsPipeline(synthesis_settings(server.port, "fish")) as pipeline,
    ):
        assert pipeline.spoken(FIRST) == audio_of(FIRST)
        assert pipeline.spoken(NEXT) == audio_of(NEXT)
    grown = max(0, resident_kib() - before)
    assert grown < 4096
    record_row(30, f"{what}: ignored, memory up by {grown} KiB, played to the last byte")


ERRORS: dict[str, list[Message]] = {
    "fish": [msgpack.packb({"event": "finish", "reason": "error", "message": "out of memory"})],
    "playai": [json.dumps({"type": "error", "status": 500, "message": "out of memory", "request_id": "?"})],
    "neuphonic": [json.dumps({"type": "error", "message": "out of memory"})],
    "vachana": [json.dumps({"type": "error", "message": "out of memory"})],
}


@pytest.mark.parametrize("service", SERVICES)
def test_row_31_a_service_error_fails_only_its_utterance(record_row: Record, service: str) -> None:
    """The utterance fails with the message of the service and no audio; the next one is played."""
    scripts = [serve_modified(service, lambda frames: frames_of(ERRORS[service])), serve_speech(service)]
    first = [serve_speech(service)] if service == "playai" else []
    with Scripted(*first, *scripts) as server, TtsPipeline(synthesis_settings(server.port, service)) as pipeline:
        end = pipeline.failed(FIRST)
        assert "out of memory" in end.reason and end.seconds == 0
        assert pipeline.spoken(NEXT) == audio_of(NEXT)
    record_row(31, f"{service}: failed with the service's message, the next one played")


@pytest.mark.parametrize("service", SERVICES)
def test_row_31_audio_after_the_end_is_not_played(record_row: Record, service: str) -> None:
    late = audio_message(service, b"ABCD")
    with (
        Scripted(serve_modified(service, lambda frames: [*frames, late, late], times=9)) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        # Fish repeats the audio for each message: its late audio follows the finish.
        first, second = pipeline.spoken(FIRST), pipeline.spoken(NEXT)
        if service == "fish":
            assert first.startswith(audio_of(FIRST)) and second.startswith(audio_of(NEXT))
        else:
            assert (first, second) == (audio_of(FIRST), audio_of(NEXT))
    record_row(31, f"{service}: 2 late chunks in no utterance")


def test_row_31_audio_of_another_request_is_not_played(record_row: Record) -> None:
    """PlayAI's requests have IDs; audio of an unknown ID is dropped."""
    foreign = [message(json.dumps({"type": "start", "request_id": "another"})), message(b"NOISE!" * 50),
             message(json.dumps({"type": "end", "request_id": "another"}))]  # fmt: skip
    with (
        Scripted(serve_modified("playai", prepend(*foreign))) as server,
        TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline,
    ):
        assert pipeline.spoken(FIRST) == audio_of(FIRST)
    record_row(31, "playai: 300 bytes of an unknown request were not played")


FOREIGN: dict[str, list[Message]] = {
    "neuphonic": [
        json.dumps({"data": {"audio": "QUJDRA==", "stop": False, "context_id": "another"}}),
        json.dumps({"data": {"audio": "", "stop": True, "context_id": "another"}}),
        json.dumps({"type": "error", "message": "out of memory", "context_id": "another"}),
    ],
    "vachana": [
        json.dumps({"type": "audio", "request_id": "another", "data": {"audio": "QUJDRA=="}}),
        json.dumps({"type": "complete", "request_id": "another", "data": None}),
        json.dumps({"type": "error", "message": "out of memory", "request_id": "another"}),
    ],
    "playai": [
        json.dumps({"type": "end", "request_id": "another"}),
        json.dumps({"type": "error", "message": "out of memory", "request_id": "another"}),
        json.dumps({"type": "end", "request_id": "another", "status": 500}),
    ],
}


@pytest.mark.parametrize("service", FOREIGN)
def test_row_61_ends_and_errors_of_another_request_do_not_end_the_utterance(
    record_row: Record, caplog: pytest.LogCaptureFixture, service: str
) -> None:
    """Each foreign message at each place of the own response, 40 times: the audio is complete, one line is logged."""
    caplog.set_level(logging.WARNING)
    count = 3 if service == "neuphonic" else 4  # messages of the own response; the others have a start
    foreign = frames_of(FOREIGN[service]) * 40

    def insert(place: int) -> Callable[[list[bytes]], Sequence[bytes]]:
        return lambda frames: [*frames[:place], *foreign, *frames[place:]]

    for place in range(count):
        caplog.clear()
        with (
            Scripted(serve_modified(service, insert(place))) as server,
            TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
        ):
            assert pipeline.spoken(FIRST) == audio_of(FIRST)
        assert len([each for each in caplog.messages if "another request ignored" in each]) == 1
    record_row(61, f"{service}: 120 foreign messages at {count} places, bit for bit, 1 line each")


@pytest.mark.parametrize("service", ["fish", "neuphonic"])
def test_row_61_one_connection_carries_one_utterance(record_row: Record, service: str) -> None:
    """Fish and the Neuphonic of 2024 name no context: what arrives on a connection belongs to its only utterance."""
    sessions: list[ServiceSession] = []
    with (
        Scripted(serve_speech(service, sessions)) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        utterances = [pipeline.say(text) for text in (FIRST, NEXT, FIRST)]
        assert all(isinstance(pipeline.ended(utterance), UtterancePlayed) for utterance in utterances)
    spoken = ["".join(session.texts).strip() for session in sessions if session.texts]
    assert sorted(spoken) == sorted([FIRST, NEXT, FIRST])  # the server may see the connections in another order
    record_row(61, f"{service}: 3 utterances on 3 connections")


# --- headers: rows 32 and 33


def wav_head(size: int, rate: int = RATE) -> bytes:
    shape = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    return b"RIFF%sWAVEfmt %sdata%s" % (struct.pack("<I", min(size + 36, 0xFFFFFFFF)), shape, struct.pack("<I", size))


def vachana_wav(config: SynthesisSettings) -> SynthesisSettings:
    settings = config.settings("vachana")
    audio = settings.audio_config._replace(container="wav")
    return config.with_settings("vachana", settings._replace(audio_config=audio))


@pytest.mark.parametrize("size", [0, 3200, 0xFFFFFFFF])
@pytest.mark.parametrize("split", [44, 0, 1, 4, 20, 43, "every chunk"])
def test_row_32_a_wav_header_is_never_played(record_row: Record, size: int, split: int | str) -> None:
    pcm = audio_of(FIRST)
    head = wav_head(size)
    if split == "every chunk":
        pieces = [wav_head(len(part)) + part for part in (pcm[:1600], pcm[1600:])]
    else:
        whole = head + pcm
        pieces = [part for part in (whole[: int(split)], whole[int(split) : 1000], whole[1000:]) if part]
    made = [audio_message("vachana", piece) for piece in pieces]
    with (
        Scripted(serve_modified("vachana", lambda frames: [frames[0], *made, frames[-1]])) as server,
        TtsPipeline(vachana_wav(synthesis_settings(server.port, "vachana"))) as pipeline,
    ):
        assert pipeline.spoken(FIRST) == pcm
    record_row(32, f"header {split}, size {size}: bit for bit")


def test_row_32_the_rate_in_the_header_outranks_the_requested_one(record_row: Record) -> None:
    pcm = audio_of(FIRST)
    whole = wav_head(len(pcm), rate=8000) + pcm
    made = audio_message("vachana", whole)
    with (
        Scripted(serve_modified("vachana", lambda frames: [frames[0], made, frames[-1]])) as server,
        TtsPipeline(vachana_wav(synthesis_settings(server.port, "vachana"))) as pipeline,
    ):
        utterance = pipeline.say(FIRST)
        end = pipeline.ended(utterance)
        assert isinstance(end, UtterancePlayed) and pipeline.heard(utterance) == pcm and end.seconds == 0.2
    record_row(32, "8000 Hz although 16000 were asked for: every sample, at its own rate")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "magic",
    [b"ID3\x04\0\0\0\0\0\x21" + bytes(64), (b"\xff\xfb\x90\x64" + bytes(413)) * 2, b"OggS\0\x02" + bytes(60)],
    ids=["id3", "mp3", "ogg"],
)
def test_row_33_compressed_audio_instead_of_pcm_fails_the_utterance(
    record_row: Record, service: str, magic: bytes
) -> None:
    """The utterance fails with a message; no byte is played."""
    compressed = audio_message(service, magic)
    at = 1 if service in ("playai", "vachana") else 0
    with (
        Scripted(serve_modified(service, lambda frames: [*frames[:at], compressed, *frames[at:]])) as server,
        TtsPipeline(synthesis_settings(server.port, service)) as pipeline,
    ):
        utterance = pipeline.say(FIRST)
        end = pipeline.ended(utterance)
        assert isinstance(end, UtteranceFailed) and pipeline.heard(utterance) == b""
    record_row(33, f"{service}: {end.reason.partition(': ')[2][:60]}")
