"""The virtual sound card inside a root: what every program in there finds as its default device."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.vcard import compiled

from agent.audio.format import Format
from agent.audio.wav_writer import wav_header

PLUGIN = "/usr/local/lib/vcard.so"


class MachineCard:
    """The card of the root ``root``. ``home`` is the directory in there where its record, its microphone and its
    switches are; whoever plays must be able to write there. A stream that comes late is forgiven."""

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
        """What has been heard, idle times as zeros."""
        record = self._folder / "out.raw"
        return record.read_bytes() if record.exists() else b""

    def inject(self, pcm: bytes, format: Format) -> None:
        """Plays into the microphone from now on."""
        new = self._folder / "in.tmp"
        new.write_bytes(wav_header(format, len(pcm)) + pcm)
        new.chmod(0o644)
        os.replace(new, self._folder / "in.wav")
