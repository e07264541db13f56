"""``scripts/vm-test``: sound cards and keys of the kernel in a virtual machine, in the sandbox and across an unplug."""

from __future__ import annotations

import argparse
import array
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from machine import vm
from machine.table import Table, run_steps

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="vm-test", description=__doc__)
    parser.add_argument(
        "--away", type=float, default=10.0, metavar="SECONDS", help="keep the card unplugged for this time"
    )
    away = parser.parse_args().away
    return run_steps("vm", lambda folder, table: VmTest(folder, away, table).run())


class VmTest:
    """The steps of the test, judged from the output of the machine."""

    def __init__(self, share: Path, away: float, table: Table) -> None:
        self._share, self._away, self._table = share, away, table
        self._steps: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        step = self._table.step
        step("the disk of the machine", self._image, needed=True)
        step("the job in the machine", self._boot, needed=True)
        step("the card is found by its name", self._found_by_name)
        step("the card opens in the sandbox of the service", self._sandbox)
        step("a key that is plugged in, unplugged and plugged in again, in the sandbox", self._keys)
        step("unplugged", self._lost)
        step("plugged in again", self._back)
        step("the recorded frames", self._recorded)

    def _image(self) -> str:
        return str(vm.image())

    def _boot(self) -> str:
        shutil.copytree(ROOT / "agent", self._share / "agent")
        shutil.copytree(ROOT / "tests/machine", self._share / "machine")
        shutil.copy(ROOT / "systemd/voice-agent.service", self._share)
        shutil.copy(ROOT / "systemd/voice-agent.service.d/keys.conf.example", self._share)
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
        self._steps = {each["what"]: each for each in (json.loads(line) for line in lines if line.startswith("{"))}
        return f"{len(lines)} lines"

    def _found_by_name(self) -> str:
        names = [name for _, name in self._steps["cards"]["cards"]]
        assert any("USB Audio" in name for name in names), names
        assert any("plughw:CARD=" in alsa for _, alsa in self._steps["devices"]["devices"])
        return "; ".join(names)

    def _sandbox(self) -> str:
        sandbox = self._steps["sandbox"]
        assert sandbox["uid"] != 0 and "inside a sandbox" in sandbox["user"], sandbox
        assert sandbox["recorded_seconds"] >= 0.4, sandbox
        return str(sandbox["user"])

    def _keys(self) -> str:
        keys = self._steps["keys"]
        assert keys["uid"] != 0 and keys["devices"] == 2 and keys["warnings"] == 3, keys
        return f"{keys['devices']} devices, uid {keys['uid']}"

    def _lost(self) -> str:
        lost = self._steps["lost"]
        assert lost["after"] < 4.0, lost
        assert self._steps["end"]["lost"] == ["speaker"], "the microphone on the other card is not lost"
        return f"reported {lost['after']} s after the kernel removed it"

    def _back(self) -> str:
        back = self._steps["back"]
        assert back["number"] != back["before"], "the card has the same number"
        assert back["after"] < 4.0, back
        return f"card {back['before']} is card {back['number']}, in use {back['after']} s after the kernel added it"

    def _recorded(self) -> str:
        """Positions only increase, also across the gap: no frame is played twice; only the card's buffer is lost."""
        before, after = (_positions(self._share / name) for name in ("before.wav", "after.wav"))
        assert before and after
        assert all(b > a for a, b in zip(before, before[1:], strict=False)), (
            "a frame was played twice before the unplug"
        )
        assert all(b > a for a, b in zip(after, after[1:], strict=False)), "a frame was played twice after the unplug"
        assert after[0] > before[-1], "a frame from before the unplug was played again"
        lost_frames = after[0] - before[-1] - 1
        assert lost_frames <= 48000, "more frames were lost than a card buffers"
        return (
            f"{len(before) + len(after)} frames, none twice; {lost_frames / 48:.0f} ms lost in the buffer of the card"
        )


def _positions(path: Path) -> list[int]:
    """Return the position that each frame encodes; silent frames encode none."""
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
