"""Capture of C stderr: messages of the libraries never reach the user, output of the program always does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from agent.audio.devices.c_stderr import capture_stderr

ALSA = b"ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM plughw:CARD=Foo\n"


def print_to_c_stderr(text: bytes) -> None:
    """Print to the C stream stderr."""
    library = ctypes.CDLL(None)
    library.fputs(text, ctypes.c_void_p.in_dll(library, "stderr"))


def test_first_message_of_alsa_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr() as messages:
        print_to_c_stderr(b"Cannot connect to server socket err = No such file or directory\n\n")
        print_to_c_stderr(ALSA)
        print_to_c_stderr(b"Expression 'ret' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 1736\n")
        assert messages.messages[0] == "Unknown PCM plughw:CARD=Foo"
    assert capfd.readouterr().err == ""


def test_reset_discards_earlier_messages() -> None:
    with capture_stderr() as messages:
        print_to_c_stderr(ALSA)
        messages.reset()
        assert messages.messages == []
        print_to_c_stderr(b"ALSA lib confmisc.c:165:(snd_config_get_card) Cannot get card index for Foo\n" + ALSA)
        assert messages.messages[0] == "Cannot get card index for Foo"


def test_each_capture_starts_empty() -> None:
    with capture_stderr():
        print_to_c_stderr(ALSA)
    with capture_stderr() as messages:
        assert messages.messages == []
        print_to_c_stderr(b"ALSA lib a.c:1:(f) something else\n")
        assert messages.messages[0] == "something else"


def test_messages_after_the_capture_are_discarded(capfd: pytest.CaptureFixture[str]) -> None:
    """PortAudio prints when a running card is lost, outside of any capture."""
    with capture_stderr():
        pass
    print_to_c_stderr(b"Expression 'err' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 3384\n" * 100)
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().err == ""


def test_output_of_the_program_is_not_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr():
        print("a line of the log", file=sys.stderr, flush=True)
        print_to_c_stderr(ALSA)
        assert capfd.readouterr().err == "a line of the log\n"


def test_child_process_keeps_the_real_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """The local server may be started while a card is opened."""
    with capture_stderr():
        child = subprocess.Popen(["sh", "-c", "read line; echo still heard >&2"], stdin=subprocess.PIPE)
    child.communicate(b"go on\n")
    assert capfd.readouterr().err == "still heard\n"


def test_ten_thousand_lines_do_not_block(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr() as messages:
        print_to_c_stderr(ALSA * 10_000)
        assert messages.messages[0]
    print_to_c_stderr(ALSA * 10_000)
    assert capfd.readouterr().err == ""


def test_control_characters_are_replaced() -> None:
    with capture_stderr() as messages:
        print_to_c_stderr(b"ALSA lib a.c:1:(f) \x1b]0;evil\x07 \xff name" + b"x" * 1000 + b"\n")
        assert messages.messages[0].isprintable() and len(messages.messages[0]) <= 160


def test_capture_leaks_no_descriptor() -> None:
    with capture_stderr():
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with capture_stderr():
            pass
    assert len(os.listdir("/proc/self/fd")) <= before  # descriptors of an earlier test may be closed meanwhile


def test_exception_inside_the_block_propagates() -> None:
    with pytest.raises(ValueError), capture_stderr():
        raise ValueError
