"""SIGTERM and SIGINT in each of six states, for every service: every session gets its end mark; exit 0, in time."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import SCRIPT, Start, assert_end_mark, service_config, write_wav
from support.processes import Supervision, WireLoggedServer
from support.scripted import Peer, Scripted, mute

from agent.server.tts import tone

SHUTDOWN_SECONDS = 6.0
SLOWNESS_SECONDS = 10.0
"""Tolerance for a busy machine; the sum is still shorter than the spoken answer and than a service's timeout."""
SPEECH_SERVICES = ["local", "neuphonic", "playai", "vachana", "fish"]
STATES = ["idle", "connecting", "listening", "thinking", "speaking", "reconnecting"]
ANSWER = "This is a long answer that is never heard to its end, because it is very, very long. " * 8


@pytest.fixture(scope="module")
def slow_speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    """A server that speaks in real time, so that the speech can be interrupted."""
    folder = tmp_path_factory.mktemp("slow")
    script = folder / "script.txt"
    script.write_text(SCRIPT)
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script), "--pace", "1")
    with WireLoggedServer(folder / "server", *arguments) as server:
        yield server


@pytest.fixture(scope="module")
def refusing_host() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture(scope="module")
def silent_host() -> Iterator[str]:
    """A host that accepts the connection and sends nothing."""
    with Scripted(mute) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def responder() -> Iterator[Scripted]:
    """A webhook that never answers."""

    def never_answer(peer: Peer) -> None:
        peer.read_request()
        peer.wait()

    with Scripted(never_answer) as server:
        yield server


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Silence, a little audio, and silence: one turn."""
    path = tmp_path_factory.mktemp("question") / "question.wav"
    write_wav(path, bytes(16000) + tone.pcm("one two three", 16000))
    return path


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Continuous speech."""
    path = tmp_path_factory.mktemp("lecture") / "lecture.wav"
    write_wav(path, bytes(16000) + tone.pcm("one two three four " * 30, 16000))
    return path


def service_at(service: str, where: str) -> str:
    """Return the configuration of a service at another host."""
    key, scheme = ("auth_url", "http") if service == "playai" else ("url", "ws")
    return f"synthesis:\n  services: [{service}]\n  {service}: {{{key}: '{scheme}://{where}/'}}\n"


class Daemon:
    """A daemon under test and the server that it uses. Not thread-safe."""

    def __init__(
        self, start: Start, write_config: Callable[[str], str], supervision: Supervision, server: WireLoggedServer
    ) -> None:
        self.start, self.write_config = start, write_config
        self.supervision, self.server = supervision, server
        self.since = len(server.wire())

    def begin(
        self,
        service: str,
        *,
        transcription: str,
        microphone: str,
        responder: str,
        synthesis: str,
        shutdown_seconds: float = SHUTDOWN_SECONDS,
    ) -> None:
        config = self.write_config(
            f"microphone: {{device: '{microphone}'}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
            f"shutdown_seconds: {shutdown_seconds}\nconversation: {{silence_seconds: 0.2, vad: energy}}\n"
            f"transcription: {{url: 'ws://{transcription}/'}}\n"
            f"responder: {responder}\nserver: {{start: false}}\n{synthesis}"
        )
        self.process = self.start("run", "--config", config, env={"NOTIFY_SOCKET": self.supervision.path})
        self.service = "neuphonic" if service == "local" else service

    def await_line(self, word: str) -> None:
        self.supervision.await_line(word, while_alive=self.process)

    def await_open(self, *services: str, count: int = 1) -> None:
        """Wait for the connections: a dial in progress at the signal is abandoned and has no end mark."""
        for service in services:
            self.server.await_wire(count, since=self.since, kind="open", service=service)

    def end(self, number: int) -> list[dict[str, Any]]:
        """Send the signal, assert exit code, time and end marks; return the lines of the server's wire log."""
        began = time.monotonic()
        self.process.signal(number)
        code = self.process.end()
        took = time.monotonic() - began
        assert code == 0, self.process.errors  # 0: everything ended within the daemon's own budget
        assert took <= SHUTDOWN_SECONDS + SLOWNESS_SECONDS, f"it took {took:.1f} s: {self.process.errors}"
        assert "Traceback" not in self.process.errors
        assert "error " not in self.process.errors
        wire = self.server.settled(self.since)
        sessions: dict[int, list[dict[str, Any]]] = {}
        for line in wire:
            if line["kind"] == "open":
                sessions[line["connection"]] = [line]
            elif line["connection"] in sessions and line["direction"] == "in":
                sessions[line["connection"]].append(line)
        for lines in sessions.values():
            assert_end_mark(lines)
        return wire


@pytest.fixture
def daemon(
    agent: Start, write_config: Callable[[str], str], supervision: Supervision, slow_speech: WireLoggedServer
) -> Daemon:
    return Daemon(agent, write_config, supervision, slow_speech)


def bring_to(
    daemon: Daemon,
    state: str,
    service: str,
    hosts: dict[str, str],
    files: dict[str, Path],
    responder: Scripted,
    shutdown_seconds: float = SHUTDOWN_SECONDS,
) -> None:
    """Start the daemon; return when it is in that state and all its sessions are open."""
    server = daemon.server
    here = f"{server.host}:{server.port}"
    waiting = f"{{kind: webhook, webhook: {{url: 'http://127.0.0.1:{responder.port}/'}}}}"
    talking = json.dumps({"kind": "rules", "rules": [], "fallback": ANSWER})
    microphone = {"listening": f"file:{files['lecture']}", "thinking": f"file:{files['question']}",
                  "speaking": f"file:{files['question']}"}.get(state, "none")  # fmt: skip
    synthesis = service_config(server, "local" if service == "transcription" else service)
    transcription = here
    if state in hosts and service == "transcription":
        transcription = hosts[state]
    elif state in hosts:
        synthesis = service_at(service, hosts[state])
    daemon.begin(
        "local" if service == "transcription" else service,
        transcription=transcription,
        microphone=microphone,
        responder=waiting if state == "thinking" else talking,
        synthesis=synthesis,
        shutdown_seconds=shutdown_seconds,
    )
    daemon.await_line("READY=1")
    if state not in hosts:
        daemon.await_open("transcription", daemon.service)
    else:
        daemon.await_open(daemon.service if service == "transcription" else "transcription")
    if state == "listening":
        daemon.await_line("STATUS=listening: the user speaks")
        server.await_wire(3, since=daemon.since, service="transcription", direction="in", kind="binary")
    elif state == "thinking":
        daemon.await_line("STATUS=thinking")
        assert responder.arrived.acquire(timeout=30)
        daemon.await_open("transcription", count=2)  # the next question's
    elif state == "speaking":
        daemon.await_line("STATUS=speaking")
        server.await_wire(2, since=daemon.since, service=daemon.service, direction="out", event="Audio")
        daemon.await_open("transcription", daemon.service, count=2)  # and those of the next turn
    elif state == "reconnecting":
        daemon.await_line(f"STATUS={service}: ")


@pytest.fixture
def hosts(refusing_host: str, silent_host: str) -> dict[str, str]:
    return {"connecting": silent_host, "reconnecting": refusing_host}


@pytest.fixture
def files(question: Path, lecture: Path) -> dict[str, Path]:
    return {"question": question, "lecture": lecture}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("service", SPEECH_SERVICES)
def test_sigterm_ends_every_session_with_its_end_mark(
    daemon: Daemon, hosts: dict[str, str], files: dict[str, Path], responder: Scripted, service: str, state: str
) -> None:
    bring_to(daemon, state, service, hosts, files, responder)
    wire = daemon.end(signal.SIGTERM)
    assert any(line["service"] == "transcription" and line.get("summary") == "eof" for line in wire)


@pytest.mark.parametrize("state", STATES)
def test_sigint_ends_every_session_with_its_end_mark(
    daemon: Daemon, hosts: dict[str, str], files: dict[str, Path], responder: Scripted, state: str
) -> None:
    bring_to(daemon, state, "local", hosts, files, responder)
    daemon.end(signal.SIGINT)


@pytest.mark.parametrize("state", ["connecting", "reconnecting"])
def test_an_unreachable_transcription_service_does_not_delay_shutdown(
    daemon: Daemon, hosts: dict[str, str], files: dict[str, Path], responder: Scripted, state: str
) -> None:
    bring_to(daemon, state, "transcription", hosts, files, responder)
    daemon.end(signal.SIGTERM)


def test_sigterm_prints_the_last_transcript(
    daemon: Daemon, hosts: dict[str, str], files: dict[str, Path], responder: Scripted
) -> None:
    """In captions mode the speech up to the signal is transcribed and printed."""
    server = daemon.server
    config = daemon.write_config(
        f"microphone: {{device: 'file:{files['lecture']}'}}\ncontrol: {{socket: none}}\n"
        f"conversation: {{mode: captions}}\n"
        f"transcription: {{url: 'ws://{server.host}:{server.port}/'}}\nshutdown_seconds: {SHUTDOWN_SECONDS}\n"
    )
    daemon.process = daemon.start("run", "--config", config, env={"NOTIFY_SOCKET": daemon.supervision.path})
    server.await_wire(8, since=daemon.since, service="transcription", direction="in", kind="binary")
    wire = daemon.end(signal.SIGTERM)
    assert SCRIPT.splitlines()[0] in daemon.process.output.splitlines()
    assert any(line.get("summary") == "eof" for line in wire)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_exits_immediately(
    daemon: Daemon, hosts: dict[str, str], files: dict[str, Path], responder: Scripted, number: int
) -> None:
    bring_to(daemon, "speaking", "local", hosts, files, responder, shutdown_seconds=120.0)
    daemon.process.signal(number)
    daemon.await_line("STOPPING=1")
    began = time.monotonic()
    daemon.process.signal(number)
    assert daemon.process.end() == 128 + number
    assert time.monotonic() - began < SLOWNESS_SECONDS  # shorter than the spoken answer
