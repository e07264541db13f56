"""Keys appear in no log, command line, environment, status or printed configuration."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.fault_rows import Record
from support.machine import free_port
from support.processes import ENVIRONMENT, WireLoggedServer
from support.timing import poll_until

from agent.client import Client
from agent.server.options import parse

KEY = "k3y-0f-a-real-service-7f3a"
SERVICES = ("neuphonic", "playai", "vachana", "fish")


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[WireLoggedServer]:
    """A server that wants its key, which it has from a file."""
    file = tmp_path / "server-key"
    file.write_text(f"{KEY}\n")
    script = tmp_path / "script.txt"
    script.write_text("what time is it\n")
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script), "--api-key-file", str(file))
    with WireLoggedServer(tmp_path / "server", *arguments) as server:
        yield server


def credentials(folder: Path, key: str) -> Path:
    folder.mkdir()
    for name in (*SERVICES, "transcription"):
        (folder / name).write_text(f"  {key}\n")
    return folder


def configuration(server: WireLoggedServer, folder: Path, services: str, level: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"microphone: {{device: none}}\nspeaker: {{device: none}}\ncontrol: {{socket: {folder}/control.sock}}\n"
        f"transcription: {{url: '{server.ws}/'}}\nserver: {{start: false}}\nlogging: {{level: {level}}}\n"
        f"synthesis:\n  services: [{services}]\n  neuphonic: {{url: '{server.ws}/speak/en'}}\n"
        f"  playai: {{auth_url: '{server.http}/api/v1/tts/websocket-auth', user_id: u}}\n"
        f"  vachana: {{url: '{server.ws}/api/v1/tts'}}\n  fish: {{url: '{server.ws}/v1/tts/live'}}\n"
    )
    return path


def process_files(pid: int) -> bytes:
    """What anybody on the machine, or its owner, can read of a process."""
    places = [Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ", "status", "comm", "maps")]
    return b"\0".join(place.read_bytes() for place in places)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("right", [True, False], ids=["accepted", "refused"])
def test_show_7_no_output_contains_a_key(
    record_show: Record, agent: Start, keyed: WireLoggedServer, tmp_path: Path, service: str, right: bool
) -> None:
    key = KEY if right else "wr0ng-k3y-that-is-refused"
    env = {"CREDENTIALS_DIRECTORY": str(credentials(tmp_path / "credentials", key))}
    config = configuration(keyed, tmp_path, service, "debug")
    daemon = agent("run", "--config", str(config), env=env)
    daemon.stderr.await_text("ready:")
    answers: list[dict[str, object]] = []
    with Client(str(tmp_path / "control.sock")) as client:
        answers.append(client.status())
        end = client.say("one two").wait(90)
        assert (end.state == "played") == right, end
        answers += [end._asdict(), client.status()]
    seen = {"processes": process_files(daemon.popen.pid) + process_files(keyed.process.pid)}
    daemon.signal(15)
    assert daemon.end() == 0
    seen["log of the daemon"] = daemon.errors.encode() + daemon.stdout.whole()
    seen["log of the server"] = keyed.log().encode() + json.dumps(keyed.wire()).encode()
    seen["status"] = json.dumps(answers).encode()
    for command in (("config", "show"), ("config", "check"), ("doctor",)):
        done = subprocess.run(
            [sys.executable, "-m", "agent", *command, "--config", str(config)],
            env={**ENVIRONMENT, **env, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            timeout=200,
        )
        seen[" ".join(command)] = done.stdout + done.stderr
    for where, text in seen.items():
        for secret in (KEY, key):
            assert secret.encode() not in text, f"{secret} is in {where}"
        assert not re.search(rb"fal_jwt_token=[^*&\s\"']{8}", text), f"an issued URL is in {where}"
    size = sum(map(len, seen.values()))
    record_show(7, f"{service}, {'accepted' if right else 'refused'}: no key in {size} bytes from {len(seen)} places")


def test_no_secret_reaches_the_programs_that_the_daemon_starts(agent: Start, tmp_path: Path) -> None:
    secrets = [f"s3cr3t-number-{number}-0123456789" for number in range(4)]
    config, variables = tmp_path / "config.yaml", tmp_path / "variables"
    config.write_text(
        f"microphone: {{device: none}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
        "conversation: {mode: announce}\nserver: {port: 0, speech: tone, start: true}\n"
        "synthesis: {services: [local, fish, playai], playai: {user_id: u, api_key: {env: KEY_OF_PLAYAI}}}\n"
        f"web: {{listen: '127.0.0.1:{free_port()}'}}\n"
        f"hooks: {{state: [sh, -c, 'env >{variables}.part; mv {variables}.part {variables}']}}\n"
    )
    env = {
        "VOICE_AGENT_WEB__TOKEN": secrets[0],
        "VOICE_AGENT_TRANSCRIPTION__EXPORT_KEY": secrets[1],
        "VOICE_AGENT_SYNTHESIS__FISH": f"{{api_key: {secrets[2]}}}",
        "KEY_OF_PLAYAI": secrets[3],
    }
    daemon = agent("run", "--config", str(config), env=env)
    daemon.stderr.await_text("ready:")

    def server() -> list[int]:
        threads = Path(f"/proc/{daemon.popen.pid}/task").iterdir()
        children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
        return [int(pid) for pid in children if b"agent.server" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    poll_until(lambda: variables.exists() and server())
    environments = [variables.read_bytes(), *(Path(f"/proc/{pid}/environ").read_bytes() for pid in server())]
    daemon.signal(15)
    assert daemon.end() == 0
    assert b"VOICE_AGENT_EVENT_STATE" in environments[0]
    for secret in secrets:
        assert not any(secret.encode() in each for each in environments), secret
    assert b"KEY_OF_PLAYAI" not in b"".join(environments)


def test_api_key_file_sets_the_shared_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    options = parse(["--api-key-file", str(file), "--api-key-fish", "another"])
    assert (options.keys["neuphonic"], options.keys["fish"]) == (KEY, "another") and KEY not in repr(options)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"k\xc3\xa9y-" + KEY.encode()])
def test_an_invalid_key_file_is_rejected_without_its_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(SystemExit) as left:
        parse(["--api-key-file", str(file)])
    errors = capsys.readouterr().err
    assert left.value.code == 2 and "cannot be used" in errors and KEY not in errors and "lines" not in errors
