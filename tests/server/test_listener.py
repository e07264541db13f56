"""All five protocols on one port: every lossless format carries exactly the samples of the tone engine."""

from __future__ import annotations

import array
import http.client
import json
import math
import threading
import urllib.error
import urllib.request
from typing import Any

import msgpack
import pytest
from support import server_clients as clients
from support.local_server import LocalServerProcess
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from agent.audio.decoders.decoder import create_decoder
from agent.server.encoders.encoder import wav_header
from agent.server.encoders.g711 import compand
from agent.server.tts import tone
from agent.services.protocols.codec import Encoding

TEXT = "Hello there, my friend! How are you today? I am fine."


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_neuphonic_sends_every_sample(tone_server: LocalServerProcess, rate: int) -> None:
    sound = clients.neuphonic(tone_server, "Hello ", "World! ", "<STOP>", query=f"?sampling_rate={rate}&speed=1.5")
    assert sound == tone.pcm("Hello World!", rate)


def test_neuphonic_sends_22050_hz_by_default(tone_server: LocalServerProcess) -> None:
    assert clients.neuphonic(tone_server, "Hello, World! <STOP>") == tone.pcm("Hello, World!", 22050)


def test_neuphonic_sends_mulaw_on_request(tone_server: LocalServerProcess) -> None:
    sound = clients.neuphonic(tone_server, f"{TEXT} <STOP>", query="?sampling_rate=8000&encoding=pcm_mulaw")
    assert sound == compand(tone.pcm(TEXT, 8000), "mulaw")


def test_neuphonic_answers_every_stop_and_echoes_the_context(
    tone_server: LocalServerProcess,
) -> None:
    with connect(f"{tone_server.ws}/speak/en?sampling_rate=8000") as ws:
        ws.send("Bare text. <STOP>")
        assert clients.neuphonic_passage(ws) == tone.pcm("Bare text.", 8000)
        ws.send(json.dumps({"text": "<STOP>"}))
        assert clients.neuphonic_passage(ws) == b""
        ws.send(json.dumps({"text": "Third. <STOP>", "context_id": "abc"}))
        first = json.loads(ws.recv(timeout=20))["data"]
        assert (first["context_id"], first["sampling_rate"], first["stop"]) == ("abc", 8000, False)


@pytest.mark.parametrize(
    ("rest", "spoken"),
    [
        ([("Two.", "b"), ("<STOP>", "b")], "Two."),
        ([("<STOP>", "b"), ("Two. <STOP>", "b")], "Two."),
        ([("Two. <STOP>", None)], "One. Two."),
        ([("<STOP>", "a"), ("Two. <STOP>", "b")], "One. Two."),
    ],
    ids=["text", "stop", "no context", "ended"],
)
def test_neuphonic_drops_the_text_of_an_abandoned_context(
    tone_server: LocalServerProcess, rest: list[tuple[str, str | None]], spoken: str
) -> None:
    with connect(f"{tone_server.ws}/speak/en?sampling_rate=8000") as ws:
        for text, context in [("One. ", "a"), *rest]:
            ws.send(json.dumps({"text": text} if context is None else {"text": text, "context_id": context}))
        sound = b"".join(clients.neuphonic_passage(ws) for text, _ in rest if "<STOP>" in text)
    assert sound == tone.pcm(spoken, 8000)


def test_neuphonic_replaces_a_lone_surrogate_in_the_context(tone_server: LocalServerProcess) -> None:
    with connect(f"{tone_server.ws}/speak/en?sampling_rate=8000") as ws:
        for context, echoed in (("\ud800", "\ufffd"), ("next", "next")):
            ws.send(json.dumps({"text": "Yes. <STOP>", "context_id": context}))
            data = {"stop": False}
            while not data["stop"]:
                data = json.loads(ws.recv(timeout=20))["data"]
                assert data["context_id"] == echoed


def test_playai_sends_a_header_and_then_every_sample(tone_server: LocalServerProcess) -> None:
    header, *chunks = clients.playai(tone_server, TEXT, output_format="wav", sample_rate=24000)
    assert header == wav_header(Encoding("wav", 24000), None)
    assert b"".join(chunks) == tone.pcm(TEXT, 24000)


@pytest.mark.parametrize(("output_format", "rate"), [("raw", 24000), ("pcm", 44100), ("raw", 8000), ("pcm", 11111)])
def test_playai_sends_raw_samples(tone_server: LocalServerProcess, output_format: str, rate: int) -> None:
    chunks = clients.playai(tone_server, TEXT, output_format=output_format, sample_rate=rate)
    assert b"".join(chunks) == tone.pcm(TEXT, rate)


def test_playai_sends_mulaw(tone_server: LocalServerProcess) -> None:
    chunks = clients.playai(tone_server, TEXT, output_format="mulaw", sample_rate=8000)
    assert b"".join(chunks) == compand(tone.pcm(TEXT, 8000), "mulaw")


def test_playai_answers_requests_in_order_each_in_its_format(tone_server: LocalServerProcess) -> None:
    with connect(clients.playai_url(tone_server)) as ws:
        for number, rate in ((1, 8000), (2, 48000), (3, 16000)):
            ws.send(
                json.dumps({"text": [f"Request {number}."], "voice": "x", "output_format": "raw", "sample_rate": rate})
            )
        for number, rate in ((1, 8000), (2, 48000), (3, 16000)):
            assert json.loads(ws.recv(timeout=20)) == {"type": "start", "request_id": None}
            sound = b""
            while isinstance(message := ws.recv(timeout=20), bytes):
                sound += message
            assert json.loads(message) == {"type": "end", "request_id": None}
            assert sound == tone.pcm(f"Request {number}.", rate)


@pytest.mark.parametrize("path", ["/api/v1/websocket-auth", "/api/v1/tts/websocket-auth"])
def test_playai_authorization_answers_on_both_documented_paths(tone_server: LocalServerProcess, path: str) -> None:
    url = clients.playai_url(tone_server, path, "PlayDialog")
    assert url.startswith(f"{tone_server.ws}/")
    with connect(url) as ws:
        ws.send(json.dumps({"text": "Yes.", "voice": "x"}))
        assert json.loads(ws.recv(timeout=20))["type"] == "start"


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("container", ["raw", "wav"])
def test_vachana_sends_every_sample(tone_server: LocalServerProcess, rate: int, container: str) -> None:
    chunks = clients.vachana(tone_server, TEXT, sample_rate=rate, container=container)
    if container == "wav":
        assert chunks.pop(0) == wav_header(Encoding("wav", rate), None)
    assert b"".join(chunks) == tone.pcm(TEXT, rate)


@pytest.mark.parametrize(("encoding", "law"), [("pcm_mulaw", "mulaw"), ("pcm_alaw", "alaw")])
def test_vachana_sends_companded_samples(tone_server: LocalServerProcess, encoding: str, law: str) -> None:
    chunks = clients.vachana(tone_server, TEXT, sample_rate=8000, container="raw", encoding=encoding)
    assert b"".join(chunks) == compand(tone.pcm(TEXT, 8000), law)


def test_vachana_sends_two_equal_channels_on_request(tone_server: LocalServerProcess) -> None:
    samples = array.array("h")
    samples.frombytes(b"".join(clients.vachana(tone_server, TEXT, container="raw", num_channels=2)))
    assert samples[0::2].tobytes() == samples[1::2].tobytes() == tone.pcm(TEXT, 44100)


@pytest.mark.parametrize("layout", ["first", "every"])
def test_vachana_places_headers_by_the_wav_layout(tmp_path: Any, layout: str) -> None:
    with LocalServerProcess(tmp_path, "--speech", "tone", "--recognition", "none", "--wav-layout", layout) as server:
        chunks = clients.vachana(server, TEXT)
    headed = chunks if layout == "every" else chunks[:1]
    assert len(chunks) > 1
    assert all(chunk[:4] == b"RIFF" and len(chunk) > 44 for chunk in headed)
    sound = b"".join(chunk[44:] if chunk in headed else chunk for chunk in chunks)
    assert sound == tone.pcm(TEXT, 44100)


def test_vachana_binary_sends_binary_messages_and_ends_by_closing(tmp_path: Any) -> None:
    # In real time: the requests behind the first one arrive while it is spoken.
    options = ("--speech", "tone", "--recognition", "none", "--vachana-binary", "--pace", "1")
    with LocalServerProcess(tmp_path, *options) as server:
        config = {
            "sample_rate": 16000,
            "num_channels": 1,
            "sample_width": 2,
            "encoding": "linear_pcm",
            "container": "raw",
        }
        for texts in (["Hello World"], ["One " * 15, "Two three.", "Four."]):
            with connect(f"{server.ws}/api/v1/tts") as ws:
                for text in texts:
                    ws.send(json.dumps({"text": text, "voice": "Sia", "model": "m", "audio_config": config}))
                messages = list(ws)  # raises if the code is not 1000
            assert all(isinstance(message, bytes) for message in messages)
            assert b"".join(messages) == b"".join(tone.pcm(text, 16000) for text in texts)
            assert ws.close_code == 1000


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 32000, 44100])
def test_fish_gives_raw_samples_and_finishes(tone_server: LocalServerProcess, rate: int) -> None:
    chunks, reason = clients.fish(tone_server, "Hello ", "there, ", "my friend! ", format="pcm", sample_rate=rate)
    assert b"".join(chunks) == tone.pcm("Hello there, my friend!", rate)
    assert reason == "stop"


def test_fish_accepts_as_many_recordings_as_the_client_may_send(tone_server: LocalServerProcess) -> None:
    recordings = [{"audio": bytes(4 << 20), "text": "The words."}, {"audio": bytes(7 << 20), "text": "More words."}]
    chunks, _ = clients.fish(tone_server, "Hello!", format="pcm", sample_rate=8000, references=recordings)
    assert b"".join(chunks) == tone.pcm("Hello!", 8000)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_fish_speaks_the_next_start_on_the_same_connection(tone_server: LocalServerProcess, ahead: int) -> None:
    """LiveKit keeps a pool of connections. A client may send ``ahead`` utterances before the first one is spoken."""
    requests = [
        ("One two.", "pcm", 8000),
        ("Three.", "wav", 16000),
        ("", "pcm", 24000),
        ("Four five six.", "pcm", 44100),
    ]
    with connect(f"{tone_server.ws}/v1/tts/live") as ws:
        for number in range(len(requests) + ahead):
            if number < len(requests):
                text, container, rate = requests[number]
                clients.fish_request(ws, text, format=container, sample_rate=rate)
            if number >= ahead:
                text, container, rate = requests[number - ahead]
                chunks, reason = clients.fish_answer(ws)
                sound = b"".join(chunks)
                assert reason == "stop"
                assert (sound[44:] if container == "wav" else sound) == (tone.pcm(text, rate) if text else b"")


def test_fish_closes_after_finish_unless_the_next_start_has_arrived(tone_server: LocalServerProcess) -> None:
    """The example of Fish Audio's page reads until the connection closes."""
    with connect(f"{tone_server.ws}/v1/tts/live") as ws:
        clients.fish_request(ws, "One.", format="pcm", sample_rate=8000)
        ws.send(msgpack.packb({"event": "start", "request": {"text": "", "format": "pcm", "sample_rate": 8000}}))
        chunks, reason = clients.fish_answer(ws)
        assert (b"".join(chunks), reason) == (tone.pcm("One.", 8000), "stop")
        with pytest.raises(TimeoutError):
            ws.recv(timeout=3.0)
        ws.send(msgpack.packb({"event": "text", "text": "Two."}))
        ws.send(msgpack.packb({"event": "stop"}))
        ws.send(msgpack.packb({"event": "stop"}))  # begins nothing
        chunks, reason = clients.fish_answer(ws)
        assert (b"".join(chunks), reason) == (tone.pcm("Two.", 8000), "stop")
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=20)
        assert ws.close_code == 1000


def test_fish_gives_one_header_with_its_placeholder_sizes(tone_server: LocalServerProcess) -> None:
    chunks, reason = clients.fish(tone_server, TEXT, format="wav")
    sound = b"".join(chunks)
    assert (sound[:4], sound[4:8], sound[40:44]) == (
        b"RIFF",
        (4294967076 & 0xFFFFFFFF).to_bytes(4, "little"),
        b"\x00\xff\xff\xff",
    )
    assert sound[44:] == tone.pcm(TEXT, 44100)
    assert reason == "stop"


def test_fish_gives_nothing_but_finish_for_no_text(tone_server: LocalServerProcess) -> None:
    assert clients.fish(tone_server, format="pcm") == ([], "stop")


def test_much_text_is_spoken_before_the_passage_ends(tone_server: LocalServerProcess) -> None:
    text = "This is a sentence of eight words only. " * 6
    with connect(f"{tone_server.ws}/speak/en?sampling_rate=8000") as ws:
        ws.send(json.dumps({"text": text}))
        first = json.loads(ws.recv(timeout=20))["data"]
        assert first["audio"]
        assert not first["stop"]


@pytest.mark.parametrize("name", ["mp3", "opus"])
@pytest.mark.parametrize("service", ["fish", "playai", "vachana"])
def test_compressed_sound_has_the_right_length_and_the_right_tones(
    tone_server: LocalServerProcess, service: str, name: str
) -> None:
    if service == "fish":
        chunks = clients.fish(tone_server, TEXT, format=name)[0]
    elif service == "playai":
        chunks = clients.playai(tone_server, TEXT, output_format="ogg" if name == "opus" else "mp3")
    elif name == "opus":
        chunks = clients.vachana(tone_server, TEXT, sample_rate=48000, container="raw", encoding="oggopus")
    else:
        chunks = clients.vachana(tone_server, TEXT, container="mp3")
    decode = create_decoder(name, "s16le", 48000, 1)
    sound = b"".join(decode.feed(chunk) for chunk in chunks) + decode.finish()
    assert decode.format is not None
    words = TEXT.split()
    rate = decode.format.rate
    assert abs(len(sound) / 2 / rate - 0.2 * len(words)) < 0.1
    samples = array.array("h")
    samples.frombytes(sound)
    delay = len(samples) - round(0.2 * len(words) * rate) if name == "mp3" else 0
    for number, word in enumerate(words):
        at = round((0.2 * number + 0.05) * rate) + delay // 2
        assert _loudest(samples[at : at + rate // 10], rate) == pytest.approx(tone.frequency(word), abs=13)


def _loudest(samples: array.array[int], rate: int) -> int:
    def power(hertz: int) -> float:
        turn = 2 * math.pi * hertz / rate
        real = sum(sample * math.cos(turn * i) for i, sample in enumerate(samples))
        imaginary = sum(sample * math.sin(turn * i) for i, sample in enumerate(samples))
        return real * real + imaginary * imaginary

    quick = samples[:: max(1, rate // 8000)]
    samples, rate = quick, rate // max(1, rate // 8000)
    return max(range(300, 2800, 25), key=power)


def test_playai_refuses_flac_and_answers_the_next_request(tone_server: LocalServerProcess) -> None:
    with connect(clients.playai_url(tone_server)) as ws:
        for number, name in enumerate(("flac", "raw")):
            ws.send(json.dumps({"text": "Hello", "voice": "x", "output_format": name, "request_id": number}))
        error = json.loads(ws.recv(timeout=20))
        assert (error["type"], error["request_id"], error["status"]) == ("error", 0, 400)
        assert "an output_format out of mp3, wav, raw, pcm, mulaw, ogg" in error["message"]
        assert json.loads(ws.recv(timeout=20)) == {"type": "start", "request_id": 1}


def test_several_clients_are_served_at_once_and_a_slow_one_delays_no_other(tone_server: LocalServerProcess) -> None:
    with connect(f"{tone_server.ws}/speak/en?sampling_rate=48000", max_queue=1) as slow:
        slow.send(json.dumps({"text": "word " * 2000 + "<STOP>"}))  # 38 MB that the client does not read
        sounds: dict[int, bytes] = {}

        def speak(number: int) -> None:
            sounds[number] = clients.neuphonic(tone_server, f"Client number {number} speaks. <STOP>")

        threads = [threading.Thread(target=speak, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sounds == {number: tone.pcm(f"Client number {number} speaks.", 22050) for number in range(8)}
        slow.socket.close()


def test_health_is_served_over_http(tone_server: LocalServerProcess) -> None:
    with urllib.request.urlopen(f"{tone_server.http}/health", timeout=20) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}


def test_a_path_of_http_that_is_none_is_refused(tone_server: LocalServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{tone_server.http}/nothing", timeout=20)
    assert refused.value.code == 404


@pytest.mark.parametrize("path", ["/nothing", "/asr", "/v1/tts", "/v1/tts/live/x", "/api/v2/tts", "//", "/export/x"])
def test_a_websocket_at_an_unknown_path_is_refused(tone_server: LocalServerProcess, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"{tone_server.ws}{path}"):
        pass
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize("path", ["/", "/health", "/speak/en", "/v1/tts/live", "/nothing", "/export/audio/none"])
def test_head_is_answered_as_get_without_a_body(tone_server: LocalServerProcess, path: str) -> None:
    statuses = {}
    for method in ("GET", "HEAD"):
        client = http.client.HTTPConnection(tone_server.host, tone_server.port, timeout=20)
        client.request(method, path)
        answer = client.getresponse()
        statuses[method] = answer.status
        body = answer.read()
        client.close()
    assert statuses["HEAD"] == statuses["GET"] and body == b""


def test_the_path_of_a_protocol_wants_an_upgrade(tone_server: LocalServerProcess) -> None:
    """Every path was said to want one, also those at which there is nothing."""
    for path in ("/", "/speak/en", "/api/v1/tts", "/v1/tts/live"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{tone_server.http}{path}", timeout=20)
        assert refused.value.code == 426
