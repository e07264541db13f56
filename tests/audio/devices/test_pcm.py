"""The formats that ALSA reports for a PCM."""

from __future__ import annotations

import errno

import pytest
from support.vcard import VirtualCard

from agent.audio.devices.alsa import is_defined
from agent.audio.devices.c_stderr import capture_stderr
from agent.audio.devices.pcm import Pcm, query_pcm
from agent.audio.devices.portaudio import PORTAUDIO_LOCK
from agent.audio.format import Format


def query(name: str, output: bool = True) -> Pcm:
    with PORTAUDIO_LOCK, capture_stderr():
        is_defined(name)  # rereads the configuration
        return query_pcm(name, output)


@pytest.mark.parametrize(
    ("rates", "channels"),
    [((96000,), (8,)), ((32000, 48000), (4, 6)), ((37800,), (1,)), ((8000,), (2,))],
)
def test_formats_are_the_rates_and_channels_of_the_device(
    card: VirtualCard, rates: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    options = f"rates [ {' '.join(map(str, rates))} ] channels [ {' '.join(map(str, channels))} ]"
    card.add(f"pcm.unusual {{ type vcard {options} }}")
    pcm = query("unusual")
    assert pcm == Pcm(0, tuple(Format(rate, n) for rate in rates for n in channels), channels, rates, ("S16_LE",))


def test_channels_above_the_limit_are_listed_without_a_format(card: VirtualCard) -> None:
    card.add("pcm.desk { type vcard channels [ 10 16 ] }")
    pcm = query("desk")
    assert (pcm.formats, pcm.channels) == ((), (10, 16))


def test_error_is_the_errno_of_the_open(card: VirtualCard) -> None:
    assert query("nothing").error == errno.ENOENT
    card.fault("busy")
    assert query("speaker").error == errno.EBUSY


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (Format(24000), Format(32000, 4)),
        (Format(24000, 6), Format(32000, 6)),
        (Format(16000), Format(16000, 4)),
        (Format(192000), Format(96000, 4)),
        (Format(24000, 5), Format(32000, 6)),
        (Format(24000, 8), Format(32000, 4)),
    ],
)
def test_preferred_starts_with_the_format_that_loses_least(wanted: Format, first: Format) -> None:
    pcm = Pcm(0, tuple(Format(rate, channels) for rate in (8000, 16000, 32000, 96000) for channels in (6, 4)))
    assert pcm.preferred(wanted)[0] == first
    assert len(pcm.preferred(wanted)) == 8
