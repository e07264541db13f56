"""A virtual sound card: an ALSA plugin with a real clock and switchable faults.

It needs gcc and libasound2-dev, but no sound support of the kernel and no sound server. ``pcm_vcard.c`` describes its
options.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from agent.audio.format import Format
from agent.audio.wav_writer import wav_header

_SOURCE = Path(__file__).with_name("pcm_vcard.c")


class VirtualCard:
    """A card in ``folder`` with the devices ``speaker``, ``mic``, ``mic_echo`` (records the speaker), ``speaker48`` and
    ``mic48`` (48 kHz stereo only), ``radio`` (44.1 kHz mono only, both directions) and ``default``.

    ``env``: the environment in which a process sees only this card. Overruns and underruns happen only on demand,
    because test machines are busy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"ALSA_CONFIG_PATH": str(folder / "asound.conf"), "VCARD_XRUNS": "0"}
        self._write_configuration(compiled())

    def inject(self, pcm: bytes, format: Format) -> None:
        """Play ``pcm`` into the microphones from now on; ``format`` must be that of the capture stream."""
        new = self.folder / "in.tmp"
        new.write_bytes(wav_header(format, len(pcm)) + pcm)
        os.replace(new, self.folder / "in.wav")

    def fault(self, name: str, on: bool = True) -> None:
        """Start or end a fault: ``unplug``, ``hang`` (the clock stops), ``xrun`` (one), ``busy`` (open fails)."""
        switch = self.folder / f"ctl.{name}"
        if on:
            switch.touch()
        else:
            switch.unlink(missing_ok=True)

    def played(self) -> bytes:
        """Return the played audio: s16le in the format of the playback streams, with zeros for idle times."""
        record = self.folder / "out.raw"
        return record.read_bytes() if record.exists() else b""

    def forget(self) -> None:
        """Start a new record; only while no playback stream is open."""
        (self.folder / "out.raw").unlink(missing_ok=True)

    def add(self, definition: str) -> None:
        """Add a device, as when a card is plugged in."""
        configuration = self.folder / "asound.conf"
        new = self.folder / "asound.new"
        new.write_text(configuration.read_text() + definition + "\n")
        os.replace(new, configuration)

    def _write_configuration(self, plugin: Path) -> None:
        out = f'playback_file "{self.folder}/out.raw" control "{self.folder}/ctl"'
        mic = f'capture_file "{self.folder}/in.wav" control "{self.folder}/ctl"'
        (self.folder / "asound.conf").write_text(
            f'pcm_type.vcard {{ lib "{plugin}" }}\n'
            f"pcm.speaker {{ type vcard {out} }}\n"
            f"pcm.mic {{ type vcard {mic} }}\n"
            f"pcm.mic_echo {{ type vcard {mic} echo_gain 0.5 echo_delay_ms 80 }}\n"
            f"pcm.speaker48 {{ type vcard {out} rates [ 48000 ] channels 2 }}\n"
            f"pcm.mic48 {{ type vcard {mic} rates [ 48000 ] channels 2 }}\n"
            f"pcm.radio {{ type vcard {out} {mic.partition(' control')[0]} rates [ 44100 ] channels 1 }}\n"
            'pcm.!default { type asym playback.pcm "speaker" capture.pcm "mic" }\n'
        )


def compiled() -> Path:
    """Compile the plugin, or return it from the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voice-agent-tests"
    plugin = cache / f"vcard-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not plugin.exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = plugin.with_suffix(f".{os.getpid()}")
        build = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-DPIC", "-o", new, _SOURCE, "-lasound", "-lm"]
        done = subprocess.run([str(word) for word in build], capture_output=True, text=True)
        assert done.returncode == 0, f"the virtual card needs gcc and libasound2-dev: {done.stderr}"
        os.replace(new, plugin)
    return plugin
