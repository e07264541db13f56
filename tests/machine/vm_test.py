"""``scripts/vm-test``: in a virtual machine the service's sandbox lets sound through, and a USB card is taken out in
mid-speech and put back as another number."""

from __future__ import annotations

import argparse
import array
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from machine import vm
from machine.table import Table, carry_out

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="vm-test", description=__doc__)
    parser.add_argument("--away", type=float, default=10.0, metavar="SECONDS", help="how long the card is out")
    away = parser.parse_args().away
    return carry_out("vm", lambda folder, table: VmTest(folder, away, table).run())


class VmTest:
    def __init__(self, share: Path, away: float, table: Table) -> None:
        self._share, self._away, self._table = share, away, table
        self._said: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        step = self._table.step
        step("the machine's disk", self._image, needed=True)
        step("the machine runs", self._boot, needed=True)
        step("the card is known by its name", self._known)
        step("the service opens it through its sandbox", self._sandbox)
        step("taken out", self._lost)
        step("put back", self._back)
        step("what was heard", self._heard)

    def _image(self) -> str:
        return str(vm.image())

    def _boot(self) -> str:
        shutil.copytree(ROOT / "agent", self._share / "agent")
        shutil.copytree(ROOT / "tests/machine", self._share / "machine")
        shutil.copy(ROOT / "systemd/voice-agent.service", self._share)
        job = f"PYTHONPATH=/share exec timeout 250 python3 -m machine.vm_guest {self._away}\n"
        (self._share / "job.sh").write_text(job)
        wav = "out.frequency=48000,out.channels=2,out.format=s16"
        machine = vm.Machine(
            self._share,
            "-audiodev", f"wav,id=before,path={self._share / 'before.wav'},{wav}",
            "-audiodev", f"wav,id=after,path={self._share / 'after.wav'},{wav}",
            "-device", "usb-audio,id=usb,audiodev=before",
            "-audiodev", "none,id=silence", "-device", "ich9-intel-hda", "-device", "hda-duplex,audiodev=silence",
        )  # fmt: skip
        output = machine.run()
        print(output, file=sys.stderr)
        lines = output.splitlines()
        assert lines and lines[-1] == "exit 0", "\n".join(lines[-20:])
        self._said = {said["what"]: said for said in (json.loads(line) for line in lines if line.startswith("{"))}
        return f"{len(lines)} lines"

    def _known(self) -> str:
        names = [name for _, name in self._said["cards"]["cards"]]
        assert any("USB Audio" in name for name in names), names
        assert any("plughw:CARD=" in alsa for _, alsa in self._said["devices"]["devices"])
        return "; ".join(names)

    def _sandbox(self) -> str:
        sandbox = self._said["sandbox"]
        assert sandbox["uid"] != 0 and "inside a sandbox" in sandbox["who"], sandbox
        assert sandbox["heard"] >= 0.4, sandbox
        return str(sandbox["who"])

    def _lost(self) -> str:
        lost = self._said["lost"]
        assert lost["after"] < 4.0, lost
        assert self._said["end"]["lost"] == ["speaker"], "the microphone on the other card goes on"
        return f"noticed {lost['after']} s after the kernel"

    def _back(self) -> str:
        back = self._said["back"]
        assert back["number"] != back["before"], "it came back under another number"
        assert back["after"] < 4.0, "2 s, and as many for an emulated processor"
        return f"card {back['before']} is card {back['number']}, in use {back['after']} s after the kernel had it"

    def _heard(self) -> str:
        """Places only grow, also across the gap: nothing is said twice; what the card still held is not heard."""
        before, after = (_places(self._share / name) for name in ("before.wav", "after.wav"))
        assert before and after
        assert all(b > a for a, b in zip(before, before[1:], strict=False)), "something was said twice before"
        assert all(b > a for a, b in zip(after, after[1:], strict=False)), "something was said twice after"
        assert after[0] > before[-1], "something was said again after the return"
        unheard = after[0] - before[-1] - 1
        assert unheard <= 48000, "no more than what a card holds"
        return f"{len(before) + len(after)} frames, none twice; {unheard / 48:.0f} ms were in the card as it left"


def _places(path: Path) -> list[int]:
    """The place that each frame of sound tells; frames of silence tell none."""
    samples = array.array("h", path.read_bytes()[44:])
    loudest = 1000 + 64 * 399
    volume = max(samples[0::2], default=0) / loudest
    assert volume > 0.1, f"{path.name} is silent"
    pairs = zip(samples[0::2], samples[1::2], strict=False)
    return [
        round((left / volume - 1000) / 64) + 400 * round((right / volume - 1000) / 16)
        for left, right in pairs
        if left and right
    ]


if __name__ == "__main__":
    sys.exit(main())
