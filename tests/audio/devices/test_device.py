"""A device is found by its name, and a name that fits nothing or too much is answered with what there is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.vcard import VirtualCard

from agent.audio.devices.alsa import CardPcm, kernel_pcms
from agent.audio.devices.device import list_devices, open_sink, open_source
from agent.audio.format import SPEECH, Format
from agent.errors import DeviceError

CARDS = """\
 0 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones
                      bcm2835 Headphones
 1 [Device         ]: USB-Audio - USB Audio Device
                      C-Media Electronics Inc. USB Audio Device at usb-0000:01:00.0-1.3, full speed
"""
PCM = """\
00-00: bcm2835 Headphones : bcm2835 Headphones : playback 8
01-00: USB Audio : USB Audio : playback 1 : capture 1
"""


def test_the_kernels_cards_are_known_by_their_ids(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "pcm").write_text(PCM)
    usb = "USB Audio Device (C-Media Electronics Inc. USB Audio Device at usb-0000:01:00.0-1.3, full speed)"
    found = kernel_pcms(tmp_path)
    assert found == [
        CardPcm(0, "Headphones", 0, "bcm2835 Headphones (bcm2835 Headphones)", source=False, sink=True),
        CardPcm(1, "Device", 0, usb, source=True, sink=True),
    ]
    assert found[1].address == "CARD=Device,DEV=0"


def test_no_kernel_sound_means_no_cards(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text("--- no soundcards ---\n")
    assert kernel_pcms(tmp_path) == []
    assert kernel_pcms(tmp_path / "nowhere") == []


def test_the_list_has_what_can_be_opened_and_the_line_for_the_configuration(card: VirtualCard) -> None:
    listed = list_devices()
    assert listed[0].name == "default"
    by_name = {device.alsa_name: device for device in listed}
    assert set(by_name) == {"default", "speaker", "mic", "mic_echo", "speaker48", "mic48", "radio"}
    assert by_name["speaker48"].rates == (48000,)
    assert by_name["radio"].rates == (44100,) and by_name["radio"].outputs == 1
    assert by_name["speaker"].rates == (8000, 16000, 22050, 24000, 32000, 44100, 48000)
    assert by_name["speaker"].line == "device: speaker"


def test_a_part_of_a_name_is_enough(card: VirtualCard) -> None:
    sink = open_sink("AKER4", Format(24000), 0.02, 0.1)
    sink.write(b"\x01\x01" * 2400)
    sink.drain()
    sink.close()
    assert b"\x01" in card.played()


def test_a_part_that_fits_several_is_answered_with_their_names(card: VirtualCard) -> None:
    with pytest.raises(DeviceError, match="'Speak' fits several .*: speaker; speaker48; write more") as caught:
        open_sink("Speak", Format(24000), 0.02, 0.1)
    assert not caught.value.lost


def test_an_unknown_name_is_answered_with_what_there_is(card: VirtualCard) -> None:
    with pytest.raises(DeviceError, match="there is no microphone 'Jabra'; there is: .*mic.*mic48") as caught:
        open_source("Jabra", 0.1)
    assert not caught.value.lost


def test_an_alsa_name_that_is_not_there_says_so_in_alsas_words(card: VirtualCard) -> None:
    with pytest.raises(DeviceError, match="Unknown PCM plughw:CARD=Device,DEV=0"):
        open_sink("plughw:CARD=Device,DEV=0", Format(24000), 0.02, 0.1)


@pytest.mark.parametrize("name", ["0", " 1 ", "", "  "])
def test_a_number_is_no_name(card: VirtualCard, name: str) -> None:
    with pytest.raises(DeviceError, match="numbers change at boot"):
        open_sink(name, Format(24000), 0.02, 0.1)


@pytest.mark.parametrize("name", ['x:"\npcm.!default "null', "x:" + "y" * 1000, 'x:" } pcm.evil {', "x:\\", "{:}"])
def test_a_name_cannot_change_the_configuration_of_alsa(card: VirtualCard, name: str) -> None:
    with pytest.raises(DeviceError):
        open_sink(name, Format(24000), 0.02, 0.1)
    sink = open_sink("default", Format(24000), 0.02, 0.1)
    sink.write(b"\x01\x01" * 240)
    sink.drain()
    sink.close()
    assert b"\x01\x01" * 240 in card.played()


def test_nothing_of_alsas_chatter_reaches_the_user(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the system's own configuration, PortAudio makes ALSA and JACK print some eighty lines."""
    monkeypatch.delenv("ALSA_CONFIG_PATH", raising=False)
    with pytest.raises(DeviceError):
        open_sink("hw:CARD=NotThere", Format(24000), 0.02, 0.1)
    assert capfd.readouterr().err == ""


def test_microphone_and_speaker_open_and_close_at_once_from_two_threads(card: VirtualCard) -> None:
    problems: list[BaseException] = []

    def use(side: str) -> None:
        try:
            for _ in range(8):
                if side == "sink":
                    sink = open_sink("speaker", Format(24000), 0.02, 0.1)
                    sink.write(b"\x01\x01" * 2400)
                    sink.drop()
                    sink.close()
                else:
                    source = open_source("mic", 0.1)
                    source.read()
                    source.close()
        except BaseException as error:  # noqa: BLE001 - whatever went wrong in the thread must fail the test
            problems.append(error)

    threads = [threading.Thread(target=use, args=(side,)) for side in ("sink", "source")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not problems and not any(thread.is_alive() for thread in threads)


def test_opening_again_and_again_leaks_nothing(card: VirtualCard) -> None:
    def use() -> None:
        open_sink("speaker", Format(24000), 0.02, 0.1).close()
        with pytest.raises(DeviceError):
            open_source("nothing:here", 0.1)

    use()
    descriptors, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for _ in range(10):
        use()
    # What an earlier test has left may end meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= descriptors and set(threading.enumerate()) <= threads


def test_files_and_silence_need_no_pyaudio() -> None:
    program = (
        "import sys; sys.modules['pyaudio'] = None\n"
        "from agent.audio.devices.device import open_sink, open_source\n"
        "from agent.audio.format import SPEECH\n"
        "open_source('none', 0.1).close(); open_sink('none', SPEECH, 0.02, 0.1).close()\n"
        "try: open_sink('default', SPEECH, 0.02, 0.1)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DeviceError PyAudio cannot be used") and "libportaudio2" in done.stdout


def test_speech_is_what_every_source_gives(card: VirtualCard) -> None:
    for name in ("mic", "mic48", "none"):
        source = open_source(name, 0.1)
        assert len(source.read()) == SPEECH.bytes_of(0.1)
        source.close()
