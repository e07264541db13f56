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
from agent.frontends.control.client import ControlClient
from agent.server.tts import tone
from agent.system.threads import Deadline

SECONDS = 30.0
HOUR = 3600
LONG = "one two three four five six seven eight nine ten " * 3
LONG_SECONDS = 30 * tone.WORD_SECONDS


class House:
    """A daemon that speaks through a server of the test's, and the door to it."""

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
        self, text: str, patience_seconds: float = SECONDS, accepted: threading.Event | None = None
    ) -> dict[str, object]:
        """How an utterance ended, as whoever asked for it is told. ``accepted`` is set once the daemon has it."""
        with contextlib.closing(ControlClient.connect((self.socket,))) as client:
            client.say(text)
            deadline = Deadline(patience_seconds)
            while (answer := client.receive(deadline)) is not None:
                if "state" in answer or "error" in answer:
                    return answer
                if accepted is not None:
                    accepted.set()
        raise AssertionError(f"nobody told how it ended: {self.process.stderr.data.decode()}")

    def records(self) -> list[str]:
        """Once it has ended."""
        return re.findall(r"control-\d+: (\w+)", self.process.errors)

    def end(self) -> int:
        self.process.signal(signal.SIGTERM)
        return self.process.end()


def test_row_46_sigterm_ends_an_utterance_with_one_record(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """All states and all services: ``tests/e2e/test_signals.py``. Here T: whoever waited is told, in one record."""
    house = House(agent, tone_server, tmp_path)
    ends: list[dict[str, object]] = []
    text = "one two three four five six seven eight nine ten " * 9
    asking = threading.Thread(target=lambda: ends.append(house.say(text)))
    since = len(tone_server.wire())
    asking.start()
    tone_server.await_wire(1, since, service="neuphonic", direction="in", kind="text")
    began = time.monotonic()
    code = house.end()
    took = time.monotonic() - began
    asking.join(SECONDS)
    assert code == 0 and took < 15.0 and house.records() == ["cancelled"] and len(ends) == 1
    record_row(46, f"cancelled once, exit 0 after {took:.2f} s; 32 states and services in tests/e2e/test_signals.py")


def stop_and_continue(processes: list[Process], seconds: float) -> None:
    for process in processes:
        process.signal(signal.SIGSTOP)
    threading.Event().wait(seconds)  # time that passes is what is tested here
    for process in processes:
        process.signal(signal.SIGCONT)


def await_synthesis_end(tone_server: WireLoggedServer, since: int) -> None:
    """Returns when the session that was given a text has been left by the daemon: it has all of its sound then."""
    (text,) = tone_server.await_wire(1, since, service="neuphonic", direction="in", event="Text")
    tone_server.await_wire(1, since, connection=text["connection"], direction="in", kind="close")


def test_row_48_a_short_sigstop_resumes_the_utterance(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """SIGSTOP in the middle of an utterance: it is said to its end, and nobody is taken for stuck."""
    house = House(agent, tone_server, tmp_path)
    ends: list[dict[str, object]] = []
    since = len(tone_server.wire())
    asking = threading.Thread(target=lambda: ends.append(house.say(LONG)))
    asking.start()
    await_synthesis_end(tone_server, since)
    stop_and_continue([house.process], 5.0)
    asking.join(SECONDS)
    assert house.say("and on")["state"] == "played"
    assert [(end["state"], end["seconds"]) for end in ends] == [("played", LONG_SECONDS)]
    assert house.end() == 0 and house.records() == ["played", "played"]
    assert "stuck" not in house.process.errors and "Traceback" not in house.process.errors
    record_row(48, f"stopped for 5 s: all {LONG_SECONDS:g} s played, the next one too, exit 0")


def test_row_48_a_long_sigstop_drops_and_counts_old_audio(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """A device that slept in the middle of a sentence said the rest of it in the morning. A and M: of the sound that
    came, and of the frames that were recorded, each is accounted for. T: one record each. No connection is trusted."""
    seconds = float(os.environ.get("STOPPED_SECONDS", "12"))
    house = House(agent, tone_server, tmp_path)
    ear = RecognizerStream(agent, tone_server, tmp_path, seconds + 200.0)
    ends: list[dict[str, object]] = []
    since = len(tone_server.wire())
    accepted = threading.Event()

    def ask(text: str) -> None:
        ends.append(house.say(text, seconds + SECONDS, accepted))

    asking = [threading.Thread(target=ask, args=(text,)) for text in (LONG * 2, "and this")]
    asking[0].start()
    await_synthesis_end(tone_server, since)
    accepted.clear()
    asking[1].start()
    assert accepted.wait(SECONDS)
    ear.await_frames(10)
    stopped = len(tone_server.wire())
    stop_and_continue([house.process, ear.process], seconds)
    for thread in asking:
        thread.join(SECONDS)
    woken = len(tone_server.wire())
    began = time.monotonic()
    assert house.say("and on")["state"] == "played"
    took = time.monotonic() - began
    assert [end["state"] for end in ends] == ["cancelled", "cancelled"]
    assert all(re.fullmatch(r"by a suspend of \d+ s", str(end["why"])) for end in ends), ends
    (text,) = tone_server.await_wire(1, woken, service="neuphonic", direction="in", event="Text")
    opened = {line["connection"] for line in tone_server.wire()[stopped:] if line["kind"] == "open"}
    assert text["connection"] in opened, "a connection from before it was trusted"
    ear.await_frames(20)
    assert house.end() == 0 and ear.end() == 0
    assert house.records() == ["cancelled", "cancelled", "played"]
    heard = sum(float(str(end["seconds"])) for end in ends)
    dropped = sum(map(float, re.findall(r", ([\d.]+) s of audio dropped", house.process.errors)))
    assert 0 < heard < 2 * LONG_SECONDS and heard + dropped == pytest.approx(2 * LONG_SECONDS, abs=0.02)
    missing = ear.missing_seconds()
    assert missing > seconds - 1.0
    for process in (house.process, ear.process):
        assert "stuck" not in process.errors and "Traceback" not in process.errors
    record_row(
        48,
        f"stopped for {seconds:g} s: {heard:.2f} s heard + {dropped:.2f} s dropped of {2 * LONG_SECONDS:g} s, gaps of "
        f"{missing:.1f} s are all that is missing of the frames; the next one played after {took:.2f} s",
    )


def test_row_48_a_daemon_killed_while_stopped_starts_again(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """What systemd's watchdog does to a process that was stopped for longer than WatchdogSec: SIGABRT, which waits, and
    SIGKILL. The socket of the old one is in the way of nobody; in a real systemd: ``scripts/systemd-test``."""
    old = House(agent, tone_server, tmp_path)
    since = len(tone_server.wire())
    with contextlib.closing(ControlClient.connect((old.socket,))) as client:
        client.say(LONG)
        await_synthesis_end(tone_server, since)
        old.process.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, old.process.popen.pid, os.WSTOPPED)  # a thread that still runs would take the SIGABRT
        for number in (signal.SIGABRT, signal.SIGKILL):
            old.process.signal(number)
        assert old.process.end() == -signal.SIGKILL
    began = time.monotonic()
    house = House(agent, tone_server, tmp_path)
    assert house.say("and on")["state"] == "played"
    took = time.monotonic() - began
    assert house.end() == 0 and house.records() == ["played"]
    record_row(48, f"killed while stopped: a new one has said the next {took:.2f} s after its start, exit 0")


class RecognizerStream:
    """Captions of a recording in which no two pieces are the same."""

    def __init__(self, agent: Start, server: WireLoggedServer, folder: Path, seconds: float) -> None:
        self._server, self._since = server, len(server.wire())
        self._pcm = random.Random(48).randbytes(SPEECH.bytes_of(seconds))
        recording, config = folder / "said.wav", folder / "ear.yaml"
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
        """How much of the recording was not sent; asserts that what was sent is all the rest of it, sample by sample,
        and that what is missing was told."""
        frames = self._server.matching(self._since, service="transcription", direction="in", kind="binary")
        at = skipped = 0
        for line in frames:
            while hashlib.sha256(self._pcm[at : at + line["length"]]).hexdigest() != line["sha256"]:
                at, skipped = at + line["length"], skipped + line["length"]
                assert at < len(self._pcm), f"this was not recorded, or sent twice: {line}"
            at += line["length"]
        told = re.findall(r"gap: ([\d.]+) s of captured audio lost at [\d.]+ s, (.*)", self.process.errors)
        gaps = [float(long) for long, why in told if "suspend" in why or "overflowed" in why]
        assert sum(gaps) == pytest.approx(SPEECH.seconds_of(skipped), abs=0.01), told
        return SPEECH.seconds_of(skipped)


def test_row_50_setting_the_wall_clock_has_no_effect(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """The wall clock begins in 1970, is set by NTP, and jumps an hour both ways; only the monotonic one counts."""
    clock = ShiftedClock(tmp_path)
    clock.shift(-int(time.time()))
    house = House(agent, tone_server, tmp_path, clock.env)
    durations = []
    for shift in (None, 0, HOUR, -HOUR, 0):
        if shift is not None:
            clock.shift(shift)
        began = time.monotonic()
        assert house.say("one two")["state"] == "played"
        durations.append(time.monotonic() - began)
    ends: list[dict[str, object]] = []
    asking = threading.Thread(target=lambda: ends.append(house.say("one two three four five six")))
    since = len(tone_server.wire())
    asking.start()
    tone_server.await_wire(1, since, service="neuphonic", direction="in", event="Text")
    clock.shift(HOUR)
    clock.shift(-HOUR)
    asking.join(SECONDS)
    assert [end["state"] for end in ends] == ["played"]
    assert house.end() == 0
    errors = house.process.errors
    assert " warning " not in errors, errors
    assert "stuck" not in errors and "Traceback" not in errors and max(durations) < SECONDS
    most = max(durations)
    record_row(50, f"1970, then today, +1 h, -1 h, both in one utterance: 6 of 6 played, at most {most:.2f} s each")


def test_row_50_a_not_yet_valid_certificate_is_explained_and_retried(
    record_row: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without a clock of its own begins in the past: that passes, and no key is sent meanwhile."""
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
    record_row(50, f"not yet valid: explained, tried again, said {took:.2f} s after the clock was right")


NOBODY = 61353  # a user that runs nothing else


def unprivileged_command() -> list[str]:
    """What a process has to be started under for a limit of its threads to mean something: root has none, and whoever
    leaves root for it must still be able to read the interpreter."""
    if os.geteuid() != 0:
        return []
    may_read = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *may_read]


@contextlib.contextmanager
def resource_limit(process: Process, kind: str, most: int) -> Iterator[None]:
    """A limit of a running process, taken back afterwards. Set as its own user, because root may not always."""

    def prlimit(*arguments: str) -> str:
        of_another = f"Uid:\t{NOBODY}\t" in Path(f"/proc/{process.popen.pid}/status").read_text()
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
    """No descriptor for a socket; no memory for a thread; no thread, or one to dial and none to look up the name. T:
    each utterance ends; L: then the next one is said."""
    house = House(agent, tone_server, tmp_path, under=unprivileged_command() if "threads" in what else ())
    assert house.say("one")["state"] == "played"
    pid = house.process.popen.pid
    with contextlib.closing(ControlClient.connect((house.socket,))) as client:
        client.request({"status": True})
        if what == "descriptors":  # none more; those there are go on
            taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
            kind, most = "nofile", min(set(range(100)) - taken)
        elif "threads" in what:
            more = {"threads": 0, "threads but one": 1, "threads but two": 2}[what]
            kind, most = "nproc", len(os.listdir(f"/proc/{pid}/task")) + more
        else:  # what there is, and four megabytes: the stack of a new thread wants eight
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            kind, most = "as", pages * resource.getpagesize() + (4 << 20)
        with resource_limit(house.process, kind, most):
            states = []
            for number in range(3):
                client.say(f"one two {number}")
                deadline = Deadline(SECONDS)
                while (answer := client.receive(deadline)) is not None:
                    if "state" in answer or "error" in answer:
                        states.append(answer.get("state", "refused"))
                        break
    assert len(states) == 3, states
    began = time.monotonic()
    while house.say("three").get("state") != "played":
        assert time.monotonic() - began < 60, house.process.stderr.data.decode()[-3000:]  # the back-off in force and R
        threading.Event().wait(0.2)
    took = time.monotonic() - began
    assert house.end() == 0
    assert "Traceback" not in house.process.errors, house.process.errors[-3000:]
    record_row(
        53, f"without {what}: {', '.join(map(str, states))}; played again after {took:.2f} s, exit 0, no traceback"
    )


def test_row_53_a_start_without_threads_exits_with_an_error(
    record_row: Record, agent: Start, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """With one thread more each time, until it is ready: no half of it goes on, no socket stays, no traceback."""
    wanting = []
    others = 0 if unprivileged_command() else threads_of(os.geteuid())
    for more in range(1, 20):
        under = [*unprivileged_command(), "prlimit", f"--nproc={others + more}:"]
        house = House(agent, tone_server, tmp_path, under=under, ready=False)
        house.process.stderr.await_text("ready:", "cannot be started")
        if b"ready:" in house.process.stderr.data:
            break
        assert house.process.end() == 70
        (line,) = [line for line in house.process.errors.splitlines() if line.startswith("voice-agent: ")]
        wanting += re.findall(r"the thread for the (\w+) cannot be started", line)
        assert len(wanting) == more and "Traceback" not in house.process.errors
        assert not house.socket.exists(), f"without a thread for the {wanting[-1]}"
    assert {"signals", "control", "synthesizer", "microphone"} <= set(wanting), wanting
    assert house.end() == 0 and not house.socket.exists()
    record_row(53, f"a start without a thread for {', '.join(wanting)}: each exit 70 with a sentence, no socket left")


def threads_of(user: int) -> int:
    """How many threads a user runs."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == user:
                count += len(os.listdir(process / "task"))
    return count
