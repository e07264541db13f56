"""``scripts/systemd-test``: the package in a minimal Debian with a real systemd, from ``apt install`` to purge."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.wav import read_wav

from agent.audio.format import Format
from agent.daemon.suspend import SUSPEND_SECONDS
from machine import debian
from machine.card import MachineCard
from machine.container import Container
from machine.doctor import Doctor
from machine.freeze import frozen_writer
from machine.table import Table, run_steps

ROOT = Path(__file__).resolve().parents[2]
UNIT = "voice-agent.service"
STATE = "/var/lib/private/voice-agent"
CONFIG = "etc/voice-agent/config.yaml"
ADD = "/usr/lib/voice-agent/add-recognition"
KEY = "sk-0123456789abcdef"
PORT = 8395
PRIVATE, PUBLIC = "192.168.7.1", "203.0.113.7"
SENTENCE = "The kettle is on, and the tea will be ready in a minute."
ATTEMPTS = 5
LONG_TEXT = " ".join(f"This is sentence number {number} of a rather long story." for number in range(1, 9))

# All services of the daemon at one speech server with a wire log.
WIRE_LOG_CONFIG = f"""
conversation: {{mode: assistant}}
transcription: {{url: "ws://127.0.0.1:{PORT}/", api_key: {{credential: transcription}}}}
synthesis:
  services: [neuphonic]
  neuphonic: {{url: "ws://127.0.0.1:{PORT}/speak/en", api_key: {{credential: neuphonic}}}}
responder: {{kind: none}}
server: {{start: false}}
"""

# What docs/hooks.md says of the sandbox: a word for each thing that works.
HOOK = """#!/bin/sh
cd /var/lib/voice-agent
cat >hook.json
{
    echo "event $VOICE_AGENT_EVENT"
    voice-agent status >/dev/null && echo status
    touch /var/cache/voice-agent/hook /run/voice-agent/hook /tmp/hook && echo write
    touch /etc/hook || touch /usr/hook || ls /root || ls /home/* || echo protected
    python3 -c 'import socket; socket.socket(); print("network")'
    python3 -c 'import socket; socket.socket(socket.AF_NETLINK)' || echo "no netlink"
    python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)' || echo "no machine code"
    head -c 0 /dev/kmsg || echo "no devices"
} >hook.part 2>/dev/null
mv hook.part hook.txt
"""
HOOK_WORDS = ["event spoken", "status", "write", "protected", "network", "no netlink", "no machine code", "no devices"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="systemd-test", description=__doc__)
    parser.add_argument("suite", nargs="?", default="bookworm", choices=("bookworm", "trixie"))
    suite = parser.parse_args().suite
    return run_steps("machine", lambda folder, table: MachineTest(folder, suite, table).run())


class MachineTest:
    """The steps of the test, in the container ``_box`` after the first three."""

    def __init__(self, folder: Path, suite: str, table: Table) -> None:
        self._folder, self._suite, self._table = folder, suite, table
        self._architecture = debian.machine_architecture()
        self._root = folder / "root"
        self._package = folder
        self._reference = b""
        self._pid = ""

    def run(self) -> None:
        step = self._table.step
        step("the package is built", self._build, needed=True)
        step(f"a minimal Debian ({self._suite})", self._make_root, needed=True)
        step("the dependencies are downloaded", self._fetch, needed=True)
        archives = debian.downloads(self._suite, self._architecture)
        try:
            with Container(self._root, {archives: "/var/cache/apt/archives"}) as self._box:
                try:
                    self._run_in_container()
                finally:
                    if self._table.failed:
                        print("\n".join(["journal of the service:", *self._box.lines(UNIT)[-80:]]), file=sys.stderr)
        except AssertionError as error:
            self._table.failed.append(str(error))

    def _run_in_container(self) -> None:
        step = self._table.step
        step("apt install without a network: enabled and running", self._install, needed=True)
        step("status of the service", self._status)
        step("the sandbox: exposure and verify", self._sandbox)
        step("say via the daemon: every sample is played", self._say_exact)
        step("journal of the speech server", self._server_journal)
        step(
            "sudo voice-agent doctor runs as the service, without an error",
            lambda: Doctor(self._box).check_without_faults(),
        )
        step("access to the control socket: only the group audio", self._access)
        step("PipeWire drop-in: the service runs as the desktop user", self._pipewire_drop_in)
        step("reload of a valid configuration", self._reload_valid)
        step("reload of an invalid configuration", self._reload_invalid)
        step("a stuck worker: stacks, restart, speech", self._freeze)
        step("a hook runs inside the sandbox", self._hook)
        step("the service reads keys inside the sandbox", self._keys)
        step(
            "doctor reports faults with their cures", lambda: Doctor(self._box).check_with_faults(WIRE_LOG_CONFIG, KEY)
        )
        step(
            "doctor writes an archive without keys for the user who typed sudo",
            lambda: Doctor(self._box).write_bundle("member", KEY),
        )
        step("stop during a sentence: end marks, success", self._stop)
        step("voice-agent-server: private addresses only", self._lan_server)
        step("start without any key", self._no_keys)
        step("invalid configuration: exit 78, no restart", self._invalid_configuration)
        step("upgrade keeps the configuration and a disabled unit", self._upgrade)
        step("remove stops the service and keeps the configuration", self._remove)
        step("purge leaves no file", self._purge)

    # --- before the boot

    def _build(self) -> str:
        done = subprocess.run(
            [ROOT / "scripts/package", "--output", self._folder / "dist"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        self._package = Path(done.stdout.strip())
        return self._package.name

    def _make_root(self) -> None:
        debian.unpack(debian.root_archive(self._suite, self._architecture), self._root)
        self._card = MachineCard(self._root, "/var/lib/voice-agent")
        shutil.copy(self._package, self._root / "root")

    def _fetch(self) -> None:
        archives = {debian.downloads(self._suite, self._architecture): "/var/cache/apt/archives"}
        fetch = f"apt-get -qq -y install --download-only /root/{self._package.name}"
        debian.in_root(self._root, ["sh", "-c", f"{fetch} || {{ apt-get -qq update && {fetch}; }}"], archives)

    # --- in the container

    def _install(self) -> str:
        output = self._box.run("apt", "install", "-y", f"/root/{self._package.name}", seconds=300).stdout
        assert self._box.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
        self._check_active()
        advice = output.partition("voice-agent is installed. Next:\n")[2].partition("\n\n")[0].splitlines()
        commands = [re.split("  +", line.strip())[0].removeprefix("sudo ") for line in advice]
        assert commands == ['voice-agent say "Hello."', "voice-agent doctor", ADD], output[-600:]
        for command in commands[:2]:
            self._box.run("sh", "-c", command)
        self._box.run("test", "-x", ADD)  # not run: it downloads, and the container has no network
        return f"next: {', '.join(commands)}"

    def _check_active(self) -> None:
        assert self._box.run("systemctl", "is-active", UNIT, check=False).stdout.strip() == "active"
        self._pid = self._box.show(UNIT, "MainPID")

    def _status(self) -> str:
        self._ready()
        text = self._box.run("voice-agent", "status").stdout.strip()
        assert text.splitlines()[0].split(maxsplit=1) == ["status", "ready to speak"], text
        return "ready to speak"

    def _ready(self) -> None:
        """Wait for the status in systemd, which follows the answer to the client."""
        self._box.wait("StatusText is 'ready to speak'", lambda: self._box.show(UNIT, "StatusText") == "ready to speak")

    def _sandbox(self) -> str:
        units = (UNIT, "voice-agent-server.service")
        done = self._box.run("systemd-analyze", "verify", "--man=no", *units)
        assert not done.stdout + done.stderr, done.stdout + done.stderr
        levels = []
        for unit in units:
            done = self._box.run("systemd-analyze", "security", "--threshold=15", "--no-pager", unit)
            levels.append(done.stdout.split("exposure level for ")[-1].split(": ")[-1].split()[0])
        return "exposure " + " and ".join(levels)

    def _say_exact(self) -> str:
        """The card records the samples that the same voice writes into a file."""
        self._box.run("voice-agent", "say", "--output", "/root/speech.wav", SENTENCE)
        format, self._reference = read_wav(self._root / "root/speech.wav")
        for _ in range(ATTEMPTS):
            underruns = self._count("underrun")
            self._speak(SENTENCE)
            if self._count("underrun") == underruns:
                break  # with an underrun, because this machine was busy, the recording contains inserted silence
        self._box.wait("the card recorded the sentence", lambda: self._reference in self._card.played())
        self._ready()
        return f"{format.seconds_of(len(self._reference)):.1f} s of speech at {format.rate} Hz"

    def _speak(self, text: str) -> None:
        """Speak ``text`` with the daemon and wait until its journal says that it was played."""
        played = self._count(": played")
        self._box.run("voice-agent", "say", text)
        self._box.wait("the journal says that the text was played", lambda: self._count(": played") > played)

    def _count(self, words: str) -> int:
        """Return the number of journal lines with these words."""
        return sum(words in line for line in self._box.lines(UNIT))

    def _server_journal(self) -> str:
        """The journal has the identifier and the priority of the speech server, a process of its own."""
        program = (
            "import sys; sys.path.insert(0, '/usr/lib/voice-agent/vendor'); import websocket\n"
            "peer = websocket.create_connection('ws://127.0.0.1:8394/api/v1/tts'); peer.send('no JSON'); peer.recv()"
        )
        self._box.run("python3", "-c", program)
        self._box.wait("the rejected message is in the journal", lambda: self._count("no JSON") > 0)
        (entry,) = [entry for entry in self._box.journal(UNIT) if "no JSON" in str(entry["MESSAGE"])]
        assert (entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"]) == ("voice-agent-server", "4"), entry
        assert entry["MESSAGE"].startswith("speech server: message rejected, service=vachana, client="), entry[
            "MESSAGE"
        ]
        return str(entry["MESSAGE"])

    def _access(self) -> None:
        self._box.run("useradd", "--groups", "audio", "member")
        self._box.run("useradd", "stranger")
        self._box.run("runuser", "-u", "member", "--", "voice-agent", "status")
        done = self._box.run("runuser", "-u", "stranger", "--", "voice-agent", "status", check=False)
        assert done.returncode not in (0, 70), f"another user has access: {done.returncode} {done.stdout}{done.stderr}"

    def _pipewire_drop_in(self) -> str:
        """Run as a desktop user and as a dynamic user again: the state directory changes its owner both times."""
        self._box.run("mkdir", "-p", "/run/user/1000")
        drop_in = self._root / f"etc/systemd/system/{UNIT}.d/pipewire.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text((ROOT / f"systemd/{UNIT}.d/pipewire.conf.example").read_text())
        try:
            self._restart()
            self._say_exact()
            examined_by = Doctor(self._box).check_without_faults()
            assert "(uid 1000)" in examined_by, examined_by
        finally:
            shutil.rmtree(drop_in.parent)
            self._restart()
        return examined_by

    def _restart(self) -> None:
        self._box.run("systemctl", "daemon-reload")
        self._box.run("systemctl", "restart", UNIT)
        self._check_active()

    def _reload_valid(self) -> str:
        config = self._root / CONFIG
        config.write_text(config.read_text() + "\nspeaker: {volume: 50}\n")
        self._box.run("systemctl", "reload", UNIT)
        self._box.wait("the change is in the journal", lambda: "speaker.volume" in " ".join(self._box.lines(UNIT)))
        begin = len(self._card.played())
        self._box.run("voice-agent", "say", SENTENCE)
        loudest, before = _peak(self._card.played()[begin:]), _peak(self._reference)
        assert abs(loudest / before - 0.5) < 0.02, f"peak {before} before, {loudest} after"
        self._same_process()
        return f"volume 50: peak {before} before, {loudest} after"

    def _reload_invalid(self) -> str:
        config = self._root / CONFIG
        valid = config.read_text()
        config.write_text(valid + "\nspeeker: {volume: 10}\n")
        try:
            # systemd may report a failed reload; the service has to continue.
            self._box.run("systemctl", "reload", UNIT, check=False)
            self._box.wait("the error is in the journal", lambda: "speeker" in " ".join(self._box.lines(UNIT)))
            line = next(line for line in self._box.lines(UNIT) if "speeker" in line)
            self._same_process()
            self._box.wait("the status names the error", lambda: "speeker" in self._box.show(UNIT, "StatusText"))
            # The command loads the configuration as well, so it gets a valid one.
            (self._root / "root/valid.yaml").write_text(valid)
            self._box.run("voice-agent", "say", "--config", "/root/valid.yaml", "Still here.")
        finally:
            config.write_text(valid)
        self._box.run("systemctl", "reload", UNIT)
        self._ready()
        return line

    def _same_process(self) -> None:
        assert self._box.show(UNIT, "MainPID") == self._pid, "the daemon was restarted"

    def _freeze(self) -> str:
        """Stop the speaker thread during a sentence, while the other threads continue."""
        begin = len(self._card.played())
        self._box.start("voice-agent", "say", LONG_TEXT)
        self._box.wait("playback has begun", lambda: len(self._card.played()) > begin + 16000)
        leader = self._box.outside(int(self._pid))
        # If "voice-agent status" gets an answer, the stopped thread does not hold the GIL. A thread that holds it is
        # released before the daemon would see a suspend, which ends the sentence.
        seconds = SUSPEND_SECONDS / 2
        with frozen_writer(leader, lambda: self._box.run("voice-agent", "status", seconds=seconds).returncode == 0):
            self._box.wait("systemd restarted the service", lambda: self._box.show(UNIT, "NRestarts") != "0", 90)
        self._box.wait("the service is active", lambda: self._box.show(UNIT, "ActiveState") == "active")
        lines = self._box.lines(UNIT)
        assert any(_is_stuck_line(line) for line in lines), "the journal does not name the worker"
        assert any(line.startswith('thread "speaker"') for line in lines), (
            "the journal does not contain the stack of the worker"
        )
        assert any("Watchdog timeout" in line for line in lines), "the watchdog did not cause the restart"
        self._check_active()
        begin = len(self._card.played())
        self._box.run("voice-agent", "say", "I am back.")
        assert _peak(self._card.played()[begin:]) > 1000, "nothing is played after the restart"
        return next(line for line in lines if _is_stuck_line(line))

    def _hook(self) -> str:
        command, state = self._root / "usr/local/bin/hook", self._root / STATE.lstrip("/")
        command.write_text(HOOK)
        command.chmod(0o755)
        config = self._root / CONFIG
        previous = config.read_text()
        config.write_text(f"{previous}\nhooks: {{spoken: [/usr/local/bin/hook]}}\n")
        try:
            self._restart()
            self._box.run("voice-agent", "say", "Run the hook.")
            self._box.wait("the hook has ended", lambda: (state / "hook.txt").exists())
        finally:
            config.write_text(previous)
            self._restart()
        assert json.loads((state / "hook.json").read_text())["state"] == "played"
        words = (state / "hook.txt").read_text().splitlines()
        assert words == HOOK_WORDS, words
        return ", ".join(words)

    def _keys(self) -> str:
        """A server that requires keys accepts the daemon; only root can read the files of the keys."""
        (self._root / "root/script.txt").write_text("tea please\n")
        for name in ("neuphonic", "transcription"):
            file = self._root / "etc/voice-agent/credentials" / name
            file.write_text(KEY + "\n")
            file.chmod(0o600)
        self._config = (self._root / CONFIG).read_text()
        (self._root / CONFIG).write_text(WIRE_LOG_CONFIG)
        command = ["systemd-run", "--quiet", "--unit=wire", "/usr/bin/voice-agent", "server", f"--port={PORT}"]
        command += [f"--api-key={KEY}", "--recognition=script", "--script=/root/script.txt", "--wire-log=/root/wire"]
        self._box.run(*command)
        self._box.wait("the server listens", lambda: "listening on" in " ".join(self._box.lines("wire.service")))
        self._box.run("systemctl", "restart", UNIT)
        self._check_active()
        begin = len(self._card.played())
        self._box.run("voice-agent", "say", "With a key.")
        assert _peak(self._card.played()[begin:]) > 1000, "nothing is played"
        # The audio of the microphone opens the transcription.
        self._card.inject(self._reference, Format(16000))
        self._box.wait("the transcription is open", lambda: any(w["service"] == "transcription" for w in self._wire()))
        assert not any(KEY in json.dumps(entry) for entry in self._box.journal(UNIT)), "a key is in the journal"
        assert KEY not in self._box.run("systemctl", "show", UNIT).stdout, "systemctl shows a key"
        return "neuphonic, transcription"

    def _wire(self) -> Iterator[dict[str, str]]:
        log = self._root / "root/wire"
        for line in log.read_text().splitlines(keepends=True) if log.exists() else ():
            if line.endswith("\n"):  # else it is being written
                yield json.loads(line)

    def _stop(self) -> str:
        begin = len(self._card.played())
        speaking = self._box.start("voice-agent", "say", LONG_TEXT)
        self._box.wait("playback has begun", lambda: len(self._card.played()) > begin + 16000)
        self._box.run("systemctl", "stop", UNIT)
        speaking.wait(60)
        result, status = self._box.show(UNIT, "Result"), self._box.show(UNIT, "ExecMainStatus")
        assert (result, status) == ("success", "0"), f"{result}, exit {status}"
        # The server may read the last messages after the daemon has ended.
        self._box.wait("<STOP> is on every connection", lambda: not self._without("<STOP>", "neuphonic"))
        self._box.wait("eof is on every connection", lambda: not self._without("eof", "transcription"))
        remaining = self._box.run("pgrep", "--full", "agent[.]server|voice-agent run", check=False).stdout.split()
        assert not remaining, "processes remain"
        return "<STOP> and eof on every connection"

    def _without(self, mark: str, service: str) -> set[str]:
        """Return the connections of a service without their end mark."""
        wire = [word for word in self._wire() if word["service"] == service]
        opened = {word["connection"] for word in wire if word["kind"] == "open"}
        assert opened, f"{service}: no connection"
        return opened - {word["connection"] for word in wire if mark in word.get("summary", "")}

    def _lan_server(self) -> str:
        unit = "voice-agent-server.service"
        enabled = self._box.run("systemctl", "is-enabled", unit, check=False).stdout.strip()
        assert enabled == "disabled", f"the unit is {enabled}"
        self._box.run("systemctl", "stop", "wire.service")
        self._box.run("systemctl", "start", unit)
        self._box.wait("the server listens", lambda: "listening on 0.0.0.0:8394" in " ".join(self._box.lines(unit)))
        self._box.run("voice-agent", "say", "--service", "local", "--output", "/root/lan.wav", SENTENCE)
        assert read_wav(self._root / "root/lan.wav")[1] == self._reference, "the voice differs"
        self._box.add_address(PRIVATE)
        self._box.add_address(PUBLIC)
        assert self._is_reachable(PRIVATE), "a private address is refused"
        assert not self._is_reachable(PUBLIC), "a public address is accepted"
        self._box.wait("a client connects", lambda: "client connected" in " ".join(self._box.lines(unit)))
        coming = [entry for entry in self._box.journal(unit) if "client connected" in str(entry["MESSAGE"])]
        logged = coming[0]["SYSLOG_IDENTIFIER"], coming[0]["PRIORITY"], coming[0]["MESSAGE"]
        connected = "speech server: client connected, service=neuphonic, client=1"
        assert logged == ("voice-agent-server", "6", connected), logged
        self._box.run("systemctl", "stop", unit)
        result, status = self._box.show(unit, "Result"), self._box.show(unit, "ExecMainStatus")
        assert (result, status) == ("success", "0"), f"{result}, exit {status}"
        return f"{PRIVATE} is accepted, {PUBLIC} is not"

    def _is_reachable(self, address: str) -> bool:
        """Return whether the server accepts a connection to and from this address."""
        program = f"import socket; socket.create_connection(('{address}', 8394), 5).close()"
        return self._box.run("python3", "-c", program, check=False).returncode == 0

    def _no_keys(self) -> None:
        (self._root / CONFIG).write_text(self._config)
        for file in (self._root / "etc/voice-agent/credentials").iterdir():
            file.unlink()
        (self._root / "etc/voice-agent/credentials").rmdir()
        self._box.run("systemctl", "start", UNIT)
        self._check_active()

    def _invalid_configuration(self) -> str:
        (self._root / CONFIG).write_text("conversation: {mode: shout}\n")
        self._box.run("systemctl", "restart", UNIT, check=False)
        self._box.wait("the service has failed", lambda: self._box.show(UNIT, "ActiveState") == "failed")
        status = self._box.show(UNIT, "ExecMainStatus")
        assert status == "78", f"exit {status}"
        (self._root / CONFIG).write_text(self._config)
        self._box.run("systemctl", "restart", UNIT)
        self._check_active()
        return "exit 78"

    def _upgrade(self) -> str:
        tree = self._folder / "next"
        subprocess.run(["dpkg-deb", "-R", self._package, tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text("".join(_next_version(line) for line in control.read_text().splitlines(keepends=True)))
        # The packaged file changes; the file that was edited by hand has to stay.
        packaged = tree / CONFIG
        packaged.write_text(packaged.read_text() + "\n# a new comment\n")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, self._root / "root/next.deb"], check=True,
                       capture_output=True)  # fmt: skip
        output = self._box.run(
            "apt-get", "install", "-y", "-o", "Dpkg::Options::=--force-confold", "/root/next.deb", seconds=300
        ).stdout
        assert (self._root / CONFIG).read_text() == self._config, "the configuration has changed"
        assert "add-recognition" not in output, "the upgrade prints the advice of a first installation"
        before = self._pid
        self._check_active()
        assert self._pid != before, "the service was not restarted"
        self._box.run("systemctl", "disable", "--now", UNIT)
        self._box.run("apt-get", "install", "-y", "--reinstall", "/root/next.deb", seconds=300)
        enabled = self._box.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip()
        assert enabled == "disabled", f"the disabled unit is {enabled}"
        self._box.run("systemctl", "enable", "--now", UNIT)
        return "0.1.0 to the next"

    def _remove(self) -> None:
        recognizer = self._root / "usr/lib/voice-agent/recognition/something.py"
        recognizer.parent.mkdir()
        recognizer.write_text("")
        self._box.run("apt-get", "remove", "-y", "voice-agent", seconds=300)
        active = self._box.run("systemctl", "is-active", UNIT, check=False).stdout.strip()
        assert active == "inactive", f"the service is {active}"
        assert (self._root / CONFIG).read_text() == self._config
        assert not (self._root / "usr/lib/voice-agent").exists(), "/usr/lib/voice-agent remains"

    def _purge(self) -> None:
        self._box.run("apt-get", "purge", "-y", "voice-agent", seconds=300)
        # Other files may disappear during the search.
        search = ["-ignore_readdir_race", "-xdev", "-iname", "*voice*agent*"]
        paths = self._box.run("find", "/etc", "/usr", "/var", "/run", "/tmp", *search).stdout
        remaining = [path for path in paths.split() if not path.startswith("/run/systemd/propagate/")]
        assert not remaining, " ".join(remaining)
        units = self._box.run("systemctl", "list-unit-files", "voice-agent*", check=False).stdout
        assert "voice-agent" not in units, units


def _is_stuck_line(line: str) -> bool:
    return re.search(r"\bstuck\b.*\bspeaker\b", line) is not None


def _peak(pcm: bytes) -> int:
    samples = memoryview(pcm[: len(pcm) // 2 * 2]).cast("h")
    return max(max(samples, default=0), -min(samples, default=0))


def _next_version(line: str) -> str:
    return line.rstrip("\n") + ".1\n" if line.startswith("Version: ") else line


if __name__ == "__main__":
    sys.exit(main())
