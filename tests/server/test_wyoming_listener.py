"""The Wyoming side of the local server over real sockets: limits, stalls, several requests and the shutdown."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.wyoming_peer import FORMAT, WyomingClient

from agent.errors import AudioError, ConfigError
from agent.server.options import ServerOptions
from agent.server.recognition_load import ClientLoad, RecognitionLoad
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import RecognizerStream, SttEngine, SttOptions, UnavailableRecognizer
from agent.server.tts import tone
from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions
from agent.server.tts.tone import ToneEngine
from agent.server.wire_log import WireLog
from agent.server.wyoming_listener import WyomingListener
from agent.server.wyoming_session import SessionTiming
from agent.services.protocols.codec import Transcript
from agent.services.protocols.wyoming_event import MAX_PAYLOAD_BYTES, encode_event
from agent.system.threads import Deadline

SPEECH = encode_event("audio-chunk", FORMAT, bytes(3200))
WORDS = "turn it off"
SECONDS = 20.0

Start = Callable[..., WyomingListener]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "script").write_text(WORDS)
    listeners: list[WyomingListener] = []

    def make(
        *,
        clients: int = 4,
        timing: SessionTiming = SessionTiming(),  # noqa: B008 - immutable
        tts: TtsEngine | None = None,
        stt: SttEngine | None = None,
        load: RecognitionLoad | None = None,
    ) -> WyomingListener:
        options = ServerOptions(speech="tone", clients=clients, wyoming=0)
        recognizer = stt or stt_registry.create("script", SttOptions(script=str(tmp_path / "script")))
        made = WyomingListener(
            options, tts or ToneEngine(), recognizer, load or RecognitionLoad(2), WireLog(None), timing
        )
        listeners.append(made)
        return made

    yield make
    for each in listeners:
        assert each.stop(Deadline(SECONDS), Deadline(SECONDS))


@pytest.fixture
def connect() -> Iterator[Callable[[WyomingListener], WyomingClient]]:
    with contextlib.ExitStack() as stack:

        def make(listener: WyomingListener) -> WyomingClient:
            client = WyomingClient(listener.address)
            stack.enter_context(client.socket)
            return client

        yield make


Connect = Callable[[WyomingListener], WyomingClient]


def test_a_sentence_of_a_stream_is_spoken_before_the_next_one_arrives(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.send(encode_event("synthesize-start"), encode_event("synthesize-chunk", {"text": "Hello there. Three"}))
    pcm = tone.pcm("Hello there.", 22050)
    received = b""
    while len(received) < len(pcm):
        event = client.read()
        assert event is not None
        received += event.payload
    assert received == pcm
    client.send(encode_event("synthesize-chunk", {"text": " four."}), encode_event("synthesize-stop"))
    rest = client.read_until("synthesize-stopped")
    assert b"".join(event.payload for event in rest) == tone.pcm("Three four.", 22050)
    assert [event.type for event in rest][-2:] == ["audio-stop", "synthesize-stopped"]


def test_a_long_chunk_of_an_engine_arrives_in_payloads_that_clients_accept(start: Start, connect: Connect) -> None:
    pcm = bytes(range(256)) * 6000  # more than the longest payload

    class OneChunk:
        def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
            return SynthesizedAudio(22050, iter((pcm,)))

    assert len(pcm) > MAX_PAYLOAD_BYTES
    client = connect(start(tts=OneChunk()))
    client.send(encode_event("synthesize", {"text": "One."}))
    assert b"".join(event.payload for event in client.read_until("audio-stop")) == pcm


def test_one_connection_serves_texts_and_speech_in_turn(start: Start, connect: Connect) -> None:
    client = connect(start())
    for _ in range(2):
        client.send(encode_event("synthesize", {"text": "One."}))
        assert client.read_until("audio-stop")[0].type == "audio-start"
        client.send(encode_event("transcribe"), encode_event("audio-start", FORMAT), *[SPEECH] * 5)
        client.send(encode_event("audio-stop"))
        assert client.read_until("transcript-stop")[-2].data == {"text": WORDS}


def test_speech_without_audio_has_an_empty_transcript(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.send(encode_event("transcribe"), encode_event("audio-start", FORMAT), encode_event("audio-stop"))
    event = client.read()
    assert event is not None and (event.type, event.data) == ("transcript", {"text": ""})


@pytest.mark.parametrize("channels", [1, 2])
def test_speech_whose_chunks_end_inside_a_frame_stays_aligned(start: Start, connect: Connect, channels: int) -> None:
    heard = bytearray()

    class Listening:
        def prepare(self) -> None:
            pass

        def open(self) -> RecognizerStream:
            return self

        def feed(self, pcm: bytes) -> list[Transcript]:
            heard.extend(pcm)
            return []

        def early_final(self) -> list[Transcript]:
            return []

        def finish(self) -> list[Transcript]:
            return []

        def close(self) -> None:
            pass

    mono = bytes(range(1, 101))
    pcm = b"".join(mono[at : at + 2] * channels for at in range(0, len(mono), 2))
    data = {**FORMAT, "channels": channels}
    client = connect(start(stt=Listening()))
    client.send(encode_event("transcribe"), encode_event("audio-start", data))
    client.send(*(encode_event("audio-chunk", data, pcm[at : at + 7]) for at in range(0, len(pcm), 7)))
    client.send(encode_event("audio-stop"))
    client.read_until("transcript")
    assert heard == mono


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * 70000,
        b'{"type": "audio-chunk", "payload_length": 1048577}\n',
        encode_event("audio-start", {**FORMAT, "width": 4}),
        encode_event("synthesize", {"text": 5}),
    ],
    ids=["http", "long line", "long payload", "width", "no text"],
)
def test_a_client_that_breaks_the_protocol_gets_an_error_and_the_end(
    start: Start, connect: Connect, message: bytes
) -> None:
    client = connect(start())
    client.send(message)
    assert client.read_all() == ["error"]


def test_a_client_that_stalls_inside_an_event_is_disconnected(start: Start, connect: Connect) -> None:
    client = connect(start(timing=SessionTiming(stall_seconds=0.1)))
    client.send(encode_event("describe"))
    assert client.read_until("info")
    client.send(SPEECH[:-1])
    assert client.read_all() == []


def test_a_client_that_sends_nothing_is_disconnected(start: Start, connect: Connect) -> None:
    assert connect(start(timing=SessionTiming(idle_seconds=0.1))).read_all() == []


def test_a_client_that_reads_nothing_is_disconnected_and_makes_room(start: Start, connect: Connect) -> None:
    class Endless:
        def __init__(self) -> None:
            self.is_closed = threading.Event()

        def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
            return SynthesizedAudio(22050, self._chunks())

        def _chunks(self) -> Iterator[bytes]:
            try:
                while True:
                    yield bytes(65536)
            finally:
                self.is_closed.set()

    engine = Endless()
    client = connect(start(timing=SessionTiming(stall_seconds=0.2), tts=engine))
    client.send(encode_event("synthesize", {"text": "One."}))
    assert engine.is_closed.wait(SECONDS)


def test_a_further_client_is_refused_until_another_one_leaves(start: Start, connect: Connect) -> None:
    listener = start(clients=1)
    first = connect(listener)
    first.send(encode_event("ping", {"text": "a"}))
    assert first.read_until("pong")[0].data == {"text": "a"}
    assert connect(listener).read_all() == ["error"]
    first.socket.shutdown(socket.SHUT_WR)
    assert first.read_all() == []
    deadline = Deadline(SECONDS)
    while True:
        assert not deadline.is_expired
        client = connect(listener)
        with contextlib.suppress(ConnectionError):
            client.send(encode_event("ping"))
            event = client.read()
            if event is not None and event.type == "pong":
                return


def test_speech_waits_for_the_recognizer_that_the_websocket_side_shares(start: Start, connect: Connect) -> None:
    now = 0.0
    load = RecognitionLoad(1, lambda: now)
    other = load.admit(1.0)
    assert other is not None
    load.report(other, 5.0, 5.0)
    client = connect(start(load=load, timing=SessionTiming(busy_seconds=SECONDS)))
    client.send(encode_event("audio-start", FORMAT), SPEECH, encode_event("audio-stop"))
    load.leave(other)
    assert client.read_until("transcript")[-1].data == {"text": WORDS}


def test_speech_that_waits_too_long_gets_an_error(start: Start, connect: Connect) -> None:
    load = RecognitionLoad(1, lambda: 0.0)
    other = load.admit(1.0)
    assert other is not None
    load.report(other, 5.0, 5.0)
    client = connect(start(load=load, timing=SessionTiming(busy_seconds=0.1)))
    client.send(SPEECH)
    (event,) = client.read_until("error")
    assert "busy" in str(event.data["text"])


def test_a_server_without_a_recognizer_says_so(start: Start, connect: Connect) -> None:
    client = connect(start(stt=UnavailableRecognizer("install the extra recognition")))
    client.send(encode_event("describe"))
    (info,) = client.read_until("info")
    assert info.data["asr"] == [] and info.data["tts"]
    client.send(SPEECH)
    (event,) = client.read_until("error")
    assert "install the extra recognition" in str(event.data["text"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_recognizer_that_crashes_keeps_no_place(start: Start, connect: Connect) -> None:
    left: queue.SimpleQueue[ClientLoad] = queue.SimpleQueue()

    class Crashing(UnavailableRecognizer):
        def open(self) -> RecognizerStream:
            raise MemoryError

    class Load(RecognitionLoad):
        def leave(self, client: ClientLoad) -> None:
            super().leave(client)
            left.put(client)

    connect(start(stt=Crashing(""), load=Load(1))).send(SPEECH)
    assert left.get(timeout=SECONDS)
    for thread in threading.enumerate():
        if thread.name.removeprefix("wyoming ").isdigit():
            thread.join(SECONDS)  # its exception must not be reported in the next test


def test_a_failed_synthesis_is_an_error_of_that_client(start: Start, connect: Connect) -> None:
    class Broken:
        def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
            raise AudioError("no voice")

    listener = start(tts=Broken())
    client = connect(listener)
    client.send(encode_event("synthesize", {"text": "One."}))
    assert client.read_all() == ["error"]
    other = connect(listener)
    other.send(encode_event("ping"))
    assert other.read_until("pong")


def test_stop_answers_what_has_arrived(start: Start, connect: Connect) -> None:
    listener = start()
    client = connect(listener)
    client.send(encode_event("describe"), *[SPEECH] * 5)
    assert client.read_until("info")
    assert listener.stop(Deadline(SECONDS), Deadline(SECONDS))
    assert "transcript" in client.read_all()


def test_a_port_in_use_names_the_key(start: Start) -> None:
    port = start().address[1]
    with pytest.raises(ConfigError, match=r"choose another server.host or server.wyoming"):
        WyomingListener(
            ServerOptions(wyoming=port), ToneEngine(), UnavailableRecognizer(""), RecognitionLoad(1), WireLog(None)
        )
