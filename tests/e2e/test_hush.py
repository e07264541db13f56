"""Hush through every interface, and volume levels that persist across restarts, on the record of a card."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.processes import Process, WireLoggedServer
from support.vcard import VirtualCard

from agent.server.tts.tone import pcm

Configured = Callable[[str], str]
RATE = 22050
WORDS = " ".join(f"word{number}" for number in range(150))
"""Speech of half a minute."""
TRIES = 5
NEVER = threading.Event()


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    folder = tmp_path / "card"
    folder.mkdir()
    return VirtualCard(folder)


def settings(tmp_path: Path, tone_server: WireLoggedServer) -> str:
    return (
        # It begins when all of it is there: a machine that is busy is no gap in it.
        "conversation: {mode: announce}\nspeaker: {device: speaker, prebuffer_seconds: 5}\n"
        f"synthesis: {{local: {{url: '{tone_server.ws}'}}}}\n"
        f"control: {{socket: {tmp_path}/control.sock}}\n"
    )


def await_sound(card: VirtualCard, since: int = 0) -> None:
    for _ in range(600):
        if len(card.played()[since:].strip(b"\0")) > RATE // 2:
            return
        NEVER.wait(0.05)
    raise AssertionError("nothing was heard")


@pytest.mark.parametrize(
    "way", ["say, Ctrl-C", "say, SIGUSR1", "daemon, SIGUSR1", "daemon, hush", "daemon, Ctrl-C in say"]
)
def test_hush_silences_the_card_immediately(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, card: VirtualCard, tmp_path: Path, way: str
) -> None:
    config = write_config(settings(tmp_path, tone_server))
    who, _, how = way.partition(", ")
    daemon: Process | None = None
    if who == "daemon":
        daemon = agent("run", "--config", config, env={**card.env, "STATE_DIRECTORY": str(tmp_path / "state")})
        daemon.stderr.await_text("ready")
    # A start of Python lies between the look at the record and the hush of a command.
    at_once = 1.5 if how == "hush" else 0.3
    followed: list[float] = []
    # A machine that is busy only ever makes it later: how soon it is shows at the fastest of a few.
    while len(followed) < TRIES and min(followed, default=at_once) >= at_once:
        earlier = len(card.played())
        saying = agent("say", "--config", config, WORDS, env=card.env)
        await_sound(card, earlier)
        before = len(card.played())
        if how == "hush":
            assert agent("hush", "--config", config).end() == 0
        elif daemon is not None and how == "SIGUSR1":
            daemon.signal(signal.SIGUSR1)
        else:
            saying.signal(signal.SIGUSR1 if how == "SIGUSR1" else signal.SIGINT)
        assert saying.end() == 3
        heard = card.played()
        sound = heard[earlier:].strip(b"\0")
        assert pcm(WORDS, RATE).strip(b"\0").startswith(sound[: len(sound) // 2 * 2])
        followed.append((len(heard.rstrip(b"\0")) - before) / (2 * RATE))
    assert min(followed) < at_once, followed
    if daemon is not None:
        heard = card.played()
        again = agent("say", "--config", config, "afterwards", env=card.env)
        assert again.end() == 0
        assert card.played()[len(heard) :].strip(b"\0") == pcm("afterwards", RATE).strip(b"\0")
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0


def test_volume_and_mute_persist_across_a_restart(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, card: VirtualCard, tmp_path: Path
) -> None:
    config = write_config(settings(tmp_path, tone_server))
    environment = {**card.env, "STATE_DIRECTORY": str(tmp_path / "state")}
    seen = []
    for _ in range(2):
        daemon = agent("run", "--config", config, env=environment)
        daemon.stderr.await_text("ready")
        status = agent("status", "--json", "--config", config)
        assert status.end() == 0
        status_fields = json.loads(status.output)
        seen.append((status_fields["volume"], status_fields["muted"], status_fields["status"]))
        assert agent("volume", "--config", config, "50").end() == 0
        assert agent("mute", "speaker", "--config", config).end() == 0
        assert agent("say", "--config", config, "unheard").end() == 0
        assert card.played().strip(b"\0") == b""
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
    assert seen[0][:2] == (100, [])
    assert seen[1][:2] == (50, ["speaker"]) and "the speaker is muted" in seen[1][2]
    daemon = agent("run", "--config", config, env=environment)
    daemon.stderr.await_text("ready")
    assert agent("unmute", "speaker", "--config", config).end() == 0
    assert agent("say", "--config", config, "softly").end() == 0
    samples = memoryview(card.played().strip(b"\0")).cast("h")
    assert max(samples) == 4000, "half of what the tone engine speaks with"
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0


def test_commands_warn_of_values_that_cannot_be_stored(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, card: VirtualCard, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    config = write_config(settings(tmp_path, tone_server))
    daemon = agent("run", "--config", config, env={**card.env, "STATE_DIRECTORY": str(tmp_path / "state")})
    daemon.stderr.await_text("ready")
    for command in (("volume", "30"), ("mute", "speaker"), ("unmute", "speaker")):
        process = agent(*command, "--config", config)
        assert process.end() == 0
        assert len(process.error_lines()) == 1 and str(tmp_path / "state") in process.errors
    assert agent("status", "--config", config).end() == 0
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
