"""``say``: every lossless format arrives sample by sample, mp3 and Ogg Opus with the right tones in the right time."""

from __future__ import annotations

import math
import time
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from support.processes import Wired

from agent.audio.decoders.decoder import create_decoder
from agent.server.encoders.g711 import compand
from agent.server.tts import tone
from e2e.conftest import Start

TEXT = "Hello there, my friend! How are you today? I am fine. And so are all the others."


def configuration(server: Wired, service: str, **settings: object) -> str:
    """All of one service's settings, at the local server."""
    urls = {
        "neuphonic": {"url": f"{server.ws}/speak/en"},
        "playai": {"auth_url": f"{server.http}/api/v1/tts/websocket-auth"},
        "vachana": {"url": f"{server.ws}/api/v1/tts"},
        "fish": {"url": f"{server.ws}/v1/tts/live"},
        "local": {"url": server.ws},
    }
    lines = "".join(f"    {name}: {value}\n" for name, value in {**urls[service], **settings}.items())
    return f"synthesis:\n  services: [{service}]\n  {service}:\n{lines}"


def heard(path: Path) -> tuple[int, int, bytes]:
    with wave.open(str(path), "rb") as file:
        assert file.getsampwidth() == 2
        return file.getframerate(), file.getnchannels(), file.readframes(file.getnframes())


LOSSLESS = [
    *(("neuphonic", {"sampling_rate": rate}, rate) for rate in (8000, 16000, 22050, 24000, 44100, 48000)),
    *(
        ("playai", {"output_format": kind, "sample_rate": rate}, rate)
        for kind in ("wav", "raw")
        for rate in (8000, 24000, 44100)
    ),
    *(
        ("vachana", {"audio_config": f"{{sample_rate: {rate}, container: {container}}}"}, rate)
        for container in ("wav", "raw")
        for rate in (8000, 16000, 44100)
    ),
    ("fish", {"format": "wav"}, 44100),
    *(("fish", {"format": kind, "sample_rate": rate}, rate) for kind in ("wav", "pcm") for rate in (16000, 44100)),
    ("local", {}, 22050),
]


@pytest.mark.parametrize(("service", "settings", "rate"), LOSSLESS)
def test_every_sample_arrives(
    agent: Start,
    configured: Callable[[str], str],
    tones: Wired,
    tmp_path: Path,
    service: str,
    settings: dict[str, object],
    rate: int,
) -> None:
    config = configured(configuration(tones, service, **settings))
    process = agent("say", "--config", config, "--service", service, "--output", "out.wav", TEXT)
    assert (process.end(), process.lines_of_error()) == (0, [])
    assert heard(tmp_path / "out.wav") == (rate, 1, tone.pcm(TEXT, rate))
    assert process.output == ""


@pytest.mark.parametrize(
    ("service", "settings", "law"),
    [
        ("playai", {"output_format": "mulaw", "sample_rate": 8000}, "mulaw"),
        ("vachana", {"audio_config": "{sample_rate: 8000, container: raw, encoding: pcm_mulaw}"}, "mulaw"),
        ("vachana", {"audio_config": "{sample_rate: 8000, container: raw, encoding: pcm_alaw}"}, "alaw"),
    ],
)
def test_companded_sound_arrives_as_it_decodes(
    agent: Start,
    configured: Callable[[str], str],
    tones: Wired,
    tmp_path: Path,
    service: str,
    settings: dict[str, object],
    law: str,
) -> None:
    config = configured(configuration(tones, service, **settings))
    assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
    expected = create_decoder("raw", law, 8000, 1).feed(compand(tone.pcm(TEXT, 8000), law))
    assert heard(tmp_path / "out.wav") == (8000, 1, expected)


@pytest.mark.parametrize("layout", ["header", "first", "every"])
@pytest.mark.parametrize("service", ["vachana", "fish"])
def test_no_header_is_ever_heard_wherever_it_stands(
    agent: Start, configured: Callable[[str], str], tmp_path: Path, service: str, layout: str
) -> None:
    with Wired(tmp_path / "server", "--speech", "tone", "--recognition", "none", "--wav-layout", layout) as server:
        config = configured(configuration(server, service))
        assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
        assert heard(tmp_path / "out.wav") == (44100, 1, tone.pcm(TEXT, 44100))


@pytest.mark.parametrize("container", ["wav", "raw"])
def test_vachanas_bare_binary_chunks_arrive_as_well(
    agent: Start, configured: Callable[[str], str], tmp_path: Path, container: str
) -> None:
    arguments = ("--speech", "tone", "--recognition", "none", "--vachana-binary")
    with Wired(tmp_path / "server", *arguments) as server:
        config = configured(configuration(server, "vachana", audio_config=f"{{container: {container}}}"))
        assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
        assert heard(tmp_path / "out.wav") == (44100, 1, tone.pcm(TEXT, 44100))


def test_neuphonic_that_never_tells_its_stops_ends_by_silence(
    agent: Start, configured: Callable[[str], str], tmp_path: Path
) -> None:
    arguments = ("--speech", "tone", "--recognition", "none", "--no-stop-flags")
    with Wired(tmp_path / "server", *arguments) as server:
        config = configured(configuration(server, "neuphonic"))
        assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
        assert heard(tmp_path / "out.wav") == (22050, 1, tone.pcm(TEXT, 22050))


@pytest.mark.parametrize(
    ("service", "settings"),
    [
        ("playai", {"output_format": "mp3"}),
        ("playai", {"output_format": "ogg"}),
        ("fish", {"format": "mp3"}),
        ("fish", {"format": "opus"}),
        ("vachana", {"audio_config": "{container: mp3}"}),
        ("vachana", {"audio_config": "{sample_rate: 48000, container: ogg, encoding: oggopus}"}),
    ],
)
def test_compressed_sound_has_the_right_length_and_the_right_tones(
    agent: Start,
    configured: Callable[[str], str],
    tones: Wired,
    tmp_path: Path,
    service: str,
    settings: dict[str, object],
) -> None:
    config = configured(configuration(tones, service, **settings))
    process = agent("say", "--config", config, "--output", "out.wav", TEXT)
    assert (process.end(), process.lines_of_error()) == (0, [])
    rate, channels, pcm = heard(tmp_path / "out.wav")
    words = TEXT.split()
    assert channels == 1
    assert abs(len(pcm) / 2 / rate - len(words) * tone.WORD_SECONDS) <= 0.1
    samples = memoryview(pcm).cast("h")
    for number, word in enumerate(words):
        # The middle of each word, so that what a codec smears over its ends does not count.
        start, end = (round((number + share) * tone.WORD_SECONDS * rate) for share in (0.3, 0.7))
        loudest = max(range(300, 2800, 25), key=lambda hertz: power(samples[start:end], hertz, rate))
        assert loudest == tone.frequency(word), f"word {number}, {word}"


def power(samples: memoryview, hertz: float, rate: int) -> float:
    """Goertzel's: how much of one frequency is in the samples."""
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + turn * last - before
    return before * before + last * last - turn * before * last


def test_a_stream_begins_with_a_header_of_open_length_and_holds_every_sample(
    agent: Start, configured: Callable[[str], str], tones: Wired
) -> None:
    config = configured(configuration(tones, "local"))
    process = agent("say", "--config", config, "--output", "-", TEXT)
    assert process.end() == 0
    wav = process.stdout.whole()
    reader = create_decoder("wav", "s16le", 8000, 1)
    assert reader.feed(wav) + reader.finish() == tone.pcm(TEXT, 22050)
    assert reader.format is not None and reader.format.rate == 22050


@pytest.mark.parametrize("service", ["local", "neuphonic", "playai", "vachana", "fish"])
def test_a_text_of_many_passages_is_spoken_whole(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path, service: str
) -> None:
    """A service that takes one passage in a session was never told that the session was over when more of them waited,
    and ``say`` waited for ever."""
    text = " ".join(f"This is sentence number {number} of the whole long text." for number in range(40))
    config = configured(configuration(tones, service))
    process = agent("say", "--config", config, "--output", "out.wav", text)
    assert (process.end(), process.lines_of_error()) == (0, [])
    rate, _, pcm = heard(tmp_path / "out.wav")
    assert pcm == tone.pcm(text, rate)


SERVICES = ["local", "neuphonic", "playai", "vachana", "fish"]


@pytest.mark.parametrize("service", SERVICES)
def test_text_is_spoken_while_it_is_still_being_written(
    agent: Start, configured: Callable[[str], str], tones: Wired, service: str
) -> None:
    """The writer waits for the first sound before it writes the last line: a program that gathered would hang."""
    process = agent("say", "--config", configured(configuration(tones, service)), "--output", "-", "-", stdin=True)
    process.write("The first line is here. ")
    process.write("The second one follows. Here the\n")
    process.stdout.await_bytes(2000)
    last_written_at = time.monotonic()
    process.write("third has begun, and this is the last.")
    process.close_stdin()
    assert process.end() == 0, process.errors
    assert process.stdout.first_at is not None and process.stdout.first_at < last_written_at
    reader = create_decoder("wav", "s16le", 8000, 1)
    pcm = reader.feed(process.stdout.whole()) + reader.finish()
    assert reader.format is not None
    text = "The first line is here. The second one follows. Here the\nthird has begun, and this is the last."
    assert pcm == tone.pcm(text, reader.format.rate)
