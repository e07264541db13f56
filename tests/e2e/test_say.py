"""``say``: every lossless format arrives sample by sample, mp3 and Ogg Opus with the right tones in the right time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start, service_config
from support.processes import WireLoggedServer
from support.wav import read_wav

from agent.audio.decoders.decoder import create_decoder
from agent.audio.format import Format
from agent.server.encoders.g711 import compand
from agent.server.tts import tone

TEXT = "Hello there, my friend! How are you today? I am fine. And so are all the others."


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
def test_lossless_formats_deliver_every_sample(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    service: str,
    settings: dict[str, object],
    rate: int,
) -> None:
    config = write_config(service_config(tone_server, service, **settings))
    process = agent("say", "--config", config, "--service", service, "--output", "out.wav", TEXT)
    assert (process.end(), process.error_lines()) == (0, [])
    assert read_wav(tmp_path / "out.wav") == (Format(rate, 1), tone.pcm(TEXT, rate))
    assert process.output == ""


@pytest.mark.parametrize(
    ("service", "settings", "law"),
    [
        ("playai", {"output_format": "mulaw", "sample_rate": 8000}, "mulaw"),
        ("vachana", {"audio_config": "{sample_rate: 8000, container: raw, encoding: pcm_mulaw}"}, "mulaw"),
        ("vachana", {"audio_config": "{sample_rate: 8000, container: raw, encoding: pcm_alaw}"}, "alaw"),
    ],
)
def test_companded_formats_deliver_every_sample(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    service: str,
    settings: dict[str, object],
    law: str,
) -> None:
    config = write_config(service_config(tone_server, service, **settings))
    assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
    expected = create_decoder("raw", law, 8000, 1).feed(compand(tone.pcm(TEXT, 8000), law))
    assert read_wav(tmp_path / "out.wav") == (Format(8000, 1), expected)


@pytest.mark.parametrize("layout", ["header", "first", "every"])
@pytest.mark.parametrize("service", ["vachana", "fish"])
def test_no_wav_header_is_played_in_any_layout(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, service: str, layout: str
) -> None:
    with WireLoggedServer(
        tmp_path / "server", "--speech", "tone", "--recognition", "none", "--wav-layout", layout
    ) as server:
        config = write_config(service_config(server, service))
        assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
        assert read_wav(tmp_path / "out.wav") == (Format(44100, 1), tone.pcm(TEXT, 44100))


@pytest.mark.parametrize("container", ["wav", "raw"])
def test_vachana_binary_messages_deliver_every_sample(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, container: str
) -> None:
    arguments = ("--speech", "tone", "--recognition", "none", "--vachana-binary")
    with WireLoggedServer(tmp_path / "server", *arguments) as server:
        config = write_config(service_config(server, "vachana", audio_config=f"{{container: {container}}}"))
        assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
        assert read_wav(tmp_path / "out.wav") == (Format(44100, 1), tone.pcm(TEXT, 44100))


def test_neuphonic_without_stop_flags_ends_after_silence(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    arguments = ("--speech", "tone", "--recognition", "none", "--no-stop-flags")
    with WireLoggedServer(tmp_path / "server", *arguments) as server:
        config = write_config(service_config(server, "neuphonic"))
        assert agent("say", "--config", config, "--output", "out.wav", TEXT).end() == 0
        assert read_wav(tmp_path / "out.wav") == (Format(22050, 1), tone.pcm(TEXT, 22050))


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
def test_compressed_formats_deliver_the_tones_and_length(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    service: str,
    settings: dict[str, object],
) -> None:
    config = write_config(service_config(tone_server, service, **settings))
    process = agent("say", "--config", config, "--output", "out.wav", TEXT)
    assert (process.end(), process.error_lines()) == (0, [])
    audio_format, pcm = read_wav(tmp_path / "out.wav")
    words = TEXT.split()
    rate = audio_format.rate
    assert audio_format.channels == 1
    assert abs(len(pcm) / 2 / rate - len(words) * tone.WORD_SECONDS) <= 0.1
    samples = memoryview(pcm).cast("h")
    for number, word in enumerate(words):
        # The middle of each word, so that what a codec smears over its ends does not count.
        start, end = (round((number + share) * tone.WORD_SECONDS * rate) for share in (0.3, 0.7))
        loudest = max(range(300, 2800, 25), key=lambda hertz: power(samples[start:end], hertz, rate))
        assert loudest == tone.frequency(word), f"word {number}, {word}"


def power(samples: memoryview, hertz: float, rate: int) -> float:
    """Return the power of one frequency in the samples (Goertzel's algorithm)."""
    turn = 2 * math.cos(2 * math.pi * hertz / rate)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + turn * last - before
    return before * before + last * last - turn * before * last


def test_output_to_stdout_is_a_wav_stream_with_every_sample(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--output", "-", TEXT)
    assert process.end() == 0
    wav = process.stdout.whole()
    reader = create_decoder("wav", "s16le", 8000, 1)
    assert reader.feed(wav) + reader.finish() == tone.pcm(TEXT, 22050)
    assert reader.format is not None and reader.format.rate == 22050


@pytest.mark.parametrize("service", ["local", "neuphonic", "playai", "vachana", "fish"])
def test_a_text_of_many_passages_is_spoken_completely(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path, service: str
) -> None:
    """A service with one passage per session gets an end mark also when more passages are queued."""
    text = " ".join(f"This is sentence number {number} of the whole long text." for number in range(20))
    config = write_config(service_config(tone_server, service))
    process = agent("say", "--config", config, "--output", "out.wav", text)
    assert (process.end(), process.error_lines()) == (0, [])
    audio_format, pcm = read_wav(tmp_path / "out.wav")
    assert pcm == tone.pcm(text, audio_format.rate)


SERVICES = ["local", "neuphonic", "playai", "vachana", "fish"]


@pytest.mark.parametrize("service", SERVICES)
def test_stdin_is_spoken_while_it_is_written(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, service: str
) -> None:
    """The test writes the last line after the first audio: a ``say`` that read to the end first would hang."""
    process = agent(
        "say", "--config", write_config(service_config(tone_server, service)), "--output", "-", "-", stdin=True
    )
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
