"""The virtual sound card as the default device inside a root file system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.vcard import compiled

from agent.audio.format import Format
from agent.audio.wav_writer import wav_header

PLUGIN = "/usr/local/lib/vcard.so"


class MachineCard:
    """The card of one root file system. It tolerates underruns.

    Args:
        root: The root file system.
        home: The directory inside it with the recording, the microphone's input and the controls. The program that
            plays has to be able to write there.
    """

    def __init__(self, root: Path, home: str) -> None:
        self._folder = root / home.lstrip("/")
        plugin = root / PLUGIN.lstrip("/")
        plugin.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(compiled(), plugin)
        out, switches = f'playback_file "{home}/out.raw"', f'control "{home}/ctl" xruns 0'
        (root / "etc/asound.conf").write_text(
            f'pcm_type.vcard {{ lib "{PLUGIN}" }}\n'
            f"pcm.speaker {{ type vcard {out} {switches} }}\n"
            f'pcm.mic {{ type vcard capture_file "{home}/in.wav" {switches} }}\n'
            'pcm.!default { type asym playback.pcm "speaker" capture.pcm "mic" }\n'
        )

    def played(self) -> bytes:
        """Return the recorded s16le samples, with zeros while nothing plays."""
        record = self._folder / "out.raw"
        return record.read_bytes() if record.exists() else b""

    def inject(self, pcm: bytes, format: Format) -> None:
        """Feed s16le samples into the microphone from now on."""
        new = self._folder / "in.tmp"
        new.write_bytes(wav_header(format, len(pcm)) + pcm)
        new.chmod(0o644)
        os.replace(new, self._folder / "in.wav")
