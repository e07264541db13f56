"""The commands that reach a running daemon, each a process of its own, and the daemon another."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.frontends.control.client import ControlClient
from agent.frontends.control.server import ControlServer
from agent.pipeline.conversation import Record
from agent.pipeline.events import Announce, Event
from agent.pipeline.status import Status
from agent.system.threads import Deadline

SECONDS = 30.0
LONG = " ".join(["word"] * 150)
"""Half a minute of tones: nothing that a test does beside it takes so long."""

CONFIG = """
microphone: {{device: none}}
speaker: {{device: none, prebuffer_seconds: {prebuffer}}}
conversation: {{mode: {mode}}}
synthesis: {{services: [local]}}
server: {{port: 0, speech: tone, recognition: none}}
control: {{socket: {socket}}}
"""


class House:
    """A daemon that only speaks, and what is typed beside it."""

    def __init__(self, directory: Path, mode: str = "announce", prebuffer: float = 0.1) -> None:
        self.socket = directory / "run" / "control.sock"
        self.config = directory / "config.yaml"
        self.config.write_text(CONFIG.format(mode=mode, socket=self.socket, prebuffer=prebuffer))
        self.log: list[str] = []
        self._over = False
        self._told = threading.Condition()

    @contextlib.contextmanager
    def running(self, code: int = 0) -> Iterator[House]:
        """A daemon, until the end of the block or its own; it exits with ``code``."""
        self.daemon = self.start("run")
        reader = threading.Thread(target=self._read)
        reader.start()
        try:
            self._await_log(lambda: "ready:" in "".join(self.log))
            yield self
        finally:
            if self.daemon.poll() is None:
                self.daemon.terminate()
            try:
                ended = self.daemon.wait(SECONDS)
            finally:
                self.daemon.kill()
                reader.join(SECONDS)
                self.close(self.daemon)
        assert ended == code, self.log

    def _read(self) -> None:
        for line in self.daemon.stderr or ():
            with self._told:
                self.log.append(line)
                self._told.notify_all()
        with self._told:
            self._over = True
            self._told.notify_all()

    def _await_log(self, met: Callable[[], bool]) -> None:
        """What a daemon has written may still be on its way when a command has ended."""
        with self._told:
            self._told.wait_for(lambda: met() or self._over, SECONDS)
            assert met(), self.log

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "agent", words[0], "--config", str(self.config), *words[1:]]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def type(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(stdin, timeout=SECONDS)
        return process.returncode, out, err

    def wait_for(self, state: str) -> None:
        self.wait_until("state", state)

    def wait_until(self, name: str, value: object) -> None:
        with contextlib.closing(ControlClient.connect((self.socket,))) as client:
            for _ in range(10_000):  # each at the pace of the socket, so this is long enough
                if client.request({"status": True})[name] == value:
                    return
        raise AssertionError(f"its {name} never was {value}: {self.log}")

    @staticmethod
    def close(process: subprocess.Popen[str]) -> None:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def records(self, least: int = 0) -> list[str]:
        """What was said, and how it ended, once there are so many of them."""

        def found() -> list[str]:
            return re.findall(r"control-\d+: (.*)", "".join(self.log))

        self._await_log(lambda: len(found()) >= least)
        return found()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path).running() as running:
        yield running


def test_a_running_daemon_says_it_and_say_waits_for_the_end(house: House) -> None:
    assert house.type("say", "hello", "there") == (0, "", "")
    house.wait_for("idle")
    assert house.records(1) == ["played, 0.4 s"]


def test_stdin_is_handed_over_as_it_comes(house: House) -> None:
    saying = house.start("say", "-")
    assert saying.stdin is not None
    saying.stdin.write("One two three. And ")
    saying.stdin.flush()
    house.wait_for("speaking")  # while the text is still being written
    out, err = saying.communicate("four.", timeout=SECONDS)
    assert (saying.returncode, out, err) == (0, "", "")
    assert house.records(1) == ["played, 1.0 s"]


def test_what_waits_in_line_may_still_be_written(house: House) -> None:
    first = house.start("say", LONG[:149])  # thirty words
    house.wait_for("speaking")
    second = house.type("say", "-", stdin="One. Two.")
    assert second == (0, "", "")
    assert first.communicate(timeout=SECONDS) == ("", "") and first.returncode == 0
    assert house.records(2) == ["played, 6.0 s", "played, 0.4 s"]


@pytest.mark.parametrize(("stdin", "sentence"), [("", "stdin held no words"), (" \n\n", "stdin held no words")])
def test_stdin_without_words_is_a_mistake_of_usage(house: House, stdin: str, sentence: str) -> None:
    code, _, err = house.type("say", "-", stdin=stdin)
    assert code == 2 and sentence in err
    assert house.records() == []


def test_stdin_that_breaks_off_is_a_mistake_and_the_daemon_goes_on(house: House) -> None:
    saying = subprocess.Popen(
        [sys.executable, "-m", "agent", "say", "--config", str(house.config), "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, err = saying.communicate(b"One. Two. \xff\xfe", timeout=SECONDS)
    assert saying.returncode == 2 and b"UTF-8" in err
    code, _, longest = house.type("say", "-", stdin="word " * 20_001)
    assert code == 2 and "100000" in longest
    house.wait_for("idle")
    assert house.type("say", "hello") == (0, "", "")


def test_a_text_that_cannot_be_said_never_reaches_the_daemon(house: House) -> None:
    code, _, err = house.type("say", "  ")
    assert code == 2 and "nothing to say" in err
    assert house.records() == []


def test_interrupting_say_hushes_the_daemon(house: House) -> None:
    saying = house.start("say", LONG)
    house.wait_for("speaking")
    saying.send_signal(signal.SIGINT)
    assert saying.communicate(timeout=SECONDS) == ("", "") and saying.returncode == 0
    house.wait_for("idle")
    assert house.records(1)[0].startswith("cancelled (by control)")


def test_hush_ends_what_is_said_and_whoever_said_it_is_told(house: House) -> None:
    saying = house.start("say", LONG)
    house.wait_for("speaking")
    assert house.type("hush") == (0, "", "")
    out, err = saying.communicate(timeout=SECONDS)
    assert (saying.returncode, out, err) == (0, "", "voice-agent: cancelled by control\n")


def test_when_the_daemon_ends_whoever_waits_is_told(house: House) -> None:
    saying = house.start("say", LONG)
    house.wait_for("speaking")
    house.daemon.terminate()
    _, err = saying.communicate(timeout=SECONDS)
    assert saying.returncode == 0
    assert "cancelled by" in err  # cut: the end does not leave enough time for so long a text
    assert house.daemon.wait(SECONDS) == 0
    assert not house.socket.exists()


def test_when_the_daemon_is_killed_say_fails(tmp_path: Path) -> None:
    with House(tmp_path).running(code=-signal.SIGKILL) as house:
        saying = house.start("say", LONG)
        house.wait_for("speaking")
        house.daemon.kill()
        _, err = saying.communicate(timeout=SECONDS)
        assert saying.returncode == 69 and "gone" in err
        assert house.socket.exists()  # nobody was there to take it along
    with House(tmp_path).running() as house:  # the next one takes its place
        assert house.type("say", "hello")[0] == 0


def test_status_tells_how_the_daemon_is(house: House) -> None:
    assert house.type("status") == (0, "ready to speak\n", "")
    code, out, _ = house.type("status", "--json")
    status = json.loads(out)
    assert (code, status["state"], status["troubles"], status["volume"]) == (0, "idle", [], 100)


def test_the_volume_is_set_and_told(house: House) -> None:
    assert house.type("volume", "30") == (0, "", "")
    house.wait_until("volume", 30)  # it is answered before it is done
    assert house.type("volume") == (0, "30\n", "")
    code, _, err = house.type("volume", "101")
    assert code == 2 and "from 0 to 100, not '101'" in err and len(err) < 200


def test_without_a_daemon_these_commands_say_so_and_exit_69(tmp_path: Path) -> None:
    house = House(tmp_path)
    for words in (["status"], ["hush"], ["volume", "5"], ["volume"]):
        code, out, err = house.type(*words)
        assert (code, out) == (69, "")
        assert "no daemon can be reached" in err and str(house.socket) in err and err.count("\n") == 1


def test_say_tells_at_once_that_there_is_no_speaker(tmp_path: Path) -> None:
    """It said nothing for half a minute, and then that there had been no speaker."""
    house = House(tmp_path)
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    control = ControlServer(house.socket, inbox.put)
    control.open()
    control.notify(Status("no speaker: waiting for any", "idle", ("no speaker: waiting for any",), 100))
    control.start()
    try:
        saying = house.start("say", "hello")
        announced = inbox.get(timeout=SECONDS)
        assert isinstance(announced, Announce) and saying.stderr is not None
        assert "no speaker: waiting for any" in saying.stderr.readline()  # before it is said
        control.notify(Record(announced.utterance, "played", "", 1.0))
        assert saying.communicate(timeout=SECONDS) == ("", "") and saying.returncode == 0
    finally:
        control.stop()
        assert control.join(Deadline(SECONDS))


def test_without_a_daemon_say_speaks_itself(tmp_path: Path) -> None:
    house = House(tmp_path)
    code, out, _ = house.type("say", "hello")
    assert (code, out) == (0, "")


def test_with_a_file_or_a_service_say_speaks_itself(house: House, tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    assert house.type("say", "--output", str(output), "hello")[0] == 0
    assert output.stat().st_size > 44
    assert house.type("say", "--service", "local", "hello")[0] == 0
    assert house.records() == []


def test_a_daemon_that_only_listens_refuses_to_speak(tmp_path: Path) -> None:
    with House(tmp_path, mode="captions").running() as house:
        code, _, err = house.type("say", "hello")
        assert code == 69 and "only listens" in err
        code, out, err = house.type("volume")
        assert (code, err) == (0, "") and "does not speak" in out


def test_a_socket_that_cannot_be_made_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.socket.parent.mkdir()
    house.socket.write_text("precious")
    code, _, err = house.type("run")
    assert code == 78 and "is no socket" in err and "Traceback" not in err
    assert house.socket.read_text() == "precious"


def test_no_program_at_the_socket_costs_the_sound_a_sample(tmp_path: Path) -> None:
    """Garbage, a line without end, someone who never reads, and a thousand connections, while it speaks. It begins
    when all the sound is there, or else a machine that is busy would make it wait in the midst of it."""
    with House(tmp_path, prebuffer=5.0).running() as house:
        flooded(house)


def flooded(house: House) -> None:
    saying = house.start("say", LONG[:149])  # thirty words
    house.wait_for("speaking")
    with contextlib.ExitStack() as open_ones:
        callers = [open_ones.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
        garbage, giant, deaf, slow = callers
        for caller in callers:
            caller.connect(str(house.socket))
            caller.settimeout(0.5)
        slow.sendall(b'{"say": "hel')
        for caller, chunk in ((garbage, os.urandom(4096)), (giant, b"x" * 65536), (deaf, b'{"status": true}\n' * 500)):
            with contextlib.suppress(OSError):
                for _ in range(128):
                    caller.sendall(chunk)
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX) as passer:
                passer.connect(str(house.socket))
        assert saying.communicate(timeout=SECONDS) == ("", "") and saying.returncode == 0
    assert house.records(1) == ["played, 6.0 s"]
    assert not any("too late" in line for line in house.log)  # no underrun
