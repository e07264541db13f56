"""The notice of an outage: once for each outage, in the configured language, prepared before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.audio.format import Format
from agent.daemon import outage_notice
from agent.daemon.outage_notice import OutageNotice
from agent.errors import AudioError
from agent.pipeline.events import AudioArrived, Event, ServiceUp, UtteranceFailed
from agent.pipeline.tts.notice import SENTENCES, TONE_FORMAT, tone
from agent.pipeline.utterance import Urgency
from agent.services.protocols import local
from agent.settings.model import Config

FAILED = UtteranceFailed("u-1", "all services failed", no_service=True)
SPOKEN = AudioArrived("u-2", "fish")
PCM = b"ab" * 500


def render(text: str) -> tuple[Format, bytes]:
    return Format(16000), PCM


@pytest.fixture
def notice(tmp_path: Path) -> OutageNotice:
    return OutageNotice(lambda: Config(), tmp_path / "state", render, prepare_seconds=0.0)


def said(notice: OutageNotice, *events: Event) -> list[str]:
    utterances = [notice.update(event, "run") for event in events]
    return [utterance.id for utterance in utterances if utterance is not None]


def test_an_outage_is_announced_once_and_the_next_one_again(notice: OutageNotice) -> None:
    assert said(notice, FAILED, FAILED, FAILED) == ["run-notice-1"]
    assert said(notice, SPOKEN, FAILED, FAILED) == ["run-notice-2"]


def test_the_notice_waits_for_no_message_and_expires(notice: OutageNotice) -> None:
    utterance = notice.update(FAILED, "run")
    assert utterance is not None and utterance.text == SENTENCES["en"]
    assert (utterance.urgency, utterance.priority, utterance.source) == (Urgency.MESSAGE, 100, "notice")
    assert utterance.delivery.ttl_seconds is not None and not utterance.delivery.keep


@pytest.mark.parametrize(
    "event", [UtteranceFailed("u-1", "the speaker failed"), UtteranceFailed("u-1", "broke off", 1.5), SPOKEN]
)
def test_other_ends_are_no_outage(notice: OutageNotice, event: Event) -> None:
    assert said(notice, event) == []


def test_a_phrase_from_the_disk_does_not_end_an_outage(notice: OutageNotice) -> None:
    assert len(said(notice, FAILED, AudioArrived("u-2", "fish", is_phrase=True), FAILED)) == 1


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 2), (3600.0, 1)])
def test_a_service_that_is_available_for_some_time_ends_the_outage(
    notice: OutageNotice, seconds: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage_notice, "RECOVERY_SECONDS", seconds)
    assert len(said(notice, FAILED, ServiceUp("fish", 3), FAILED, FAILED)) == count


def test_before_it_is_prepared_the_notice_is_a_tone(notice: OutageNotice) -> None:
    assert notice.audio() == (TONE_FORMAT, tone(TONE_FORMAT))


def test_start_prepares_the_sentence_in_the_background_once(tmp_path: Path) -> None:
    rendered = threading.Semaphore(0)
    texts: list[str] = []

    def count(text: str) -> tuple[Format, bytes]:
        texts.append(text)
        rendered.release()
        return render(text)

    notice = OutageNotice(lambda: Config(), tmp_path, count, prepare_seconds=0.0)
    notice.start()
    assert rendered.acquire(timeout=30)
    notice.close()
    format, pcm = notice.audio()
    assert format == Format(16000) and pcm.startswith(tone(format)) and pcm.endswith(PCM)
    notice.start()
    notice.close()
    assert texts == [SENTENCES["en"]]


def test_start_does_not_wait_for_a_preparation_in_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_notice, "END_SECONDS", 300.0)
    begins, is_released = threading.Semaphore(0), threading.Event()
    texts: list[str] = []

    def wait(text: str) -> tuple[Format, bytes]:
        texts.append(text)
        begins.release()
        assert is_released.wait(60)
        return render(text)

    current = [Config()]
    notice = OutageNotice(lambda: current[0], tmp_path, wait, prepare_seconds=0.0)
    notice.start()
    assert begins.acquire(timeout=30)
    current[0] = with_text("Out of order.")
    restart = threading.Thread(target=notice.start)
    restart.start()
    restart.join(30)
    is_waiting = restart.is_alive()
    is_released.set()
    assert not is_waiting
    assert begins.acquire(timeout=30)
    notice.close()
    assert texts == [SENTENCES["en"], "Out of order."]
    assert notice.audio()[1].endswith(PCM) and len(list(tmp_path.iterdir())) == 1


def with_voice(voice: str) -> Config:
    synthesis = Config().synthesis
    return Config()._replace(synthesis=synthesis._replace(sections={"local": local.Settings(voice=voice)}))


def with_text(text: str) -> Config:
    return Config()._replace(synthesis=Config().synthesis._replace(unavailable_text=text))


def with_language(language: str) -> Config:
    synthesis = Config().synthesis
    return Config()._replace(synthesis=synthesis._replace(text=synthesis.text._replace(language=language)))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (with_voice("de"), SENTENCES["de"]),
        (with_voice("espeak:fr"), SENTENCES["fr"]),
        (with_voice("flite:slt"), SENTENCES["en"]),
        (with_voice("hi"), SENTENCES["en"]),
        (with_language("it"), SENTENCES["it"]),
        (with_text("Out of order."), "Out of order."),
    ],
    ids=["de", "espeak:fr", "flite:slt", "hi", "it", "own text"],
)
def test_the_sentence_follows_the_configuration(tmp_path: Path, config: Config, text: str) -> None:
    used: Callable[[], Config] = lambda: current[0]  # noqa: E731
    current = [Config()]
    notice = OutageNotice(used, tmp_path, render)
    notice.prepare()
    current[0] = config
    assert notice.text == text
    assert notice.audio() == (TONE_FORMAT, tone(TONE_FORMAT))
    notice.prepare()
    assert notice.audio()[1].endswith(PCM)
    assert len(list(tmp_path.iterdir())) == 1, "the sentence of the old configuration is deleted"


def test_without_an_engine_the_notice_stays_a_tone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(text: str) -> tuple[Format, bytes]:
        raise AudioError("no engine")

    notice = OutageNotice(lambda: Config(), tmp_path, fail)
    notice.prepare()
    assert notice.audio() == (TONE_FORMAT, tone(TONE_FORMAT))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
