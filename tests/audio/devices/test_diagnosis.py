"""Reason and remedy of devices that cannot be opened, on real configurations of ALSA."""

from __future__ import annotations

import pytest
from support.vcard import VirtualCard

from agent.audio.devices.device import default_device_error, list_devices, open_sink, open_source
from agent.audio.devices.diagnosis import LIST_HINT, format_error
from agent.audio.format import Format
from agent.errors import DeviceError, DeviceProblem

PULSE = "pcm_type.pulse { lib libasound_module_pcm_pulse.so }\n"


def error_of(name: str) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        open_sink(name, Format(24000), 0.02, 0.1)
    return caught.value


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("type nosuchtype", "nosuchtype"),
        ("type pipewire", "pipewire"),
        ('type plug slave.pcm "default"', "pcm.default in"),
        ('type plug slave.pcm "other" }\npcm.other { type plug slave.pcm "default"', "refers to itself"),
        ("type hw card 7", "sound card that is missing"),
        ('type plug slave.pcm "nothing"', "Unknown PCM nothing"),
        ('type plug slave.pcm "hw:Nowhere"', "Unknown PCM hw:Nowhere"),
        ('type plug slavee.pcm "speaker"', "Unknown field slavee"),
        ("type plug", "slave is not defined"),
        ("", "type is not defined"),
    ],
)
def test_invalid_definition_names_its_file(card: VirtualCard, definition: str, reason: str) -> None:
    card.add(f"pcm.!default {{ {definition} }}")
    error = error_of("default")
    assert error.problem is DeviceProblem.CONFIGURATION and error.lost
    assert reason in error.reason and f"{card.folder}/asound.conf" in error.cure
    listed = default_device_error()
    assert listed is not None and listed.reason == error.reason
    assert "default" not in {device.name for device in list_devices()}


@pytest.mark.parametrize("address", ["unix:/nowhere/native", "127.0.0.1:1"])
def test_unreachable_sound_server_names_file_and_drop_in(card: VirtualCard, address: str) -> None:
    card.add(f'{PULSE}pcm.!default {{ type pulse server "{address}" }}')
    error = error_of("default")
    assert error.problem is DeviceProblem.SERVER and error.lost
    assert "PulseAudio" in error.reason and f"{card.folder}/asound.conf" in error.reason
    assert "voice-agent.service.d/pipewire.conf" in error.cure and "speaker.device" in error.cure


def test_server_behind_a_plug_is_recognized(card: VirtualCard) -> None:
    card.add(
        f'{PULSE}pcm.server {{ type pulse server "unix:/nowhere" }}\npcm.!default {{ type plug slave.pcm "server" }}'
    )
    with pytest.raises(DeviceError) as caught:
        open_source("default", 0.1)
    assert caught.value.problem is DeviceProblem.SERVER and "microphone.device" in caught.value.cure


def test_working_default_has_no_error(card: VirtualCard) -> None:
    assert default_device_error() is None


def test_broken_capture_is_reported_while_playback_works(card: VirtualCard) -> None:
    card.add('pcm.!default { type asym playback.pcm "speaker" capture.pcm "nothing" }')
    error = default_device_error()
    assert error is not None and "microphone" in error.reason
    open_sink("default", Format(24000), 0.02, 0.1).close()


def test_busy_device_is_no_configuration_error(card: VirtualCard) -> None:
    card.fault("busy")
    error = error_of("default")
    assert error.lost and error.problem is None and "another program" in error.reason
    assert default_device_error() is None


@pytest.mark.parametrize(("channels", "cure"), [("10", '"plug:desk"'), ("9 16", '"plug:desk"'), ("32", '"plug:desk"')])
def test_channels_above_the_limit_name_the_line_that_works(card: VirtualCard, channels: str, cure: str) -> None:
    card.add(f"pcm.desk {{ type vcard channels [ {channels} ] }}")
    card.add("pcm.plug { @args [ SLAVE ] @args.SLAVE { type string } type plug slave.pcm $SLAVE }")
    error = error_of("desk")
    assert error.problem is DeviceProblem.NO_FORMAT and not error.lost and cure in error.cure
    assert all(count in error.reason for count in channels.split())
    open_sink("plug:desk", Format(24000), 0.02, 0.1).close()


@pytest.mark.parametrize("output", [True, False])
@pytest.mark.parametrize(("target", "fault"), [("hw:7", ""), ("USB PnP", ""), ("default", "busy")])
def test_unreported_formats_name_the_list_of_devices(card: VirtualCard, target: str, fault: str, output: bool) -> None:
    if fault:
        card.fault(fault)
    error = format_error("desk", target, output)
    assert error.problem is DeviceProblem.NO_FORMAT and "none of the requested formats" in error.reason
    assert error.cure.endswith(LIST_HINT) and "plug" not in error.cure and "  " not in error.reason
