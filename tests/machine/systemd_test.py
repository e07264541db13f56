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
TRIES = 5
LONG = " ".join(f"This is sentence number {number} of a rather long story." for number in range(1, 9))

# Every service of the daemon on one speech server of its own, which writes down what comes over the wire.
WIRED = f"""
conversation: {{mode: assistant}}
transcription: {{url: "ws://127.0.0.1:{PORT}/", api_key: {{credential: transcription}}}}
synthesis:
  services: [neuphonic]
  neuphonic: {{url: "ws://127.0.0.1:{PORT}/speak/en", api_key: {{credential: neuphonic}}}}
responder: {{kind: none}}
server: {{start: false}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="systemd-test", description=__doc__)
    parser.add_argument("suite", nargs="?", default="bookworm", choices=("bookworm", "trixie"))
    suite = parser.parse_args().suite
    return run_steps("machine", lambda folder, table: MachineTest(folder, suite, table).run())


class MachineTest:
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
        step("what it depends on is fetched", self._fetch, needed=True)
        archives = debian.downloads(self._suite, self._architecture)
        try:
            with Container(self._root, {archives: "/var/cache/apt/archives"}) as self._box:
                try:
                    self._in_the_box()
                finally:
                    if self._table.failed:
                        print("\n".join(["the journal of the service:", *self._box.lines(UNIT)[-80:]]), file=sys.stderr)
        except AssertionError as error:
            self._table.failed.append(str(error))

    def _in_the_box(self) -> None:
        step = self._table.step
        step("apt install, without a network: enabled, running", self._install, needed=True)
        step("STATUS", self._status)
        step("the sandbox: exposure and verify", self._sandbox)
        step("say is handed over and heard to the sample", self._say)
        step("its speech server logs as it does", self._child)
        step("sudo voice-agent doctor: as the service, all is fine", lambda: Doctor(self._box).check_without_faults())
        step("a member of the group audio may, another user not", self._users)
        step("with the addition for PipeWire it runs as the user who has the sound", self._as_a_user)
        step("SIGHUP with a good configuration", self._reload_good)
        step("SIGHUP with a broken one", self._reload_bad)
        step("a frozen worker: stacks, restart, serving again", self._freeze)
        step("keys reach the service through the sandbox", self._keys)
        step("doctor names what is wrong, with its cure", lambda: Doctor(self._box).check_with_faults(WIRED, KEY))
        step(
            "doctor's archive, for whoever typed sudo, without a key",
            lambda: Doctor(self._box).write_bundle("member", KEY),
        )
        step("stop in the middle of a sentence: end marks, success", self._stop)
        step("the server for a LAN: for private addresses, started, speaking, stopped", self._server)
        step("no key at all is no reason not to start", self._no_keys)
        step("a mistake in the configuration: 78, no restart", self._mistake)
        step("upgrade keeps the configuration and what is disabled", self._upgrade)
        step("remove stops it and keeps the configuration", self._remove)
        step("purge leaves nothing", self._purge)

    # --- before it is booted

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

    # --- in it

    def _install(self) -> str:
        said = self._box.run("apt", "install", "-y", f"/root/{self._package.name}", seconds=300).stdout
        assert self._box.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
        self._serving()
        following = said.partition("voice-agent is installed. Next:\n")[2].partition("\n\n")[0].splitlines()
        commands = [re.split("  +", line.strip())[0].removeprefix("sudo ") for line in following]
        assert commands == ['voice-agent say "Hello."', "voice-agent doctor", ADD], f"it says {said[-600:]}"
        for command in commands[:2]:
            self._box.run("sh", "-c", command)
        self._box.run("test", "-x", ADD)  # it would fetch, and there is no network here
        return f"next: {', '.join(commands)}"

    def _serving(self) -> None:
        assert self._box.run("systemctl", "is-active", UNIT, check=False).stdout.strip() == "active", "it is not active"
        self._pid = self._box.show(UNIT, "MainPID")

    def _status(self) -> str:
        self._ready()
        text = self._box.run("voice-agent", "status").stdout.strip()
        assert text == "ready to speak", f"the status is {text!r}"
        return text

    def _ready(self) -> None:
        """Whoever had it say something is answered before systemd is told that it is done."""
        self._box.wait("it is ready to speak", lambda: self._box.show(UNIT, "StatusText") == "ready to speak")

    def _sandbox(self) -> str:
        units = (UNIT, "voice-agent-server.service")
        said = self._box.run("systemd-analyze", "verify", "--man=no", *units)
        assert not said.stdout + said.stderr, said.stdout + said.stderr
        levels = []
        for unit in units:
            done = self._box.run("systemd-analyze", "security", "--threshold=15", "--no-pager", unit)
            levels.append(done.stdout.split("exposure level for ")[-1].split(": ")[-1].split()[0])
        return "exposure " + " and ".join(levels)

    def _say(self) -> str:
        """The record of the card holds just what the same voice writes into a file."""
        self._box.run("voice-agent", "say", "--output", "/root/said.wav", SENTENCE)
        format, self._reference = read_wav(self._root / "root/said.wav")
        for _ in range(TRIES):
            late = self._told("the sound came too late")
            self._speak(SENTENCE)
            if self._told("the sound came too late") == late:
                break  # else this machine was too busy for a moment, and the daemon has said itself what that did
        self._box.wait("the sentence is on the card's record", lambda: self._reference in self._card.played())
        self._ready()
        return f"{format.seconds_of(len(self._reference)):.1f} s of speech at {format.rate} Hz"

    def _speak(self, text: str) -> None:
        """The daemon says it, and has noted that it has."""
        played = self._told(": played")
        self._box.run("voice-agent", "say", text)
        self._box.wait("the daemon has noted that it was played", lambda: self._told(": played") > played)

    def _told(self, words: str) -> int:
        """How many lines of its journal have these words."""
        return sum(words in line for line in self._box.lines(UNIT))

    def _child(self) -> str:
        """Its speech server is a process of its own, and the journal knows them apart."""
        program = (
            "import sys; sys.path.insert(0, '/usr/lib/voice-agent/vendor'); import websocket\n"
            "peer = websocket.create_connection('ws://127.0.0.1:8394/api/v1/tts'); peer.send('no JSON'); peer.recv()"
        )
        self._box.run("python3", "-c", program)
        self._box.wait("the mistake is in the journal", lambda: self._told("no JSON") > 0)
        (entry,) = [entry for entry in self._box.journal(UNIT) if "no JSON" in str(entry["MESSAGE"])]
        assert (entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"]) == ("voice-agent-server", "4"), entry
        assert entry["MESSAGE"].startswith("client "), entry["MESSAGE"]
        return str(entry["MESSAGE"])

    def _users(self) -> None:
        self._box.run("useradd", "--groups", "audio", "member")
        self._box.run("useradd", "stranger")
        self._box.run("runuser", "-u", "member", "--", "voice-agent", "status")
        done = self._box.run("runuser", "-u", "stranger", "--", "voice-agent", "status", check=False)
        assert done.returncode not in (0, 70), f"a stranger got in: {done.returncode} {done.stdout}{done.stderr}"

    def _as_a_user(self) -> str:
        """There and back: what the service keeps goes with it both times."""
        self._box.run("mkdir", "-p", "/run/user/1000")
        addition = self._root / f"etc/systemd/system/{UNIT}.d/pipewire.conf"
        addition.parent.mkdir(parents=True)
        addition.write_text((ROOT / f"systemd/{UNIT}.d/pipewire.conf.example").read_text())
        try:
            self._restart()
            self._say()
            who = Doctor(self._box).check_without_faults()
            assert "(uid 1000)" in who, who
        finally:
            shutil.rmtree(addition.parent)
            self._restart()
        return who

    def _restart(self) -> None:
        self._box.run("systemctl", "daemon-reload")
        self._box.run("systemctl", "restart", UNIT)
        self._serving()

    def _reload_good(self) -> str:
        config = self._root / CONFIG
        config.write_text(config.read_text() + "\nspeaker: {volume: 50}\n")
        self._box.run("systemctl", "reload", UNIT)
        self._box.wait("the change is in the journal", lambda: "speaker.volume" in " ".join(self._box.lines(UNIT)))
        begin = len(self._card.played())
        self._box.run("voice-agent", "say", SENTENCE)
        loudest, before = _peak(self._card.played()[begin:]), _peak(self._reference)
        assert abs(loudest / before - 0.5) < 0.02, f"the peak is {loudest} where it was {before}"
        self._same_process()
        return f"volume 50: the peak went from {before} to {loudest}"

    def _reload_bad(self) -> str:
        config = self._root / CONFIG
        good = config.read_text()
        config.write_text(good + "\nspeeker: {volume: 10}\n")
        try:
            # Whether systemd calls this a failed reload is its business; the service must go on.
            self._box.run("systemctl", "reload", UNIT, check=False)
            self._box.wait("the mistake is in the journal", lambda: "speeker" in " ".join(self._box.lines(UNIT)))
            line = next(line for line in self._box.lines(UNIT) if "speeker" in line)
            self._same_process()
            self._box.wait("the status tells of it", lambda: "speeker" in self._box.show(UNIT, "StatusText"))
            # The command reads the configuration as well, and would refuse it.
            (self._root / "root/good.yaml").write_text(good)
            self._box.run("voice-agent", "say", "--config", "/root/good.yaml", "Still here.")
        finally:
            config.write_text(good)
        self._box.run("systemctl", "reload", UNIT)
        self._ready()
        return line

    def _same_process(self) -> None:
        assert self._box.show(UNIT, "MainPID") == self._pid, "it was restarted"

    def _freeze(self) -> str:
        """The thread that plays is held fast in the middle of a sentence; all others go on."""
        begin = len(self._card.played())
        self._box.start("voice-agent", "say", LONG)
        self._box.wait("the long story has begun", lambda: len(self._card.played()) > begin + 16000)
        leader = self._box.outside(int(self._pid))
        # While another thread answers, the one that is held does not hold the interpreter's lock as well.
        with frozen_writer(leader, lambda: self._box.run("voice-agent", "status", seconds=10).returncode == 0):
            self._box.wait("it was restarted", lambda: self._box.show(UNIT, "NRestarts") != "0", 90)
        self._box.wait("it is active again", lambda: self._box.show(UNIT, "ActiveState") == "active")
        lines = self._box.lines(UNIT)
        assert any("stuck: speaker" in line for line in lines), "the journal does not name the worker"
        assert any(line.startswith('thread "speaker"') for line in lines), "the journal has no stack of it"
        assert any("Watchdog timeout" in line for line in lines), "it was not the watchdog"
        self._serving()
        begin = len(self._card.played())
        self._box.run("voice-agent", "say", "I am back.")
        assert _peak(self._card.played()[begin:]) > 1000, "it serves, but nothing is heard"
        return next(line for line in lines if "stuck: speaker" in line)

    def _keys(self) -> str:
        """A server that wants keys lets it in; they are in files that only root can read."""
        (self._root / "root/script.txt").write_text("tea please\n")
        for name in ("neuphonic", "transcription"):
            file = self._root / "etc/voice-agent/credentials" / name
            file.write_text(KEY + "\n")
            file.chmod(0o600)
        self._kept = (self._root / CONFIG).read_text()
        (self._root / CONFIG).write_text(WIRED)
        command = ["systemd-run", "--quiet", "--unit=wire", "/usr/bin/voice-agent", "server", f"--port={PORT}"]
        command += [f"--api-key={KEY}", "--recognition=script", "--script=/root/script.txt", "--wire-log=/root/wire"]
        self._box.run(*command)
        self._box.wait("the server listens", lambda: "listening on" in " ".join(self._box.lines("wire.service")))
        self._box.run("systemctl", "restart", UNIT)
        self._serving()
        begin = len(self._card.played())
        self._box.run("voice-agent", "say", "With a key.")
        assert _peak(self._card.played()[begin:]) > 1000, "nothing is heard"
        # What the microphone hears goes to the transcription.
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
        speaking = self._box.start("voice-agent", "say", LONG)
        self._box.wait("the long story has begun", lambda: len(self._card.played()) > begin + 16000)
        self._box.run("systemctl", "stop", UNIT)
        speaking.wait(60)
        result, status = self._box.show(UNIT, "Result"), self._box.show(UNIT, "ExecMainStatus")
        assert (result, status) == ("success", "0"), f"it ended with {result}, {status}"
        # The server may come to read what the daemon has left behind only after that has gone.
        self._box.wait("<STOP> is on every connection", lambda: not self._without("<STOP>", "neuphonic"))
        self._box.wait("eof is on every connection", lambda: not self._without("eof", "transcription"))
        left = self._box.run("pgrep", "--full", "agent[.]server|voice-agent run", check=False).stdout.split()
        assert not left, "processes are left"
        return "<STOP> and eof on every connection"

    def _without(self, mark: str, service: str) -> set[str]:
        """The connections that have not got their end mark."""
        wire = [word for word in self._wire() if word["service"] == service]
        opened = {word["connection"] for word in wire if word["kind"] == "open"}
        assert opened, f"{service}: there was no connection"
        return opened - {word["connection"] for word in wire if mark in word.get("summary", "")}

    def _server(self) -> str:
        unit = "voice-agent-server.service"
        enabled = self._box.run("systemctl", "is-enabled", unit, check=False).stdout.strip()
        assert enabled == "disabled", f"it is {enabled}, though nobody has asked for it"
        self._box.run("systemctl", "stop", "wire.service")
        self._box.run("systemctl", "start", unit)
        self._box.wait("it listens", lambda: "listening on 0.0.0.0:8394" in " ".join(self._box.lines(unit)))
        self._box.run("voice-agent", "say", "--service", "local", "--output", "/root/lan.wav", SENTENCE)
        assert read_wav(self._root / "root/lan.wav")[1] == self._reference, "it speaks with another voice"
        self._box.take_address(PRIVATE)
        self._box.take_address(PUBLIC)
        assert self._reached(PRIVATE), "an address of a LAN is kept out"
        assert not self._reached(PUBLIC), "everybody is let in"
        self._box.wait("a client connects", lambda: "client connected" in " ".join(self._box.lines(unit)))
        coming = [entry for entry in self._box.journal(unit) if "client connected" in str(entry["MESSAGE"])]
        logged = coming[0]["SYSLOG_IDENTIFIER"], coming[0]["PRIORITY"], coming[0]["MESSAGE"]
        connected = "client 1: speech server: client connected, service=neuphonic, client=1"
        assert logged == ("voice-agent-server", "6", connected), logged
        self._box.run("systemctl", "stop", unit)
        result, status = self._box.show(unit, "Result"), self._box.show(unit, "ExecMainStatus")
        assert (result, status) == ("success", "0"), f"it ended with {result}, {status}"
        return f"{PRIVATE} is let in, {PUBLIC} is not"

    def _reached(self, address: str) -> bool:
        """Whether the server can be reached from and at this address of the machine."""
        program = f"import socket; socket.create_connection(('{address}', 8394), 5).close()"
        return self._box.run("python3", "-c", program, check=False).returncode == 0

    def _no_keys(self) -> None:
        (self._root / CONFIG).write_text(self._kept)
        for file in (self._root / "etc/voice-agent/credentials").iterdir():
            file.unlink()
        (self._root / "etc/voice-agent/credentials").rmdir()
        self._box.run("systemctl", "start", UNIT)
        self._serving()

    def _mistake(self) -> str:
        (self._root / CONFIG).write_text("conversation: {mode: shout}\n")
        self._box.run("systemctl", "restart", UNIT, check=False)
        self._box.wait("it has given up", lambda: self._box.show(UNIT, "ActiveState") == "failed")
        status = self._box.show(UNIT, "ExecMainStatus")
        assert status == "78", f"it ended with {status}"
        (self._root / CONFIG).write_text(self._kept)
        self._box.run("systemctl", "restart", UNIT)
        self._serving()
        return "exit 78"

    def _upgrade(self) -> str:
        tree = self._folder / "next"
        subprocess.run(["dpkg-deb", "-R", self._package, tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text("".join(_next_version(line) for line in control.read_text().splitlines(keepends=True)))
        # A new default in the packaged file: the one that was changed by hand has to stay.
        packaged = tree / CONFIG
        packaged.write_text(packaged.read_text() + "\n# a new word\n")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, self._root / "root/next.deb"], check=True,
                       capture_output=True)  # fmt: skip
        said = self._box.run(
            "apt-get", "install", "-y", "-o", "Dpkg::Options::=--force-confold", "/root/next.deb", seconds=300
        ).stdout
        assert (self._root / CONFIG).read_text() == self._kept, "the configuration was changed"
        assert "add-recognition" not in said, "an upgrade gives the advice of a first installation"
        before = self._pid
        self._serving()
        assert self._pid != before, "the old version still runs"
        self._box.run("systemctl", "disable", "--now", UNIT)
        self._box.run("apt-get", "install", "-y", "--reinstall", "/root/next.deb", seconds=300)
        enabled = self._box.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip()
        assert enabled == "disabled", f"what was disabled is {enabled}"
        self._box.run("systemctl", "enable", "--now", UNIT)
        return "0.1.0 to the next"

    def _remove(self) -> None:
        recogniser = self._root / "usr/lib/voice-agent/recognition/something.py"
        recogniser.parent.mkdir()
        recogniser.write_text("")
        self._box.run("apt-get", "remove", "-y", "voice-agent", seconds=300)
        active = self._box.run("systemctl", "is-active", UNIT, check=False).stdout.strip()
        assert active == "inactive", f"it is {active}"
        assert (self._root / CONFIG).read_text() == self._kept
        assert not (self._root / "usr/lib/voice-agent").exists(), "its library is left"

    def _purge(self) -> None:
        self._box.run("apt-get", "purge", "-y", "voice-agent", seconds=300)
        # Others come and go meanwhile, and are no error of this search.
        search = ["-ignore_readdir_race", "-xdev", "-iname", "*voice*agent*"]
        found = self._box.run("find", "/etc", "/usr", "/var", "/run", "/tmp", *search).stdout
        left = [path for path in found.split() if not path.startswith("/run/systemd/propagate/")]
        assert not left, f"this is left: {' '.join(left)}"
        known = self._box.run("systemctl", "list-unit-files", "voice-agent*", check=False).stdout
        assert "voice-agent" not in known, known


def _peak(pcm: bytes) -> int:
    samples = memoryview(pcm[: len(pcm) // 2 * 2]).cast("h")
    return max(max(samples, default=0), -min(samples, default=0))


def _next_version(line: str) -> str:
    return line.rstrip("\n") + ".1\n" if line.startswith("Version: ") else line


if __name__ == "__main__":
    sys.exit(main())
