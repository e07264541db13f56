"""What the configuration lets through can also be heard."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from agent.audio.decoders.decoder import create_decoder
from agent.config.fields import fields_of
from agent.services.protocols import fish, playai, vachana
from agent.settings.checks import findings
from agent.settings.model import Config


def _choices(cls: type, key: str) -> tuple[object, ...]:
    return fields_of(cls)[key].choices


@pytest.mark.parametrize("output_format", _choices(playai.Settings, "output_format"))
def test_every_format_of_playai_that_is_taken_is_decoded(output_format: str) -> None:
    """``flac`` passed the configuration, and the first sound of it failed."""
    encoding = playai.encoding_of(output_format, 24000)
    create_decoder(encoding.container, encoding.samples, 24000, 1)


def test_every_sound_of_vachana_that_is_taken_is_decoded() -> None:
    """``oggopus`` with ``sample_width: 1`` passed the configuration, and the request of it was never made."""
    keys = ("encoding", "container", "sample_rate", "sample_width", "num_channels")
    taken = 0
    for values in itertools.product(*(_choices(vachana.AudioSettings, key) for key in keys)):
        audio = vachana.AudioSettings(**dict(zip(keys, values, strict=True)))
        config = Config()
        synthesis = config.synthesis.with_settings("vachana", vachana.Settings(audio_config=audio))
        config = dataclasses.replace(config, synthesis=synthesis)
        if any(finding.key.startswith("synthesis.vachana") for finding in findings(config)):
            continue
        taken += 1
        wanted = vachana.read_audio_config(audio)
        assert isinstance(wanted, dict), (audio, wanted)
        encoding = vachana.encoding_of(wanted)
        create_decoder(encoding.container, encoding.samples, 48000, encoding.channels)
    assert taken > 20


@pytest.mark.parametrize("format", _choices(fish.Settings, "format"))
def test_every_format_of_fish_audio_that_is_taken_is_decoded(format: str) -> None:
    """That the choices and the decoders agree."""
    create_decoder({"pcm": "raw"}.get(format, format), "s16le", 44100, 1)
