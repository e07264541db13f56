"""Phrases in the synthesizer: kept after the end mark, and played without a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.scripted import Scripted, refuses
from support.tts_pipeline import Inbox, RingReader
from support.voices import RATE, Voice, hangs_up, sound, standby

from agent.audio.format import Format
from agent.daemon.connection_builder import CLOSE_TIMING
from agent.pipeline.events import AudioArrived, ServiceDown, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.ring_buffer import RingBuffer, UtteranceEnd, UtteranceStart
from agent.pipeline.tts.phrase_cache import PhraseCache
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey
from agent.pipeline.tts.phrases import Phrases
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.pipeline.utterance import Delivery, Utterance
from agent.services.connection.standby import Sound
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0
TEXT = "The train departs."
ENDS = (UtterancePlayed, UtteranceFailed, UtteranceCancelled)


class Stage:
    """A synthesizer with phrases, in front of scripted services. Not thread-safe; owned by the test."""

    def __init__(self, phrases: Phrases, *scripts: object, sound: str = "(voice='a')", reads: bool = True) -> None:
        self._stack, self._phrases = ExitStack(), phrases
        self.events = Inbox()
        self.ring = RingBuffer(1 << 22)
        self.reader = RingReader(self.ring, self.events.put)
        servers = [self._stack.enter_context(Scripted(script)) for script in scripts]  # type: ignore[arg-type]
        services = [standby(server, self.events.put, f"voice{at}") for at, server in enumerate(servers)]
        for service in services:
            service.sound = Sound(sound, "a")
        self.synthesizer = Synthesizer(
            self.ring, services, self.events.put, phrases=lambda: phrases, close_timing=CLOSE_TIMING, can_suspend=True
        )
        if reads:
            self.reader.start()
        self.synthesizer.start()

    def say(self, text: str = TEXT, **more: object) -> tuple[object, bytes]:
        """Speak a text; return its last event and the audio."""
        name = f"u{len(self.events.of(*ENDS))}"
        self.synthesizer.begin(Utterance(name, text, **{"source": "say", **more}))  # type: ignore[arg-type]
        return self.ended(name)

    def ended(self, name: str) -> tuple[object, bytes]:
        self.events.until(lambda: any(end.utterance == name for end in self.events.of(*ENDS)))
        (end,) = [end for end in self.events.of(*ENDS) if end.utterance == name]
        return end, self.reader.heard.get(name, b"")

    def arrivals(self) -> list[tuple[str, bool]]:
        return [(event.service, event.is_phrase) for event in self.events.of(AudioArrived)]

    def close(self) -> None:
        self.synthesizer.stop()
        assert self.synthesizer.join(Deadline(TIMEOUT_SECONDS)), "the synthesizer did not end"
        self._phrases.close(Deadline(TIMEOUT_SECONDS))  # the synthesizer waits only a little for a slow disk
        self.reader.join(TIMEOUT_SECONDS)
        self._stack.close()


@pytest.fixture
def cache(tmp_path: Path) -> PhraseCache:
    return PhraseCache(tmp_path / "phrases", 20_000_000)


@pytest.fixture
def stage(cache: PhraseCache) -> Iterator[Callable[..., Stage]]:
    with ExitStack() as stack:

        def build(*scripts: object, phrases: Phrases | None = None, **more: Any) -> Stage:
            built = Stage(phrases or Phrases(cache), *scripts, **more)
            stack.callback(built.close)
            return built

        yield build


def kept(cache: PhraseCache) -> list[Phrase]:
    found = [cache.find(entry.key) for entry in cache.entries(checks=True) if entry.key is not None]
    return [phrase for phrase in found if phrase is not None]


def speak_once(stage: Callable[..., Stage], cache: PhraseCache, text: str = TEXT, **more: object) -> list[Phrase]:
    """Speak a text with a stage of its own; return what it leaves on the disk."""
    one = stage(Voice())
    end, heard = one.say(text, **more)
    assert isinstance(end, UtterancePlayed) and heard
    one.close()
    return kept(cache)


def test_speech_is_kept_and_played_again_without_the_service(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    (phrase,) = speak_once(stage, cache)
    assert phrase == Phrase(PhraseKey("voice0", "(voice='a')", TEXT), "a", Format(RATE), sound(TEXT))
    offline = stage(refuses)
    end, heard = offline.say(f"  {TEXT.replace(' ', '  ')} ")
    assert isinstance(end, UtterancePlayed) and heard == sound(TEXT)
    assert offline.arrivals() == [("voice0", True)]


def test_a_text_of_several_sessions_is_one_phrase(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    text = " ".join(f"This is sentence number {number} of the text." for number in range(25))
    (phrase,) = speak_once(stage, cache, text)
    one = stage(refuses)
    _, heard = one.say(text)
    assert heard == phrase.pcm and len(heard) > 25 * 1000


@pytest.mark.parametrize("is_stored", [False, True])
def test_the_speaker_learns_whether_the_audio_is_stored(
    stage: Callable[..., Stage], cache: PhraseCache, is_stored: bool
) -> None:
    if is_stored:
        speak_once(stage, cache)
    one = stage(Voice())
    one.say()
    assert one.reader.playouts["u0"].starts_stored == is_stored


def test_another_voice_does_not_get_the_phrase(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    speak_once(stage, cache)
    other = stage(Voice(), sound="(voice='b')")
    other.say()
    assert other.arrivals() == [("voice0", False)]


@pytest.mark.parametrize(
    "more", [{"source": "reply"}, {"delivery": Delivery(keep=False)}], ids=["reply", "keep is false"]
)
def test_speech_that_must_not_be_kept_leaves_no_file(
    stage: Callable[..., Stage], cache: PhraseCache, more: dict[str, object]
) -> None:
    assert speak_once(stage, cache, **more) == []


def test_replies_are_kept_if_the_configuration_asks_for_it(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    one = stage(Voice(), phrases=Phrases(cache, keeps_replies=True))
    one.say(source="reply")
    one.close()
    assert [phrase.key.text for phrase in kept(cache)] == [TEXT]


def test_only_the_listed_services_are_kept(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    one = stage(Voice(), phrases=Phrases(cache, ["voice1"]))
    one.say()
    one.close()
    assert kept(cache) == []


def test_speech_that_failed_is_not_kept(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    voice = Voice(after=0, chunks=1, then=hangs_up)
    voice.go.set()
    one = stage(voice)
    end, _ = one.say()
    one.close()
    assert isinstance(end, UtteranceFailed) and kept(cache) == []


def test_text_in_pieces_is_kept_when_it_is_complete(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    one = stage(Voice())
    one.synthesizer.begin(Utterance("pieces", None, source="say"))
    for piece in ("The tr", "ain dep", "arts."):
        one.synthesizer.append_text("pieces", piece)
    one.synthesizer.complete("pieces")
    one.ended("pieces")
    one.close()
    assert [phrase.key.text for phrase in kept(cache)] == [TEXT]


def test_a_phrase_of_a_later_service_is_played_while_all_services_are_down(
    stage: Callable[..., Stage], cache: PhraseCache
) -> None:
    cache.store(Phrase(PhraseKey("voice1", "(voice='a')", TEXT), "a", Format(RATE), b"ab" * 500))
    one = stage(refuses, refuses)
    one.events.until(lambda: any(event.service == "voice0" for event in one.events.of(ServiceDown)))
    end, heard = one.say()
    assert isinstance(end, UtterancePlayed) and heard == b"ab" * 500


def test_a_working_first_service_comes_before_the_phrase_of_a_later_one(
    stage: Callable[..., Stage], cache: PhraseCache
) -> None:
    cache.store(Phrase(PhraseKey("voice1", "(voice='a')", TEXT), "a", Format(RATE), b"ab" * 500))
    one = stage(Voice(), refuses)
    assert one.say()[1] == sound(TEXT)


def test_a_damaged_phrase_is_spoken_afresh_and_kept_again(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    speak_once(stage, cache)
    (entry,) = cache.entries()
    data = bytearray(entry.path.read_bytes())
    data[-1] ^= 1
    entry.path.write_bytes(data)
    (phrase,) = speak_once(stage, cache)
    assert phrase.pcm == sound(TEXT)


def test_a_directory_that_cannot_be_written_is_reported_once_and_speech_goes_on(
    stage: Callable[..., Stage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    one = stage(Voice(), phrases=Phrases(PhraseCache(tmp_path / "file" / "phrases", 1_000_000)))
    for text in ("One.", "Two.", "Three."):
        assert isinstance(one.say(text)[0], UtterancePlayed)
    one.close()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in warnings if "cannot be written" in line]) == 1


def test_a_cancelled_phrase_ends_in_one_state(stage: Callable[..., Stage], cache: PhraseCache) -> None:
    cache.store(Phrase(PhraseKey("voice0", "(voice='a')", TEXT), "a", Format(RATE), b"ab" * 100_000))
    one = stage(refuses)
    one.synthesizer.begin(Utterance("long", TEXT, source="say"))
    one.synthesizer.cancel_all("test")
    end, _ = one.ended("long")
    assert isinstance(end, UtteranceCancelled | UtterancePlayed)
    assert isinstance(one.say()[0], UtterancePlayed)


def test_an_interrupted_phrase_continues_with_the_sentence_that_it_was_in(
    stage: Callable[..., Stage], cache: PhraseCache
) -> None:
    format = Format(RATE)
    text = "One two three. Four five six. Seven eight nine."
    loud, pause = b"\0\x20" * RATE, bytes(format.bytes_of(0.2))  # one second each, with pauses between
    pcm = (loud + pause) * 3
    cache.store(Phrase(PhraseKey("voice0", "(voice='a')", text), "a", format, pcm))
    one = stage(refuses, reads=False)
    one.synthesizer.begin(Utterance("a", text, source="say"))
    assert isinstance(one.ring.read(1, TIMEOUT_SECONDS), UtteranceStart)
    assert one.ring.wait_readable(len(pcm), TIMEOUT_SECONDS)
    one.synthesizer.suspend("a", "an alarm")
    assert isinstance(one.ring.read(1, TIMEOUT_SECONDS), UtteranceEnd)
    one.reader.start()
    one.synthesizer.resume("a", 1.5)
    one.events.until(lambda: bool(one.events.of(UtterancePlayed)))
    assert one.reader.heard["a"] == pcm[len(loud) :], "it begins in the pause before the second sentence"
