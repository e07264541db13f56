"""Paths: the directories of systemd, of the system and of the user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from agent.system.paths import Paths, candidate_sockets


def test_directories_of_systemd_come_first() -> None:
    environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/a", "CACHE_DIRECTORY": "/c"}
    paths = Paths.from_environment(environ)
    assert (paths.run, paths.state, paths.cache) == (Path("/run/a"), Path("/var/lib/a"), Path("/c"))
    assert paths.control_socket == Path("/run/a/control.sock")
    assert candidate_sockets(environ) == ("/run/a/control.sock", "/run/voice-agent/control.sock")


def test_ordinary_user_gets_xdg_directories(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom agent.system.paths import Paths\n"
        "for environ in ({'HOME': '/home/me'}, {'HOME': '/home/me', 'XDG_RUNTIME_DIR': '/run/user/7',"
        " 'XDG_STATE_HOME': '/s', 'XDG_CACHE_HOME': 'relative'}, {}):\n"
        "    paths = Paths.from_environment(environ)\n"
        "    print(paths.run, paths.state, paths.cache)\n"
    )
    user = 65534 if os.getuid() == 0 else None  # root may write to the directories of the system
    change_user = f"import os\nif {user!r} is not None: os.setuid({user!r})\n" if user else ""
    imports = "import agent.system.paths, pathlib\n"  # before setuid: only root may be able to read the sources
    source = imports + change_user + program
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300, check=True)
    uid = user if user is not None else os.getuid()
    assert result.stdout.splitlines()[:2] == [
        "/home/me/.local/state/voice-agent/run /home/me/.local/state/voice-agent /home/me/.cache/voice-agent",
        "/run/user/7/voice-agent /s/voice-agent /home/me/.cache/voice-agent",
    ]
    assert f"voice-agent-{uid}" in result.stdout.splitlines()[2]
