"""The commands that use a running daemon; daemon and commands are processes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import resident_kib
from support.processes import Process

from agent.client import Client
from agent.frontends.api.api import Api
from agent.frontends.control.server import ControlServer
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, Event
from agent.pipeline.status import Status
from agent.system.threads import Deadline

SECONDS = 30.0
LONG_TEXT = " ".join(["word"] * 150)
"""Half a minute of tones, longer than any step of a test beside it."""

SHORT_TEXT = " ".join(["word"] * 30)
"""6 s of tones."""

CONFIG = """
microphone: {{device: none}}
speaker: {{device: none, prebuffer_seconds: {prebuffer}}}
conversation: {{mode: {mode}}}
synthesis: {{services: [local]}}
server: {{port: 0, speech: tone, recognition: none}}
control: {{socket: {socket}}}
"""


class Machine:
    """A configuration, the daemon that uses it, and commands beside the daemon."""

    def __init__(
        self, directory: Path, mode: str = "announce", prebuffer: float = 0.1, state: Path | None = None
    ) -> None:
        # The state directory of the test: without it the daemon of root stores its volume in /var/lib.
        self._state = str(state or os.environ["STATE_DIRECTORY"])
        self.socket = directory / "run" / "control.sock"
        self.config = directory / "config.yaml"
        self.config.write_text(CONFIG.format(mode=mode, socket=self.socket, prebuffer=prebuffer))

    @contextlib.contextmanager
    def running(self, code: int = 0) -> Iterator[Machine]:
        """Run the daemon for the duration of the block; it has to exit with ``code``."""
        self.daemon = self.start("run")
        try:
            self.daemon.stderr.await_text("ready: ")
            yield self
            self.daemon.signal(signal.SIGTERM)
            assert self.daemon.end(SECONDS) == code, self.daemon.errors
        finally:
            self.daemon.kill()

    def start(self, *words: str) -> Process:
        env = {"STATE_DIRECTORY": self._state}
        return Process(words[0], "--config", str(self.config), *words[1:], env=env, stdin=True)

    def run(self, *words: str, stdin: str | bytes = "") -> tuple[int, str, str]:
        """Run a command; return exit code, output and errors."""
        command = self.start(*words)
        with contextlib.suppress(BrokenPipeError):
            command.write(stdin)
        return end(command)

    def await_status(self, name: str, value: object) -> None:
        """Wait until a field of the daemon's status has this value."""
        deadline = Deadline(SECONDS)
        with Client(str(self.socket)) as client:
            while client.status()[name] != value:
                assert not deadline.is_expired, f"{name} is not {value}: {self.daemon.stderr.data.decode()}"

    def records(self, count: int = 0) -> list[str]:
        """Return how each utterance ended, after at least ``count`` of them: a log line may arrive after a command."""
        ends = time.monotonic() + SECONDS
        while len(found := re.findall(rb"conversation: \S*control-\d+: (.*)", self.daemon.stderr.data)) < count:
            assert time.monotonic() < ends, found
            self.daemon.stderr.await_bytes(len(self.daemon.stderr.data) + 1)
        return [line.decode() for line in found]


def end(command: Process) -> tuple[int, str, str]:
    with contextlib.suppress(BrokenPipeError):
        command.close_stdin()
    return command.end(SECONDS), command.output, command.errors


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path).running() as running:
        yield running


@pytest.fixture
def speaking(machine: Machine) -> Process:
    """A ``say`` whose text the daemon is speaking."""
    command = machine.start("say", LONG_TEXT)
    machine.await_status("state", "speaking")
    return command


def test_say_waits_until_the_daemon_has_played_the_text(machine: Machine) -> None:
    assert machine.run("say", "hello", "there") == (0, "", "")
    machine.await_status("state", "idle")
    assert machine.records(1) == ["played by local, 0.4 s, priority=0"]


def test_say_passes_on_stdin_while_it_arrives(machine: Machine) -> None:
    command = machine.start("say", "-")
    command.write("One two three. And ")
    machine.await_status("state", "speaking")
    command.write("four.")
    assert end(command) == (0, "", "")
    assert machine.records(1) == ["played by local, 1.0 s, priority=0"]


def test_a_queued_text_may_arrive_in_pieces(machine: Machine) -> None:
    first = machine.start("say", SHORT_TEXT)
    machine.await_status("state", "speaking")
    assert machine.run("say", "-", stdin="One. Two.") == (0, "", "")
    assert end(first) == (0, "", "")
    assert machine.records(2) == [f"played by local, {seconds} s, priority=0" for seconds in ("6.0", "0.4")]


@pytest.mark.parametrize("stdin", ["", " \n\n"])
def test_stdin_without_words_is_a_usage_error(machine: Machine, stdin: str) -> None:
    code, _, errors = machine.run("say", "-", stdin=stdin)
    assert code == 2 and "no words" in errors
    assert machine.records() == []


def test_invalid_stdin_is_a_usage_error_and_the_daemon_continues(machine: Machine) -> None:
    code, _, errors = machine.run("say", "-", stdin=b"One. Two. \xff\xfe")
    assert code == 2 and "UTF-8" in errors
    code, _, errors = machine.run("say", "-", stdin="word " * 20_001)
    assert code == 2 and "100000" in errors
    machine.await_status("state", "idle")
    assert machine.run("say", "hello") == (0, "", "")


def test_an_empty_text_is_a_usage_error(machine: Machine) -> None:
    code, _, errors = machine.run("say", "  ")
    assert code == 2 and "nothing to say" in errors
    assert machine.records() == []


def test_sigint_to_say_cancels_the_utterance(machine: Machine, speaking: Process) -> None:
    speaking.signal(signal.SIGINT)
    assert end(speaking) == (3, "", "")
    machine.await_status("state", "idle")
    assert machine.records(1)[0].startswith("cancelled (by control)")


def test_hush_cancels_the_utterance_and_say_reports_it(machine: Machine, speaking: Process) -> None:
    assert machine.run("hush") == (0, "", "")
    assert end(speaking) == (3, "", "voice-agent: cancelled by control\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_to_say_cancel_the_utterance(machine: Machine, number: int) -> None:
    command = machine.start("say", LONG_TEXT)
    machine.await_status("state", "speaking")
    command.signal(number)
    assert end(command) == (3, "", "")


def test_say_warns_about_a_speaker_that_cannot_be_heard(machine: Machine) -> None:
    assert machine.run("mute", "speaker") == (0, "", "")
    code, _, errors = machine.run("say", "hello")
    assert code == 0 and "muted" in errors and "unmute speaker" in errors
    assert machine.run("unmute", "speaker") == (0, "", "")
    assert machine.run("volume", "0") == (0, "", "")
    code, _, errors = machine.run("say", "-", stdin="hello")
    assert code == 0 and "volume is 0" in errors
    assert machine.run("volume", "50") == (0, "", "")
    assert machine.run("say", "hello") == (0, "", "")


def test_say_reports_the_end_of_the_daemon(machine: Machine, speaking: Process) -> None:
    machine.daemon.signal(signal.SIGTERM)
    code, _, errors = end(speaking)
    assert code == 3 and "cancelled by" in errors  # the shutdown is shorter than the text
    assert machine.daemon.end(SECONDS) == 0
    assert not machine.socket.exists()


def test_say_fails_when_the_daemon_is_killed(tmp_path: Path) -> None:
    with Machine(tmp_path).running(code=-signal.SIGKILL) as machine:
        command = machine.start("say", LONG_TEXT)
        machine.await_status("state", "speaking")
        machine.daemon.kill()
        code, _, errors = end(command)
        assert code == 69 and "ended before" in errors
        assert machine.socket.exists()
    # The next daemon replaces the stale socket. It has no announcement that the first one was killed before it started.
    (state := tmp_path / "state").mkdir()
    with Machine(tmp_path, state=state).running() as machine:
        assert machine.run("say", "hello")[0] == 0


def test_status_prints_a_table_of_the_fields_in_json(machine: Machine) -> None:
    machine.await_status("status", "ready to speak")
    code, output, _ = machine.run("status", "--json")
    status = json.loads(output)
    assert (code, status["state"], status["troubles"], status["volume"]) == (0, "idle", [], 100)
    assert (status["mode"], status["saying"], status["queue"]) == ("announce", None, 0)
    assert status["services"] == [
        {"name": "local", "role": "speech", "state": "connected", "reason": "", "breaker": "closed"}
    ]
    assert status["devices"] == {"speaker": {"device": "none", "state": "ready", "reason": ""}}
    assert status["uptime_seconds"] > 0 and status["version"]
    code, output, errors = machine.run("status")
    rows = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert (code, errors) == (0, "")
    assert rows["status"] == "ready to speak" and rows["volume"] == "100 %" and rows["version"] == status["version"]
    assert (rows["speech"], rows["speaker"]) == ("local: connected", "none: ready")


def test_status_shows_the_utterance_and_the_queue(machine: Machine, speaking: Process) -> None:
    queued = machine.start("say", "-")
    queued.write("second")
    machine.await_status("queue", 1)
    service = {"name": "local", "role": "speech", "state": "ready", "reason": "", "breaker": "closed"}
    machine.await_status("services", [service])  # speech is reported before the connection that brought it
    _, output, _ = machine.run("status")
    rows = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert rows["saying"].startswith('"word word word') and "priority 0" in rows["saying"]
    assert rows["queue"] == "1" and rows["speech"] == "local: ready"
    assert machine.run("hush") == (0, "", "")
    assert end(speaking)[0] == end(queued)[0] == 3
    machine.await_status("saying", None)


def test_status_shows_a_failed_reload(machine: Machine) -> None:
    valid = machine.config.read_bytes()
    machine.config.write_bytes(valid + b"\nspeeker: {volume: 3}\n")
    machine.daemon.signal(signal.SIGHUP)
    machine.daemon.stderr.await_text("not reloaded")
    code, output, _ = machine.run("status")
    assert code == 0 and "trouble       the new configuration is not used: " in output and "speeker" in output
    machine.config.write_bytes(valid)
    machine.daemon.signal(signal.SIGHUP)
    machine.await_status("troubles", [])


def test_requests_about_phrases_use_the_configuration_in_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    machine = Machine(tmp_path)
    config = machine.config.read_text().replace("services: [local]", "services: [local], phrases: {enabled: true}")
    machine.config.write_text(config)
    with machine.running(), Client(str(machine.socket)) as client:
        assert client.call("phrases.list")["capacity_bytes"] == 100_000_000
        machine.config.write_text(config.replace("enabled: true", "enabled: true, megabytes: 7"))
        client.reload()
        machine.daemon.stderr.await_text("configuration: reloaded")
        assert client.call("phrases.list")["capacity_bytes"] == 7_000_000


@pytest.mark.parametrize(
    ("can_speak", "can_listen", "code"),
    [(True, True, 0), (True, None, 0), (None, True, 0), (False, True, 69), (True, False, 69), (False, False, 69)],
)
def test_status_check_fails_if_the_daemon_cannot_speak_or_listen(
    tmp_path: Path, can_speak: bool | None, can_listen: bool | None, code: int
) -> None:
    machine = Machine(tmp_path)
    api = Api(lambda event: None)
    control = ControlServer(machine.socket, lambda event: None, api)
    control.open()
    api.notify(Status("no service can speak", "idle", can_speak=can_speak, can_listen=can_listen))
    control.start()
    try:
        exit_code, output, errors = machine.run("status", "--check")
        assert (exit_code, output) == (code, "")
        assert ("cannot" in errors) == (code != 0) and errors.count("\n") <= 1
    finally:
        control.stop()
        assert control.join(Deadline(SECONDS))


def test_volume_sets_and_prints_the_volume(machine: Machine) -> None:
    assert machine.run("volume", "30") == (0, "", "")
    machine.await_status("volume", 30)  # the answer comes before the effect
    assert machine.run("volume") == (0, "30\n", "")
    code, _, errors = machine.run("volume", "101")
    assert code == 2 and "from 0 to 100, not '101'" in errors and len(errors) < 200


@pytest.mark.parametrize("words", [["status"], ["status", "--check"], ["hush"], ["volume", "5"], ["volume"]])
def test_without_a_daemon_the_command_exits_69(tmp_path: Path, words: list[str]) -> None:
    machine = Machine(tmp_path)
    code, output, errors = machine.run(*words)
    assert (code, output) == (69, "")
    assert str(machine.socket) in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"\nspeeker: {volume: 3}\n",
        b"\nlogging: [\n",
        "\n# f\u00fcr\n".encode("latin-1"),
        b"\nspeaker:\n\tvolume: 80\n",
        b'\nresponder: {rules: [{pattern: "\\d"}]}\n',
    ],
)
def test_an_invalid_configuration_does_not_lock_the_operator_out(machine: Machine, broken: bytes) -> None:
    machine.config.write_bytes(machine.config.read_bytes() + broken)
    for words in (["status"], ["volume", "30"], ["mute", "speaker"], ["unmute", "speaker"], ["hush"], ["say", "hello"]):
        code, _, errors = machine.run(*words)
        assert code == 0, errors
        assert errors.count("\n") == 1 and errors.startswith("voice-agent: warning: the configuration is invalid, ")
        assert str(machine.config) in errors
    code, _, errors = machine.run("say", "--output", "-", "hello")
    assert code == 78 and "warning" not in errors


def test_without_a_daemon_an_invalid_configuration_is_an_error_of_say(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.config.write_text(machine.config.read_text() + "\nspeeker: {volume: 3}\n")
    code, _, errors = machine.run("say", "hello")
    assert code == 78 and errors.count("speeker") == 1
    code, _, errors = machine.run("hush")
    assert code == 69 and "no daemon can be reached" in errors


def test_say_reports_a_missing_speaker_at_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    api = Api(inbox.put)
    control = ControlServer(machine.socket, inbox.put, api)
    control.open()
    api.notify(Status("no speaker: waiting for any", "idle", ("no speaker: waiting for any",), 100))
    control.start()
    try:
        command = machine.start("say", "hello")
        announcement = inbox.get(timeout=SECONDS)
        assert isinstance(announcement, Announce)
        command.stderr.await_text("no speaker: waiting for any")  # before the utterance ends
        api.notify(Record(announcement.utterance, "played", "", 1.0))
        assert end(command)[0] == 0
    finally:
        control.stop()
        assert control.join(Deadline(SECONDS))


def test_options_of_say_reach_the_daemon_and_the_history(machine: Machine) -> None:
    words = ("say", "--priority", "important", "--ttl", "60", "--id", "gate-1", "--volume", "50", "--voice", "x")
    assert machine.run(*words, "hello") == (0, "", "")
    assert machine.run("say", "--no-wait", "-P", "-7", "--id", "gate-2", LONG_TEXT) == (0, "", "")
    machine.await_status("state", "speaking")
    code, output, _ = machine.run("history", "--json")
    records = [json.loads(line) for line in output.splitlines()]
    assert code == 0 and [(each["id"], each["state"]) for each in records] == [
        ("gate-1", "played"),
        ("gate-2", "started"),
    ]
    assert [(each["urgency"], each["priority"]) for each in records] == [("important", 0), ("message", -7)]
    assert machine.run("cancel", "gate-2") == (0, "", "")
    machine.await_status("state", "idle")
    code, output, _ = machine.run("history", "-n", "1")
    assert code == 0 and "cancelled" in output and "gate-2 (-7, local)" in output
    code, _, errors = machine.run("say", "--id", "gate-1", "another text")
    assert code == 69 and "gate-1" in errors


def test_stdin_with_a_known_id_is_not_spoken_again(machine: Machine) -> None:
    assert machine.run("say", "--id", "gate-1", "hello") == (0, "", "")
    code, _, errors = machine.run("say", "--id", "gate-1", "-", stdin="Another text.")
    assert code == 0 and "the id gate-1 is already known" in errors and len(errors.splitlines()) == 1
    assert len(machine.run("history", "--json")[1].splitlines()) == 1


def test_say_cancels_with_the_options_of_spd_say(machine: Machine, speaking: Process) -> None:
    queued = machine.start("say", LONG_TEXT)
    machine.await_status("queue", 1)
    assert machine.run("say", "-S") == (0, "", "")
    assert end(speaking)[0] == 3
    machine.await_status("queue", 0)
    assert machine.run("say", "-C", "-w", "hello") == (0, "", "")
    assert end(queued)[0] == 3


def test_a_notification_is_dropped_while_the_daemon_speaks(machine: Machine, speaking: Process) -> None:
    code, _, errors = machine.run("say", "--priority", "notification", "hello")
    assert code == 3 and errors.startswith("voice-agent: dropped: ")
    assert machine.run("hush") == (0, "", "")
    assert end(speaking)[0] == 3


def test_urgent_is_the_priority_important(machine: Machine, speaking: Process) -> None:
    assert machine.run("say", "--urgent", "hello") == (0, "", "")
    code, _, errors = machine.run("say", "--urgent", "--priority", "3", "hello")
    assert code == 2 and "--urgent" in errors
    assert machine.run("hush") == (0, "", "")
    assert end(speaking)[0] == 3


def test_events_are_printed_to_a_pipe_as_they_occur(machine: Machine) -> None:
    command = machine.start("events", "--json", "--texts", "utterance")
    people = machine.start("events", "utterance")
    deadline = Deadline(SECONDS)
    for each in (command, people):  # until it is subscribed
        while "accepted" not in str(each.stdout.data):
            assert not deadline.is_expired
            assert machine.run("say", "hello")[0] == 0
    lines = [json.loads(line) for line in command.stdout.data.splitlines()]
    assert {line["event"] for line in lines} == {"utterance"}
    assert any(line["state"] == "accepted" and line["text"] == "hello" for line in lines)
    command.signal(signal.SIGINT)
    assert end(command)[0] == 0 and command.errors == ""
    machine.daemon.signal(signal.SIGTERM)
    assert machine.daemon.end(SECONDS) == 0
    code, output, errors = end(people)
    assert code == 69 and "closed the connection" in errors
    assert re.search(r"^\d\d:\d\d:\d\d utterance +id=\S+ state=accepted ", output, re.MULTILINE)


def test_events_end_without_another_event_when_their_reader_closes_the_pipe(machine: Machine) -> None:
    reader, writer = os.pipe()
    command = Process("events", "--config", str(machine.config), "--json", "utterance", stdout=writer)
    os.close(writer)
    os.set_blocking(reader, False)
    output = b""
    deadline = Deadline(SECONDS)
    while not output:  # until it is subscribed
        assert not deadline.is_expired
        assert machine.run("say", "hello") == (0, "", "")
        with contextlib.suppress(BlockingIOError):
            output = os.read(reader, 65536)
    assert json.loads(output.splitlines()[0])["event"] == "utterance"
    os.close(reader)
    assert command.end(SECONDS) == 0 and command.errors == ""


def test_listen_needs_a_daemon_that_listens(machine: Machine) -> None:
    code, _, errors = machine.run("listen")
    assert code == 69 and "only speaks" in errors


def test_without_a_daemon_say_speaks_itself(tmp_path: Path) -> None:
    code, output, errors = Machine(tmp_path).run("say", "hello")
    assert (code, output, errors) == (0, "", "")
    code, output, errors = Machine(tmp_path).run("say", "--ttl", "3", "--chime", "ding", "hello")
    assert (code, output) == (0, "") and "--ttl, --chime: no effect" in errors


def test_with_an_output_or_a_service_say_speaks_itself(machine: Machine, tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    assert machine.run("say", "--output", str(output), "hello")[0] == 0
    assert output.stat().st_size > 44
    assert machine.run("say", "--service", "local", "hello")[0] == 0
    assert machine.records() == []


def test_in_captions_mode_the_daemon_refuses_to_speak(tmp_path: Path) -> None:
    with Machine(tmp_path, mode="captions").running() as machine:
        code, _, errors = machine.run("say", "hello")
        assert code == 69 and "captions" in errors
        code, output, errors = machine.run("volume")
        assert (code, errors) == (0, "") and "does not speak" in output


def test_a_file_at_the_socket_path_is_a_configuration_error(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.socket.parent.mkdir()
    machine.socket.write_text("precious")
    code, _, errors = machine.run("run")
    assert code == 78 and str(machine.socket) in errors and "Traceback" not in errors
    assert machine.socket.read_text() == "precious"


def test_hostile_clients_disturb_neither_playback_nor_memory(tmp_path: Path) -> None:
    """Garbage, a line of 1 GiB, clients that never read and a thousand connections, while the daemon speaks.

    Playback starts when all audio has arrived, so that a busy machine causes no underrun.
    """
    with Machine(tmp_path, prebuffer=5.0).running() as machine, contextlib.ExitStack() as stack:
        assert machine.run("say", "hello")[0] == 0  # loads what a first utterance needs
        with Client(str(machine.socket)) as client:
            client.history()
        command = machine.start("say", SHORT_TEXT)
        machine.await_status("state", "speaking")
        before = resident_kib(machine.daemon.popen.pid)

        def connect() -> socket.socket:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(machine.socket))
            client.settimeout(0.5)
            return client

        connect().sendall(b'{"jsonrpc": "2.0", "id": 1, "me')
        for chunk, count in (
            (os.urandom(4096), 128),
            (b"x" * 65536, 16384),
            (request("status") * 100, 1000),
            (request("history") * 100, 1000),
            (request("subscribe", texts=True) + request("status") * 100, 1000),
            (request("say.begin") * 100, 10),
        ):
            client = connect()
            with contextlib.suppress(OSError):
                for _ in range(count):
                    client.sendall(chunk)
        for _ in range(5):
            with contextlib.ExitStack() as crowd:
                for _ in range(200):
                    crowd.enter_context(socket.socket(socket.AF_UNIX)).connect(str(machine.socket))
        grown = resident_kib(machine.daemon.popen.pid) - before
        assert grown < 4 * 1024
        assert machine.run("status")[0] == 0
        assert end(command) == (0, "", "")
        assert machine.records(2)[1] == "played by local, 6.0 s, priority=0"
        assert b"silence" not in machine.daemon.stderr.data  # the warning about underruns names the inserted silence


def request(method: str, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"
