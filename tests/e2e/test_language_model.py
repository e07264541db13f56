"""Tools of a language model in a running daemon: confirmation, hush, SIGTERM and the kept history."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import Start
from support.chat_service import Step, calls, chat_service
from support.local_server import LocalServerProcess
from support.machine import free_port
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.client import Client
from agent.server.stt import script
from agent.server.tts import tone

TIMEOUT_SECONDS = 60.0


def speech(words: int) -> bytes:
    """Return a tone that is as long as so many words of the script: each is heard before the speech ends."""
    return tone.pcm(" ".join(["word"] * round(words * script.WORD_SECONDS / tone.WORD_SECONDS)), SPEECH.rate)


def configuration(folder: Path, server: LocalServerProcess, chat: str, **command: Any) -> str:
    tool = {"name": "garage", "description": "Opens it.", **command}
    model = {"base_url": chat, "model": "any", "keep_history": True, "tools": {"commands": [tool]}}
    config = {
        "conversation": {"vad": "energy", "silence_seconds": 0.5},
        "server": {"start": False},
        "logging": {"transcripts": True},
        "control": {"socket": f"{folder}/control.sock"},
        "transcription": {"url": f"{server.ws}/"},
        "synthesis": {"services": ["local"], "local": {"url": server.ws}},
        "responder": {"kind": "openai", "start_early": "always", "openai": model},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return str(path)


def scripted(folder: Path, *lines: str) -> LocalServerProcess:
    (folder / "script.txt").write_text("\n\n".join(lines) + "\n")
    options = ("--speech", "tone", "--recognition", "script", "--script", str(folder / "script.txt"))
    return LocalServerProcess(folder, *options)


def test_spoken_yes_runs_the_tool_once_and_the_history_survives_a_restart(
    agent: Start, card: VirtualCard, tmp_path: Path
) -> None:
    def respond(body: dict[str, Any]) -> Step:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return f"The garage is {last['content']}."
        return calls(("garage", {})) if "garage" in last["content"] else "Fine."

    program = f"echo x >> {tmp_path}/runs; echo open"
    state = {"STATE_DIRECTORY": f"{tmp_path}/state"}
    with (
        scripted(tmp_path, "please open the garage", "yes please", "thank you so much") as server,
        chat_service("") as chat,
    ):
        chat.respond = respond
        question = "Shall I open it?"
        config = configuration(tmp_path, server, chat.url, argv=["sh", "-c", program], confirm=True, question=question)
        daemon = agent("run", "--config", config, env={**card.env, **state})
        daemon.stderr.await_text("daemon ready")
        card.inject(speech(4), SPEECH)
        daemon.stderr.await_text("reply-1: played")
        assert not (tmp_path / "runs").exists()
        card.inject(speech(2), SPEECH)
        daemon.stderr.await_text("reply-2: played")
        assert (tmp_path / "runs").read_text() == "x\n"
        texts = [record["text"].strip() for record in Client(f"{tmp_path}/control.sock").history()]
        assert texts == ["The garage is open.", question]
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
        path = tmp_path / "state" / "chat-history.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        again = agent("run", "--config", config, env={**card.env, **state})
        again.stderr.await_text("daemon ready")
        card.inject(speech(4), SPEECH)
        again.stderr.await_text("reply-1: played")
        sent = [message["content"] for message in chat.requests[-1]["messages"][1:]]
    assert sent == [
        "please open the garage", question, "yes please", "The garage is open.", "thank you so much"
    ]  # fmt: skip


def test_reply_that_no_service_spoke_is_not_in_the_history(agent: Start, card: VirtualCard, tmp_path: Path) -> None:
    lines = ("what is the time now", "thank you so much")
    with scripted(tmp_path, *lines) as server, chat_service("It is noon.") as chat:
        config = configuration(tmp_path, server, chat.url, argv=["true"])
        environment = {"VOICE_AGENT_SYNTHESIS__LOCAL__URL": f"ws://127.0.0.1:{free_port()}"}
        daemon = agent(
            "run", "--config", config, env={**card.env, **environment, "STATE_DIRECTORY": f"{tmp_path}/state"}
        )
        daemon.stderr.await_text("daemon ready")
        for number in (1, 2):
            card.inject(speech(5), SPEECH)
            daemon.stderr.await_text(f"reply-{number}: failed")
        sent = [message["content"] for message in chat.requests[-1]["messages"][1:]]
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
    assert "It is noon." not in sent and sent[-1] == lines[1]


@pytest.mark.parametrize("end", ["hush", "SIGTERM"])
def test_hush_and_sigterm_kill_the_tool_that_runs(end: str, agent: Start, card: VirtualCard, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        scripted(tmp_path, "please open the garage") as server,
        chat_service(calls(("garage", {})), "It is open.") as chat,
        open(os.open(fifo, os.O_RDWR | os.O_CLOEXEC), encoding="utf-8") as pids,
    ):
        config = configuration(tmp_path, server, chat.url, argv=["sh", "-c", f"echo $$ > {fifo}; exec sleep 300"])
        daemon = agent("run", "--config", config, env={**card.env, "STATE_DIRECTORY": f"{tmp_path}/state"})
        daemon.stderr.await_text("daemon ready")
        card.inject(speech(4), SPEECH)
        ready, _, _ = select.select([pids], [], [], TIMEOUT_SECONDS)
        assert ready, "the tool did not start"
        pid = os.pidfd_open(int(pids.readline()))
        if end == "hush":
            Client(f"{tmp_path}/control.sock").hush()
        else:
            daemon.signal(signal.SIGTERM)
            assert daemon.end() == 0
        ended, _, _ = select.select([pid], [], [], TIMEOUT_SECONDS)
        os.close(pid)
        assert ended, "the tool still runs"
        assert len(chat.requests) == 1
