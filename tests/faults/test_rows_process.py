"""Rows 46, 48, 50 and 53: signals, suspend, clock changes and exhausted resources of the daemon's process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.authority import Authority
from support.fault_rows import Record
from support.processes import Process, WireLoggedServer
from support.scripted import Scripted
from support.shiftedclock import ShiftedClock
from support.speech_services import audio_of, serve_speech, synthesis_settings
from support.tts_pipeline import TtsPipeline

from agent.audio.format import SPEECH
from agent.audio.wav_writer import wav_header
from agent.client import Client, ClientError, Refused
from agent.server.tts import tone

SECONDS = 30.0
HOUR = 3600
LONG = "one two three four five six seven eight nine ten " * 3
LONG_SECONDS = 30 * tone.WORD_SECONDS


class DaemonProcess:
    """A daemon with a control socket that speaks through the server of a test. Not thread-safe."""

    def __init__(
        self,
        agent: Start,
        server: WireLoggedServer,
        folder: Path,
        env: dict[str, str] | None = None,
        under: Sequence[str] = (),
        ready: bool = True,
    ) -> None:
        self.socket = folder / "control.sock"
        config = folder / "config.yaml"
        config.write_text(
            f"microphone: {{device: none}}\nspeaker: {{device: none}}\ncontrol: {{socket: {self.socket}}}\n"
            f"transcription: {{url: 'ws://localhost:{server.port}/'}}\nserver: {{start: false}}\n"
            f"synthesis: {{services: [neuphonic], neuphonic: {{url: 'ws://localhost:{server.port}/speak/en', "
            "sampling_rate: 16000}}\nshutdown_seconds: 3\n"
        )
        self.process: Process = agent("run", "--config", str(config), env=env, under=under)
        if ready:
            self.process.stderr.await_text("ready:")

    def say(
        self, text: str, timeout_seconds: float = SECONDS, accepted: threading.Event | None = None
    ) -> dict[str, object]:
        """Return the end of an utterance, or the error; ``accepted`` is set when the daemon has accepted it."""
        with Client(str(self.socket)) as client:
            try:
                speech = client.say(text)
                if accepted is not None:
                    accepted.set()
                return speech.wait(timeout_seconds)._asdict()
            except Refused as error:
                return {"error": str(error)}
            except ClientError as error:
                raise AssertionError(f"no end: {self.process.stderr.data.decode()}") from error

    def records(self) -> list[str]:
        """Return the final states in the log; call it after the end."""
        return re.findall(r"control-\d+: (\w+)", self.process.errors)

    def end(self) -> int:
        self.process.signal(signal.SIGTERM)
        return self.process.end()


def test_row_46_sigterm_ends_an_utterance_with_one_record(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """All states and all services: ``tests/e2e/test_signals.py``. Here: the client gets one answer."""
    daemon = DaemonProcess(agent, tone_server, tmp_path)
    ends: list[dict[str, object]] = []
    text = "one two three four five six seven eight nine ten " * 9
    asking = threading.Thread(target=lambda: ends.append(daemon.say(text)))
    since = len(tone_server.wire())
    asking.start()
    tone_server.await_wire(1, since, service="neuphonic", direction="in", kind="text")
    began = time.monotonic()
    code = daemon.end()
    took = time.monotonic() - began
    asking.join(SECONDS)
    assert code == 0 and took < 15.0 and daemon.records() == ["cancelled"] and len(ends) == 1
    record_row(46, f"cancelled once, exit 0 after {took:.2f} s; 32 states and services in tests/e2e/test_signals.py")


def stop_and_continue(processes: list[Process], seconds: float) -> None:
    for process in processes:
        process.signal(signal.SIGSTOP)
    threading.Event().wait(seconds)  # time that passes is what is tested here
    for process in processes:
        process.signal(signal.SIGCONT)


def await_synthesis_end(tone_server: WireLoggedServer, since: int) -> None:
    """Return when the daemon has closed the session with a text: it has all of its audio then."""
    (text,) = tone_server.await_wire(1, since, service="neuphonic", direction="in", event="Text")
    tone_server.await_wire(1, since, connection=text["connection"], direction="in", kind="close")


def test_row_48_a_short_sigstop_resumes_the_utterance(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """After a SIGSTOP in an utterance it is played to its end, and no thread is reported as stuck."""
    daemon = DaemonProcess(agent, tone_server, tmp_path)
    ends: list[dict[str, object]] = []
    since = len(tone_server.wire())
    asking = threading.Thread(target=lambda: ends.append(daemon.say(LONG)))
    asking.start()
    await_synthesis_end(tone_server, since)
    stop_and_continue([daemon.process], 5.0)
    asking.join(SECONDS)
    assert daemon.say("and on")["state"] == "played"
    assert [(end["state"], end["seconds"]) for end in ends] == [("played", LONG_SECONDS)]
    assert daemon.end() == 0 and daemon.records() == ["played", "played"]
    assert "stuck" not in daemon.process.errors and "Traceback" not in daemon.process.errors
    record_row(48, f"stopped for 5 s: all {LONG_SECONDS:g} s played, the next one too, exit 0")


def test_row_48_a_long_sigstop_drops_and_counts_old_audio(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """A suspend cancels the utterances; every sample received and every frame recorded is accounted for.

    Connections from before the suspend are not used any more.
    """
    seconds = float(os.environ.get("STOPPED_SECONDS", "12"))
    daemon = DaemonProcess(agent, tone_server, tmp_path)
    stream = RecognizerStream(agent, tone_server, tmp_path, seconds + 200.0)
    ends: list[dict[str, object]] = []
    since = len(tone_server.wire())
    accepted = threading.Event()

    def ask(text: str) -> None:
        ends.append(daemon.say(text, seconds + SECONDS, accepted))

    asking = [threading.Thread(target=ask, args=(text,)) for text in (LONG * 2, "and this")]
    asking[0].start()
    await_synthesis_end(tone_server, since)
    accepted.clear()
    asking[1].start()
    assert accepted.wait(SECONDS)
    stream.await_frames(10)
    stopped = len(tone_server.wire())
    stop_and_continue([daemon.process, stream.process], seconds)
    for thread in asking:
        thread.join(SECONDS)
    woken = len(tone_server.wire())
    began = time.monotonic()
    assert daemon.say("and on")["state"] == "played"
    took = time.monotonic() - began
    assert [end["state"] for end in ends] == ["cancelled", "cancelled"]
    assert all(re.fullmatch(r"by a suspend of \d+ s", str(end["reason"])) for end in ends), ends
    (text,) = tone_server.await_wire(1, woken, service="neuphonic", direction="in", event="Text")
    opened = {line["connection"] for line in tone_server.wire()[stopped:] if line["kind"] == "open"}
    assert text["connection"] in opened, "a connection from before it was trusted"
    stream.await_frames(20)
    assert daemon.end() == 0 and stream.end() == 0
    assert daemon.records() == ["cancelled", "cancelled", "played"]
    heard = sum(float(str(end["seconds"])) for end in ends)
    dropped = sum(map(float, re.findall(r", ([\d.]+) s of audio dropped", daemon.process.errors)))
    assert 0 < heard < 2 * LONG_SECONDS and heard + dropped == pytest.approx(2 * LONG_SECONDS, abs=0.02)
    missing = stream.missing_seconds()
    assert missing > seconds - 1.0
    for process in (daemon.process, stream.process):
        assert "stuck" not in process.errors and "Traceback" not in process.errors
    record_row(
        48,
        f"stopped for {seconds:g} s: {heard:.2f} s played + {dropped:.2f} s dropped of {2 * LONG_SECONDS:g} s, gaps of "
        f"{missing:.1f} s are all that is missing of the frames; the next one played after {took:.2f} s",
    )


def test_row_48_a_daemon_killed_while_stopped_starts_again(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """systemd's watchdog sends SIGABRT, which stays pending, and SIGKILL to a process stopped for WatchdogSec.

    The socket of the old process does not block the new one. With a real systemd: ``scripts/systemd-test``.
    """
    old = DaemonProcess(agent, tone_server, tmp_path)
    since = len(tone_server.wire())
    with Client(str(old.socket)) as client:
        client.say(LONG)
        await_synthesis_end(tone_server, since)
        old.process.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, old.process.popen.pid, os.WSTOPPED)  # a thread that still runs would take the SIGABRT
        for number in (signal.SIGABRT, signal.SIGKILL):
            old.process.signal(number)
        assert old.process.end() == -signal.SIGKILL
    began = time.monotonic()
    daemon = DaemonProcess(agent, tone_server, tmp_path)
    assert daemon.say("and on")["state"] == "played"
    took = time.monotonic() - began
    assert daemon.end() == 0 and daemon.records() == ["played"]
    record_row(48, f"killed while stopped: a new one has played the next {took:.2f} s after its start, exit 0")


class RecognizerStream:
    """A daemon that captions a recording without equal frames. Not thread-safe."""

    def __init__(self, agent: Start, server: WireLoggedServer, folder: Path, seconds: float) -> None:
        self._server, self._since = server, len(server.wire())
        self._pcm = random.Random(48).randbytes(SPEECH.bytes_of(seconds))
        recording, config = folder / "speech.wav", folder / "captions.yaml"
        recording.write_bytes(wav_header(SPEECH, len(self._pcm)) + self._pcm)
        config.write_text(
            f"conversation: {{mode: captions}}\nmicrophone: {{device: 'file:{recording}'}}\n"
            f"transcription: {{url: 'ws://{server.host}:{server.port}/'}}\n"
            "server: {start: false}\ncontrol: {socket: none}\n"
        )
        self.process = agent("run", "--config", str(config))
        self.process.stderr.await_text("ready:")

    def await_frames(self, more: int) -> None:
        self._server.await_wire(more, len(self._server.wire()), service="transcription", direction="in", kind="binary")

    def end(self) -> int:
        self.process.signal(signal.SIGTERM)
        return self.process.end()

    def missing_seconds(self) -> float:
        """Return how many seconds of the recording were not sent.

        Asserts that all the rest was sent, sample by sample, and that the missing audio was reported as gaps.
        """
        frames = self._server.matching(self._since, service="transcription", direction="in", kind="binary")
        at = skipped = 0
        for line in frames:
            while hashlib.sha256(self._pcm[at : at + line["length"]]).hexdigest() != line["sha256"]:
                at, skipped = at + line["length"], skipped + line["length"]
                assert at < len(self._pcm), f"this was not recorded, or sent twice: {line}"
            at += line["length"]
        reported = re.findall(r"gap: ([\d.]+) s of captured audio lost at [\d.]+ s, (.*)", self.process.errors)
        gaps = [float(long) for long, why in reported if "suspend" in why or "overflowed" in why]
        assert sum(gaps) == pytest.approx(SPEECH.seconds_of(skipped), abs=0.01), reported
        return SPEECH.seconds_of(skipped)


def test_row_50_setting_the_wall_clock_has_no_effect(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """The wall clock begins in 1970, is set by NTP, and jumps an hour both ways; only the monotonic one counts."""
    clock = ShiftedClock(tmp_path)
    clock.shift(-int(time.time()))
    daemon = DaemonProcess(agent, tone_server, tmp_path, clock.env)
    durations = []
    for shift in (None, 0, HOUR, -HOUR, 0):
        if shift is not None:
            clock.shift(shift)
        began = time.monotonic()
        assert daemon.say("one two")["state"] == "played"
        durations.append(time.monotonic() - began)
    ends: list[dict[str, object]] = []
    asking = threading.Thread(target=lambda: ends.append(daemon.say("one two three four five six")))
    since = len(tone_server.wire())
    asking.start()
    tone_server.await_wire(1, since, service="neuphonic", direction="in", event="Text")
    clock.shift(HOUR)
    clock.shift(-HOUR)
    asking.join(SECONDS)
    assert [end["state"] for end in ends] == ["played"]
    assert daemon.end() == 0
    errors = daemon.process.errors
    assert " warning " not in errors, errors
    assert "stuck" not in errors and "Traceback" not in errors and max(durations) < SECONDS
    most = max(durations)
    record_row(50, f"1970, then today, +1 h, -1 h, both in one utterance: 6 of 6 played, at most {most:.2f} s each")


def test_row_50_a_not_yet_valid_certificate_is_explained_and_retried(
    record_row: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without a battery clock starts in the past; the failure is temporary, and no key is sent."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    with (
        Scripted(serve_speech("neuphonic"), tls=authority.not_yet_valid()) as server,
        TtsPipeline(synthesis_settings(server.port, "neuphonic", secure=True)) as pipeline,
    ):
        end = pipeline.failed("Too early.")
        assert "not yet valid: check the clock of this machine" in end.reason
        assert not pipeline.downs[0].permanent and set(server.requests) == {""}
        server.tls = authority.good()
        took = pipeline.speak_until_played("In time.")
        assert pipeline.spoken("And on.") == audio_of("And on.")
    record_row(50, f"not yet valid: explained, tried again, played {took:.2f} s after the clock was right")


TEST_USER = 1_000_000 + os.getpid()  # a user that runs nothing else, also while other processes run these tests


def unprivileged_command() -> list[str]:
    """Return the command prefix that makes a limit of threads effective.

    The limit does not apply to root; the other user keeps the capability to read the interpreter.
    """
    if os.geteuid() != 0:
        return []
    may_read = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", f"--reuid={TEST_USER}", f"--regid={TEST_USER}", "--clear-groups", *may_read]


@contextlib.contextmanager
def resource_limit(process: Process, kind: str, most: int) -> Iterator[None]:
    """Set a limit of a running process and restore it. Set by its own user, as root may lack the permission."""

    def prlimit(*arguments: str) -> str:
        of_another = f"Uid:\t{TEST_USER}\t" in Path(f"/proc/{process.popen.pid}/status").read_text()
        own = unprivileged_command() if of_another else []
        command = [*own, "prlimit", f"--pid={process.popen.pid}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    before = prlimit(f"--{kind}", "--raw", "--noheadings", "--output=SOFT")
    prlimit(f"--{kind}={most}:")
    try:
        yield
    finally:
        prlimit(f"--{kind}={before}:")


@pytest.mark.parametrize("what", ["descriptors", "memory", "threads", "threads but one", "threads but two"])
def test_row_53_exhausted_resources_fail_utterances_until_they_return(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path, what: str
) -> None:
    """Each utterance ends while a resource is exhausted, and the next one is played when it is available again."""
    daemon = DaemonProcess(agent, tone_server, tmp_path, under=unprivileged_command() if "threads" in what else ())
    assert daemon.say("one")["state"] == "played"
    pid = daemon.process.popen.pid
    with Client(str(daemon.socket)) as client:
        client.status()
        if what == "descriptors":  # no new one; the open ones stay usable
            taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
            kind, most = "nofile", min(set(range(100)) - taken)
        elif "threads" in what:
            more = {"threads": 0, "threads but one": 1, "threads but two": 2}[what]
            kind, most = "nproc", len(os.listdir(f"/proc/{pid}/task")) + more
        else:  # 4 MB more than now: the stack of a new thread needs 8 MB
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            kind, most = "as", pages * resource.getpagesize() + (4 << 20)
        with resource_limit(daemon.process, kind, most):
            states = []
            for number in range(3):
                try:
                    states.append(client.say(f"one two {number}").wait(SECONDS).state)
                except Refused:
                    states.append("refused")
    assert len(states) == 3, states
    began = time.monotonic()
    while daemon.say("three").get("state") != "played":
        assert time.monotonic() - began < 60, daemon.process.stderr.data.decode()[-3000:]  # the back-off in force and R
        threading.Event().wait(0.2)
    took = time.monotonic() - began
    assert daemon.end() == 0
    assert "Traceback" not in daemon.process.errors, daemon.process.errors[-3000:]
    record_row(
        53, f"without {what}: {', '.join(map(str, states))}; played again after {took:.2f} s, exit 0, no traceback"
    )


def test_row_53_a_start_without_threads_exits_with_an_error(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """One more thread at each start until it is ready: no partial start, no socket left, no traceback."""
    wanting = []
    others = 0 if unprivileged_command() else threads_of(os.geteuid())
    for more in range(1, 20):
        under = [*unprivileged_command(), "prlimit", f"--nproc={others + more}:"]
        daemon = DaemonProcess(agent, tone_server, tmp_path, under=under, ready=False)
        daemon.process.stderr.await_text("ready:", "cannot be started")
        if b"ready:" in daemon.process.stderr.data:
            break
        assert daemon.process.end() == 70
        (line,) = [line for line in daemon.process.errors.splitlines() if line.startswith("voice-agent: ")]
        wanting += re.findall(r"the thread for the (\w+) cannot be started", line)
        assert len(wanting) == more and "Traceback" not in daemon.process.errors
        assert not daemon.socket.exists(), f"without a thread for the {wanting[-1]}"
    assert {"signals", "control", "synthesizer", "microphone"} <= set(wanting), wanting
    assert daemon.end() == 0 and not daemon.socket.exists()
    record_row(53, f"a start without a thread for {', '.join(wanting)}: each exit 70 with a message, no socket left")


def threads_of(user: int) -> int:
    """Return the number of threads of a user."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == user:
                count += len(os.listdir(process / "task"))
    return count
