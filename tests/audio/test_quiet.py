"""What C libraries print while a card is opened never reaches the user, and what the program prints always does."""

from __future__ import annotations

import os

import pytest

from agent.audio.quiet import quiet

ALSA = b"ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM plughw:CARD=Foo\n"


def test_chatter_is_held_back_and_its_words_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet() as chatter:
        os.write(2, ALSA)
        os.write(2, b"Cannot connect to server socket err = No such file or directory\n\n")
        os.write(2, b"Expression 'ret' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 1736\n")
        assert chatter.words == "Unknown PCM plughw:CARD=Foo"
    assert capfd.readouterr().err == ""


def test_the_first_words_since_listening_count() -> None:
    with quiet() as chatter:
        os.write(2, ALSA)
        chatter.listen()
        assert chatter.words == ""
        os.write(2, b"ALSA lib confmisc.c:165:(snd_config_get_card) Cannot get card index for Foo\n" + ALSA)
        assert chatter.words == "Cannot get card index for Foo"


def test_what_the_program_prints_meanwhile_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(2, b"a line of the log\n" + ALSA + b"another one\n")
    assert capfd.readouterr().err == "a line of the log\nanother one\n"


def test_standard_error_is_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), quiet():
        raise ValueError
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_ten_thousand_lines_do_not_block(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet() as chatter:
        for _ in range(10_000):
            os.write(2, ALSA)
        assert chatter.words
    assert capfd.readouterr().err == ""


def test_control_characters_do_not_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet() as chatter:
        os.write(2, b"ALSA lib a.c:1:(f) \x1b]0;evil\x07 \xff name" + b"x" * 1000 + b"\n")
        assert chatter.words.isprintable() and len(chatter.words) <= 160


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with quiet():
            pass
    assert len(os.listdir("/proc/self/fd")) == before
