"""A speech service that is added by one file and one registry line works everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.acme import ENCODING

from agent.server.tts import tone

ROOT = Path(__file__).resolve().parent.parent
KEY = "acme-key-0123"
TIMEOUT_SECONDS = 60.0


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a sixth service."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "agent", folder / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/support/acme.py", folder / "agent/services/protocols/acme.py")
    registry = folder / "agent/services/registry.py"
    line = '    "local": "agent.services.protocols.local",\n'
    text = registry.read_text()
    assert line in text
    registry.write_text(text.replace(line, f'    "acme": "agent.services.protocols.acme",\n{line}'))
    return folder


@pytest.fixture(scope="module")
def server_url(clone: Path) -> Iterator[str]:
    """The local speech server of the copy, which requires a key from the clients of Acme."""
    arguments = ["--port", "0", "--speech", "tone", "--recognition", "none", "--api-key-acme", KEY]
    with subprocess.Popen(
        [sys.executable, "-m", "agent.server", *arguments],
        cwd=clone,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield f"ws://{process.stdout.readline().removeprefix('listening on ').strip()}"
        process.terminate()


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICE_AGENT_", "PYTHONPATH"))}
    return {**kept, **more}


def voice_agent(clone: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(
        command, cwd=clone, env=environment(**more), capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )


@pytest.fixture
def config(clone: Path, server_url: str, tmp_path: Path) -> Path:
    """A configuration that speaks with Acme at the local server."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"conversation: {{mode: announce}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
        f"synthesis:\n  services: [acme]\n  acme: {{url: '{server_url}/acme/speech', api_key: {{env: ACME_KEY}}}}\n"
    )
    return path


def test_service_is_a_choice_of_the_command_line(clone: Path) -> None:
    assert "acme" in voice_agent(clone, "say", "--help").stdout
    assert "--api-key-acme" in voice_agent(clone, "server", "--help").stdout


def test_service_has_a_section_with_checks_in_the_configuration(clone: Path, tmp_path: Path) -> None:
    assert "    voice: anna " in voice_agent(clone, "config", "show").stdout
    path = tmp_path / "config.yaml"
    path.write_text("synthesis:\n  services: [acmee]\n  acme:\n    voice: ana\n    speeed: 1\n")
    checked = voice_agent(clone, "config", "check", "--config", str(path))
    assert checked.returncode == 78
    for line, hint in ((2, "acme"), (4, "anna"), (5, "speed")):
        assert any(f"{path}:{line}: " in each and f'"{hint}"?' in each for each in checked.stderr.splitlines())
    path.write_text("synthesis:\n  acme: {voice: otto, speed: 1.6}\n")
    assert f"{path}:2: synthesis.acme.speed: " in voice_agent(clone, "config", "check", "--config", str(path)).stderr
    assert voice_agent(clone, "config", "show", VOICE_AGENT_SYNTHESIS__ACME__URL="http://x").returncode == 78


def test_service_has_a_section_in_the_schema(clone: Path) -> None:
    schema = json.loads(voice_agent(clone, "config", "schema").stdout)
    synthesis = schema["properties"]["synthesis"]["properties"]
    assert synthesis["acme"]["description"] == "the service Acme"
    assert synthesis["acme"]["properties"]["voice"]["enum"] == ["anna", "otto"]
    assert "acme" in synthesis["services"]["items"]["enum"]


@pytest.mark.parametrize(("api_key", "verdict"), [(KEY, "ok"), ("a wrong key", "error")])
def test_service_has_rows_in_the_doctor(clone: Path, config: Path, api_key: str, verdict: str) -> None:
    report = voice_agent(clone, "doctor", "--json", "--config", str(config), ACME_KEY=api_key).stdout
    rows = {row["subject"]: row["verdict"] for row in json.loads(report)["findings"]}
    assert (rows["key synthesis.acme"], rows["service acme"]) == ("ok", verdict)


def test_service_speaks_end_to_end_with_the_local_server(clone: Path, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    arguments = ["--service", "acme", "--output", str(output), "One two three."]
    spoken = voice_agent(clone, "say", "--config", str(config), *arguments, ACME_KEY=KEY)
    assert spoken.returncode == 0, spoken.stderr
    with wave.open(str(output)) as file:
        assert file.getframerate() == ENCODING.sample_rate
        assert file.readframes(file.getnframes()) == tone.pcm("One two three.", ENCODING.sample_rate)


def test_demo_speaks_the_protocol_of_the_service(clone: Path, server_url: str, tmp_path: Path) -> None:
    program = (
        "from agent.services.registry import find\nfrom agent.settings.model import Config\n"
        f"settings = Config().synthesis.settings('acme')._replace(**find('acme').local_settings({server_url!r}))\n"
        "print(settings.url)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, env=environment(), capture_output=True, text=True)
    assert done.stdout.strip() == f"{server_url}/acme/speech", done.stderr
