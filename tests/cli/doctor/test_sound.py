"""Checks of the microphone and the speaker, on the virtual sound card."""

from __future__ import annotations

import array
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.cli.doctor import sound
from agent.cli.doctor.result import ERROR, OK, WARNING, exit_code
from agent.cli.doctor.sound import check_microphone, check_speaker
from agent.errors import DeviceError, DeviceProblem
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]
MICROPHONE = "microphone: {device: mic}\n"


def test_a_microphone_with_sound_is_ok_with_its_level(loaded: Read, card: VirtualCard) -> None:
    card.inject(array.array("h", [3000, -3000] * 240_000).tobytes(), SPEECH)
    result = check_microphone(loaded(MICROPHONE))
    assert result.verdict == OK and "level -" in result.saw and "Hz" in result.saw


def test_a_microphone_with_digital_silence_is_a_warning(loaded: Read, card: VirtualCard) -> None:
    result = check_microphone(loaded(MICROPHONE))
    assert result.verdict == WARNING and "not even noise" in result.saw and "alsamixer" in result.cure


def test_an_unknown_microphone_is_reported_with_the_list_of_devices(loaded: Read, card: VirtualCard) -> None:
    result = check_microphone(loaded("microphone: {device: USB PnP}\n"))
    assert result.verdict == ERROR and "USB PnP" in result.saw
    assert "voice-agent devices" in result.cure and "config.yaml:1" in result.cure


def test_a_busy_microphone_is_an_error_unless_the_daemon_runs(loaded: Read, card: VirtualCard) -> None:
    card.fault("busy")
    result = check_microphone(loaded(MICROPHONE))
    assert result.verdict == ERROR and "fuser -v /dev/snd" in result.cure
    assert check_microphone(loaded(MICROPHONE), in_use=True).verdict == OK


@pytest.mark.parametrize("name", ["hw:7,0", "plughw:CARD=Nowhere,DEV=0", "sysdefault:CARD=Nowhere"])
def test_a_missing_card_is_an_error_also_while_the_daemon_runs(loaded: Read, name: str) -> None:
    result = check_speaker(loaded(f'speaker: {{device: "{name}"}}\n'), in_use=True)
    assert result.verdict == ERROR and name in result.saw and "voice-agent devices" in result.cure


PLUG = "pcm.plug { @args [ SLAVE ] @args.SLAVE { type string } type plug slave.pcm $SLAVE }"


def test_a_card_with_too_many_channels_is_reported_with_the_name_that_converts(loaded: Read, card: VirtualCard) -> None:
    card.add(f'{PLUG}\npcm.desk {{ type vcard playback_file "/dev/null" channels [ 10 12 ] }}')
    result = check_speaker(loaded("speaker: {device: desk}\n"))
    assert result.verdict == ERROR and "10 or 12 channels" in result.saw and exit_code([result]) == 78
    assert '"plug:desk"' in result.cure and "config.yaml:1" in result.cure
    assert check_speaker(loaded('speaker: {device: "plug:desk"}\n')).verdict == OK


@pytest.mark.parametrize(
    ("definition", "saw"),
    [
        ('type pulse server "unix:/nowhere/native"', "PulseAudio"),
        ("type nosuchtype", "nosuchtype"),
        ('type plug slave.pcm "broken"', "refers to itself"),
        ("type hw card 9", "sound card that is missing"),
        ("type plug slavee.pcm speaker", "slavee"),
    ],
)
def test_a_device_that_the_alsa_configuration_breaks_is_reported_with_its_file(
    loaded: Read, card: VirtualCard, definition: str, saw: str
) -> None:
    card.add(f"pcm_type.pulse {{ lib libasound_module_pcm_pulse.so }}\npcm.broken {{ {definition} }}")
    result = check_speaker(loaded("speaker: {device: broken}\n"))
    assert result.verdict == ERROR and saw in result.saw
    assert f"{card.folder}/asound.conf" in result.saw and "plug the device in" not in result.cure


@pytest.mark.parametrize(
    ("problem", "cure", "own"),
    [
        (DeviceProblem.NO_LIBRARY, "apt install libportaudio2", False),
        (DeviceProblem.NO_FORMAT, "Write something at microphone.device", True),
        (DeviceProblem.CONFIGURATION, "Write something at microphone.device", True),
        (DeviceProblem.SERVER, "Write something at microphone.device", False),
        (DeviceProblem.ABSENT, "plug the device in", False),
    ],
)
def test_the_cure_depends_on_the_problem_and_not_on_the_message(
    loaded: Read, monkeypatch: pytest.MonkeyPatch, problem: DeviceProblem, cure: str, own: bool
) -> None:
    def fail(*_: object) -> NoReturn:
        text = "" if problem is DeviceProblem.NO_LIBRARY else "Write something at microphone.device."
        raise DeviceError("any message", cure=text, lost=problem is DeviceProblem.ABSENT, problem=problem)

    monkeypatch.setattr(sound, "open_source", fail)
    result = check_microphone(loaded(MICROPHONE), in_use=True)
    assert (result.verdict, result.own) == (ERROR, own) and cure in result.cure


def test_a_speaker_that_plays_is_ok_unless_its_volume_is_0(loaded: Read, card: VirtualCard) -> None:
    result = check_speaker(loaded("speaker: {device: speaker}\n"))
    assert result.verdict == OK and "plays" in result.saw
    assert check_speaker(loaded("speaker: {device: speaker, volume: 0}\n")).verdict == WARNING


def test_a_recording_that_cannot_be_written_is_reported(loaded: Read, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    assert check_speaker(loaded(f"speaker: {{device: 'file:{folder}/a.wav'}}\n")).verdict == OK
    assert not list(folder.iterdir())
    place = Path("/proc/self") if os.geteuid() == 0 else folder  # root may write everywhere but in such a directory
    if os.geteuid() != 0:
        folder.chmod(0o500)
    result = check_speaker(loaded(f"speaker: {{device: 'file:{place}/a.wav'}}\n"))
    assert result.verdict == ERROR and "cannot be written" in result.saw
    assert "speaker.device" in result.cure and "chown" not in result.cure  # the directory may belong to the system


def test_device_none_is_ok(loaded: Read) -> None:
    read = loaded("microphone: {device: none}\nspeaker: {device: none}\n")
    assert check_microphone(read).verdict == check_speaker(read).verdict == OK


LIBRARY = """
import os, subprocess, sys
from pathlib import Path
from agent.cli.doctor.sound import check_library
from agent.settings.loader import load
database = Path(f"/dev/shm/jack_db-{os.geteuid()}")
config = load(None, {})
assert not database.exists() and check_library(config) is None
subprocess.run([sys.executable, "-c", "import pyaudio; pyaudio.PyAudio()"], capture_output=True)
if database.exists():
    assert check_library(config) is None, "a complete database"
    subprocess.run(["rm", "-r", database], check=True)
    database.mkdir()
    (database / "__db.001").touch()
    result = check_library(config, seconds=2.0)
    print(result.verdict, result.cure)
    files = load(None, {"VOICE_AGENT_CONVERSATION__MODE": "announce", "VOICE_AGENT_SPEAKER__DEVICE": "file:x.wav"})
    assert check_library(files) is None
else:
    print("no libjack")
"""


def test_check_library_reports_a_database_of_libjack_that_blocks_portaudio() -> None:
    """In a mount namespace: the real directory belongs to all programs of the user."""
    mount = 'mount -t tmpfs tmpfs /dev/shm && exec "$@"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("the kernel does not allow namespaces here")
    done = subprocess.run([*words, sys.executable, "-c", LIBRARY], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    if "no libjack" in done.stdout:
        pytest.skip("this PortAudio is built without JACK")
    assert done.stdout == "error end programs that use JACK, then sudo rm -r /dev/shm/jack_db-0\n"
