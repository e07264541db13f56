"""What users write for a card is understood, or answered with the names there are."""

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
def test_a_part_of_a_cards_name_is_the_card_by_its_id(name: str) -> None:
    assert resolve_name(name, False, LISTED, CARDS) == ["hw:CARD=Jabra,DEV=0", "plughw:CARD=Jabra,DEV=0"]


def test_twin_cards_are_told_apart_by_where_they_are_plugged_in() -> None:
    assert resolve_name("usb-1.4", True, LISTED, CARDS)[0] == "hw:CARD=Device_1,DEV=0"
    with pytest.raises(DeviceError, match="fits several sound devices: USB .*usb-1.3.*; USB .*usb-1.4.*; write more"):
        resolve_name("USB Audio", True, LISTED, CARDS)


def test_a_whole_id_outranks_a_part_of_a_longer_one() -> None:
    assert resolve_name("device", False, LISTED, CARDS)[0] == "hw:CARD=Device,DEV=0"


def test_a_card_without_a_microphone_is_none() -> None:
    with pytest.raises(DeviceError, match="no microphone 'Headphones'; there is: Jabra SPEAK 410 USB; USB"):
        resolve_name("Headphones", False, LISTED, CARDS)


def test_what_alsas_configuration_adds_is_found_too() -> None:
    assert resolve_name("puls", True, LISTED, CARDS) == ["pulse"]
    with pytest.raises(DeviceError, match="there is no speaker 'surround'"):
        resolve_name("surround", True, LISTED, CARDS)


def test_a_listed_card_is_shown_by_its_id_and_not_by_its_number() -> None:
    assert alsa_name(LISTED[0], CARDS) == ("USB Audio Device (C-Media at usb-1.3)", "plughw:CARD=Device,DEV=0")
    assert alsa_name(LISTED[1], CARDS) == ("default", "default")
    assert alsa_name(LISTED[2], CARDS) is None
    assert alsa_name(LISTED[0], []) is None


@pytest.mark.parametrize("name", ["", " ", "0", " 12 "])
def test_a_number_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="numbers change at boot"):
        reject_number(name)
