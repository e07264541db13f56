"""Device names: resolution, and errors that list the available names."""

from __future__ import annotations

import pytest

from agent.audio.devices.alsa import CardPcm
from agent.audio.devices.names import PortAudioDevice, alsa_name, reject_number, resolve_name
from agent.errors import DeviceError

CARDS = [
    CardPcm(0, "Headphones", 0, "bcm2835 Headphones", source=False, sink=True),
    CardPcm(1, "Device", 0, "USB Audio Device (C-Media at usb-1.3)", source=True, sink=True),
    CardPcm(2, "Device_1", 0, "USB Audio Device (C-Media at usb-1.4)", source=True, sink=True),
    CardPcm(3, "Jabra", 0, "Jabra SPEAK 410 USB", source=True, sink=True),
]
LISTED = [
    PortAudioDevice(0, "USB Audio Device: - (hw:1,0)", 1, 2),
    PortAudioDevice(1, "default", 128, 128),
    PortAudioDevice(2, "surround51", 0, 6),
    PortAudioDevice(3, "pulse", 32, 32),
]


@pytest.mark.parametrize("name", ["jabra", "Jabra", "speak 410", "SPEAK"])
def test_part_of_a_name_resolves_to_the_card_id(name: str) -> None:
    assert resolve_name(name, False, LISTED, CARDS) == ["hw:CARD=Jabra,DEV=0", "plughw:CARD=Jabra,DEV=0"]


def test_port_distinguishes_equal_cards() -> None:
    assert resolve_name("usb-1.4", True, LISTED, CARDS)[0] == "hw:CARD=Device_1,DEV=0"
    with pytest.raises(
        DeviceError, match="matches several sound devices: USB .*usb-1.3.*; USB .*usb-1.4.*. Use a longer part"
    ):
        resolve_name("USB Audio", True, LISTED, CARDS)


def test_complete_id_takes_precedence() -> None:
    assert resolve_name("device", False, LISTED, CARDS)[0] == "hw:CARD=Device,DEV=0"


def test_card_without_a_microphone_does_not_match_as_one() -> None:
    with pytest.raises(DeviceError, match="no microphone 'Headphones'; available: Jabra SPEAK 410 USB; USB"):
        resolve_name("Headphones", False, LISTED, CARDS)


def test_pcms_of_the_alsa_configuration_match() -> None:
    assert resolve_name("puls", True, LISTED, CARDS) == ["pulse"]
    with pytest.raises(DeviceError, match="there is no speaker 'surround'"):
        resolve_name("surround", True, LISTED, CARDS)


def test_alsa_name_uses_the_card_id() -> None:
    assert alsa_name(LISTED[0], CARDS) == ("USB Audio Device (C-Media at usb-1.3)", "plughw:CARD=Device,DEV=0")
    assert alsa_name(LISTED[1], CARDS) == ("default", "default")
    assert alsa_name(LISTED[2], CARDS) is None
    assert alsa_name(LISTED[0], []) is None


@pytest.mark.parametrize("name", ["", " ", "0", " 12 "])
def test_number_is_rejected(name: str) -> None:
    with pytest.raises(DeviceError, match="numbers change at boot"):
        reject_number(name)
