"""A microphone or a speaker that cannot be used is named, with what to do about it."""

from __future__ import annotations

import array
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.cli.doctor.finding import BROKEN, DOUBTFUL, FINE, exit_code
from agent.cli.doctor.sound import check_microphone, check_speaker
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]


def test_a_microphone_that_hears_is_fine_and_says_how_loud_it_is(loaded: Read, card: VirtualCard) -> None:
    card.inject(array.array("h", [3000, -3000] * 240_000).tobytes(), SPEECH)
    found = check_microphone(loaded("microphone: {device: mic}\n"))
    assert found.verdict == FINE and "level -" in found.saw and "Hz" in found.saw


def test_a_microphone_that_hears_not_even_noise_is_doubtful(loaded: Read, card: VirtualCard) -> None:
    found = check_microphone(loaded("microphone: {device: mic}\n"))
    assert found.verdict == DOUBTFUL and "not even noise" in found.saw and "alsamixer" in found.cure


def test_a_microphone_that_is_gone_is_named_with_what_there_is(loaded: Read, card: VirtualCard) -> None:
    found = check_microphone(loaded("microphone: {device: USB PnP}\n"))
    assert found.verdict == BROKEN and "USB PnP" in found.saw
    assert "voice-agent devices" in found.cure and "config.yaml:1" in found.cure


def test_a_microphone_that_somebody_else_holds_is_named(loaded: Read, card: VirtualCard) -> None:
    card.fault("busy")
    found = check_microphone(loaded("microphone: {device: mic}\n"))
    assert found.verdict == BROKEN and "fuser -v /dev/snd" in found.cure
    assert check_microphone(loaded("microphone: {device: mic}\n"), in_use=True).verdict == FINE


@pytest.mark.parametrize("name", ["hw:7,0", "plughw:CARD=Nowhere,DEV=0", "sysdefault:CARD=Nowhere"])
def test_a_card_that_is_not_there_is_held_by_no_daemon(loaded: Read, name: str) -> None:
    # With the daemon running it was said to have the card, and all was fine.
    found = check_speaker(loaded(f'speaker: {{device: "{name}"}}\n'), in_use=True)
    assert found.verdict == BROKEN and name in found.saw and "voice-agent devices" in found.cure


def test_a_card_that_refuses_every_rate_is_named_with_the_line_that_converts(loaded: Read, card: VirtualCard) -> None:
    card.add(f'pcm.odd {{ type vcard playback_file "/dev/null" control "{card.folder}/ctl" rates [ 11025 ] }}')
    found = check_speaker(loaded("speaker: {device: odd}\n"))
    assert found.verdict == BROKEN and "takes none of the formats" in found.saw
    assert "plughw:" in found.cure and exit_code([found]) == 78


def test_a_speaker_that_takes_sound_is_fine(loaded: Read, card: VirtualCard) -> None:
    found = check_speaker(loaded("speaker: {device: speaker}\n"))
    assert found.verdict == FINE and "takes sound" in found.saw
    assert check_speaker(loaded("speaker: {device: speaker, volume: 0}\n")).verdict == DOUBTFUL


def test_a_recording_that_cannot_be_written_is_named(
    loaded: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "records"
    there.mkdir()
    assert check_speaker(loaded(f"speaker: {{device: 'file:{there}/a.wav'}}\n")).verdict == FINE
    assert not list(there.iterdir())  # nothing is left behind
    # Root may write anywhere but where a kernel says no.
    place = Path("/proc/self") if os.geteuid() == 0 else there
    if os.geteuid() != 0:
        there.chmod(0o500)
    found = check_speaker(loaded(f"speaker: {{device: 'file:{place}/a.wav'}}\n"))
    assert found.verdict == BROKEN and "cannot be written" in found.saw and "chown" in found.cure


def test_no_device_where_none_is_wanted_is_fine(loaded: Read) -> None:
    read = loaded("microphone: {device: none}\nspeaker: {device: none}\n")
    assert check_microphone(read).verdict == check_speaker(read).verdict == FINE
