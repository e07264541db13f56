"""What C libraries print about sound cards never reaches the user; what the program prints always does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from agent.audio.devices.c_stderr import capture_stderr

ALSA = b"ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM plughw:CARD=Foo\n"


def chat(text: bytes) -> None:
    """Prints as a C library does."""
    library = ctypes.CDLL(None)
    library.fputs(text, ctypes.c_void_p.in_dll(library, "stderr"))


def test_chatter_is_held_back_and_its_words_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr() as chatter:
        chat(b"Cannot connect to server socket err = No such file or directory\n\n")
        chat(ALSA)
        chat(b"Expression 'ret' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 1736\n")
        assert chatter.words == "Unknown PCM plughw:CARD=Foo"
    assert capfd.readouterr().err == ""


def test_the_first_words_since_listening_count() -> None:
    with capture_stderr() as chatter:
        chat(ALSA)
        chatter.listen()
        assert chatter.words == ""
        chat(b"ALSA lib confmisc.c:165:(snd_config_get_card) Cannot get card index for Foo\n" + ALSA)
        assert chatter.words == "Cannot get card index for Foo"


def test_each_block_begins_with_nothing_said() -> None:
    with capture_stderr():
        chat(ALSA)
    with capture_stderr() as chatter:
        assert chatter.words == ""
        chat(b"ALSA lib a.c:1:(f) something else\n")
        assert chatter.words == "something else"


def test_what_is_printed_later_stays_quiet_too(capfd: pytest.CaptureFixture[str]) -> None:
    """A card that was lost in the middle of an utterance used to put PortAudio's lines between those of the log."""
    with capture_stderr():
        pass
    chat(b"Expression 'err' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 3384\n" * 100)
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().err == ""


def test_what_the_program_prints_meanwhile_comes_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr():
        print("a line of the log", file=sys.stderr, flush=True)
        chat(ALSA)
        assert capfd.readouterr().err == "a line of the log\n"


def test_a_child_that_is_started_meanwhile_has_the_real_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A local server that was started while a card was opened used to lose its log for as long as it lived."""
    with capture_stderr():
        child = subprocess.Popen(["sh", "-c", "read line; echo still heard >&2"], stdin=subprocess.PIPE)
    child.communicate(b"go on\n")
    assert capfd.readouterr().err == "still heard\n"


def test_ten_thousand_lines_do_not_block(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr() as chatter:
        chat(ALSA * 10_000)
        assert chatter.words
    chat(ALSA * 10_000)
    assert capfd.readouterr().err == ""


def test_control_characters_do_not_come_through() -> None:
    with capture_stderr() as chatter:
        chat(b"ALSA lib a.c:1:(f) \x1b]0;evil\x07 \xff name" + b"x" * 1000 + b"\n")
        assert chatter.words.isprintable() and len(chatter.words) <= 160


def test_no_descriptor_is_left_open() -> None:
    with capture_stderr():
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with capture_stderr():
            pass
    assert len(os.listdir("/proc/self/fd")) <= before  # what an earlier test has left may end meanwhile


def test_an_error_inside_goes_through() -> None:
    with pytest.raises(ValueError), capture_stderr():
        raise ValueError
