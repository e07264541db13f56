"""The counterparts of the language model: litellm, aimock and the MCP server "everything"."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.machine import free_port
from support.sdk_environments import CACHE, Environment

KEY = "sk-mock-key"
"""Of the proxy."""
START_SECONDS, INSTALL_SECONDS = 180.0, 300.0


def npm_package(requirement: str) -> Path:
    """Install an npm package once and return the directory of its programs."""
    folder = CACHE / requirement.strip("@").replace("/", "-").replace("@", "-")
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The mark is written last: a directory without it is incomplete and is made again.
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text("{}")
            npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", requirement]
            subprocess.run(npm, cwd=folder, check=True, timeout=INSTALL_SECONDS)
            (folder / "complete").touch()
    return folder / "node_modules" / ".bin"


@contextlib.contextmanager
def aimock(fixtures: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Run aimock with these fixtures; yield its URL."""
    program = npm_package("@copilotkit/aimock@1.43.0") / "llmock"
    (folder / "fixtures.json").write_text(json.dumps(fixtures))
    port = free_port()
    with _server(port, str(program), "-p", str(port), "-f", str(folder / "fixtures.json"), "--strict"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def litellm(models: Mapping[str, Mapping[str, str]], folder: Path) -> Iterator[str]:
    """Run the proxy of litellm with these models and their parameters; yield its base URL."""
    environment = Environment("litellm[proxy]==1.108.7")
    listed = [{"model_name": name, "litellm_params": dict(parameters)} for name, parameters in models.items()]
    (folder / "litellm.yaml").write_text(json.dumps({"model_list": listed}))
    port = free_port()
    program = Path(environment.python).with_name("litellm")
    options = ("--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port))
    # Without it the prices of all models are fetched from the network.
    with _server(port, str(program), *options, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MASTER_KEY=KEY):
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def mcp_everything() -> Iterator[str]:
    """Run the reference server over Streamable HTTP; yield its URL."""
    program = npm_package("@modelcontextprotocol/server-everything@2026.8.31") / "mcp-server-everything"
    port = free_port()
    with _server(port, str(program), "streamableHttp", PORT=str(port)):
        yield f"http://127.0.0.1:{port}/mcp"


@contextlib.contextmanager
def _server(port: int, *command: str, **environ: str) -> Iterator[None]:
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environ}) as process,
    ):
        try:
            _await_port(port, process, log)
            yield
        finally:
            process.kill()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Any) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            break
    log.seek(0)
    raise AssertionError(f"{process.args} did not start: {log.read()[-2000:]}")
