"""Devices by name: listing, opening, and errors that list the available names."""

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


def test_kernel_pcms_reads_the_cards_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(CARDS)
    (tmp_path / "pcm").write_text(PCM)
    usb = "USB Audio Device (C-Media Electronics Inc. USB Audio Device at usb-0000:01:00.0-1.3, full speed)"
    pcms = kernel_pcms(tmp_path)
    assert pcms == [
        CardPcm(0, "Headphones", 0, "bcm2835 Headphones (bcm2835 Headphones)", source=False, sink=True),
        CardPcm(1, "Device", 0, usb, source=True, sink=True),
    ]
    assert pcms[1].address == "CARD=Device,DEV=0"


def test_kernel_pcms_is_empty_without_alsa(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text("--- no soundcards ---\n")
    assert kernel_pcms(tmp_path) == []
    assert kernel_pcms(tmp_path / "nowhere") == []


def test_list_devices_contains_rates_and_configuration_lines(card: VirtualCard) -> None:
    listed = list_devices()
    assert listed[0].name == "default"
    by_name = {device.alsa_name: device for device in listed}
    assert set(by_name) == {"default", "speaker", "mic", "mic_echo", "speaker48", "mic48", "radio"}
    assert by_name["speaker48"].rates == (48000,)
    assert by_name["radio"].rates == (44100,) and by_name["radio"].outputs == 1
    assert by_name["speaker"].rates == (8000, 16000, 22050, 24000, 32000, 44100, 48000)
    assert by_name["speaker"].line == "device: speaker"


PLUG = "pcm.plug { @args [ SLAVE ] @args.SLAVE { type string } type plug slave.pcm $SLAVE }"


def test_every_listed_line_opens(card: VirtualCard) -> None:
    for name, options in (
        ("array4", "channels [ 4 ]"),
        ("array6", "rates [ 16000 ] channels [ 6 ]"),
        ("slow", "rates [ 8000 ]"),
        ("fast", "rates [ 96000 ] channels [ 2 ]"),
        ("desk", "channels [ 10 12 ]"),
        ("busy", "channels [ 2 ]"),
    ):
        files = f'playback_file "{card.folder}/out.raw" capture_file "{card.folder}/in.wav"'
        card.add(f"pcm.{name} {{ type vcard {files} {options} }}")
    card.add(PLUG)
    lines = {device.name: device.line for device in list_devices()}
    assert lines["desk"] == "device: plug:desk" and lines["array6"] == "device: array6"
    assert len(lines) == 13
    for device in list_devices():
        name = device.line.removeprefix("device: ")
        if device.inputs:
            open_source(name, 0.1).close()
        if device.outputs:
            open_sink(name, Format(24000), 0.02, 0.1).close()


def test_a_device_that_no_name_opens_is_not_listed(card: VirtualCard) -> None:
    card.add(f'pcm.desk {{ type vcard playback_file "{card.folder}/out.raw" channels [ 10 ] }}')
    assert "desk" not in {device.name for device in list_devices()}
    with pytest.raises(DeviceError, match="only 10 channels") as caught:
        open_sink("desk", Format(24000), 0.02, 0.1)
    assert "type plug" in caught.value.cure


def test_open_sink_accepts_a_part_of_a_name(card: VirtualCard) -> None:
    sink = open_sink("AKER4", Format(24000), 0.02, 0.1)
    sink.write(b"\x01\x01" * 2400)
    sink.drain()
    sink.close()
    assert b"\x01" in card.played()


def test_ambiguous_name_error_lists_the_matches(card: VirtualCard) -> None:
    with pytest.raises(
        DeviceError, match="'Speak' matches several .*: speaker; speaker48. Use a longer part"
    ) as caught:
        open_sink("Speak", Format(24000), 0.02, 0.1)
    assert not caught.value.lost


def test_unknown_name_error_lists_the_devices(card: VirtualCard) -> None:
    with pytest.raises(DeviceError, match="there is no microphone 'Jabra'; available: .*mic.*mic48") as caught:
        open_source("Jabra", 0.1)
    assert not caught.value.lost


def test_unknown_alsa_name_error_contains_the_message_of_alsa(card: VirtualCard) -> None:
    with pytest.raises(DeviceError, match="Unknown PCM plughw:CARD=Device,DEV=0"):
        open_sink("plughw:CARD=Device,DEV=0", Format(24000), 0.02, 0.1)


@pytest.mark.parametrize("name", ["0", " 1 ", "", "  "])
def test_number_is_no_name(card: VirtualCard, name: str) -> None:
    with pytest.raises(DeviceError, match="numbers change at boot"):
        open_sink(name, Format(24000), 0.02, 0.1)


@pytest.mark.parametrize("name", ['x:"\npcm.!default "null', "x:" + "y" * 1000, 'x:" } pcm.evil {', "x:\\", "{:}"])
def test_name_cannot_inject_alsa_configuration(card: VirtualCard, name: str) -> None:
    with pytest.raises(DeviceError):
        open_sink(name, Format(24000), 0.02, 0.1)
    sink = open_sink("default", Format(24000), 0.02, 0.1)
    sink.write(b"\x01\x01" * 240)
    sink.drain()
    sink.close()
    assert b"\x01\x01" * 240 in card.played()


def test_messages_of_the_libraries_do_not_reach_stderr(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the system's configuration, ALSA and JACK print about eighty lines."""
    monkeypatch.delenv("ALSA_CONFIG_PATH", raising=False)
    with pytest.raises(DeviceError):
        open_sink("hw:CARD=NotThere", Format(24000), 0.02, 0.1)
    assert capfd.readouterr().err == ""


def test_two_threads_open_and_close_concurrently(card: VirtualCard) -> None:
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
        except BaseException as error:  # noqa: BLE001 - any error of the thread must fail the test
            problems.append(error)

    threads = [threading.Thread(target=use, args=(side,)) for side in ("sink", "source")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not problems and not any(thread.is_alive() for thread in threads)


def test_opening_leaks_no_descriptor_and_no_thread(card: VirtualCard) -> None:
    def use() -> None:
        open_sink("speaker", Format(24000), 0.02, 0.1).close()
        with pytest.raises(DeviceError):
            open_source("nothing:here", 0.1)

    use()
    descriptors, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for _ in range(10):
        use()
    # Threads of an earlier test may end meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= descriptors and set(threading.enumerate()) <= threads


def test_files_and_none_need_no_pyaudio() -> None:
    program = (
        "import sys; sys.modules['pyaudio'] = None\n"
        "from agent.audio.devices.device import open_sink, open_source\n"
        "from agent.audio.format import SPEECH\n"
        "open_source('none', 0.1).close(); open_sink('none', SPEECH, 0.02, 0.1).close()\n"
        "try: open_sink('default', SPEECH, 0.02, 0.1)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DeviceError PyAudio cannot be loaded") and "libportaudio2" in done.stdout


def test_every_source_returns_speech_frames(card: VirtualCard) -> None:
    for name in ("mic", "mic48", "none"):
        source = open_source(name, 0.1)
        assert len(source.read()) == SPEECH.bytes_of(0.1)
        source.close()
