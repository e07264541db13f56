from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.command import CommandResponder, Settings

Hear = Callable[..., list[str]]


def command(*argv: str, seconds: float = 20.0, output_bytes: int = 65536) -> CommandResponder:
    return CommandResponder(Settings(argv, output_bytes), seconds)


def python(program: str, **more: Any) -> CommandResponder:
    return command(sys.executable, "-c", program, **more)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_gone(pid: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    happened = poll.poll(30_000)
    os.close(ended)
    assert happened or is_gone(pid)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "text",
    ["hi", "$(reboot)", "`id`", "; rm -rf /", "-rf", "a\0b", "\x1b]0;x\x07", "line\n<0>fake", "größe 你好", ""],
)
def test_transcript_is_written_to_stdin(text: str, hear: Hear) -> None:
    show = "import sys; print(sys.stdin.buffer.read().hex(), len(sys.argv))"
    assert hear(python(show), text) == [f"{(text + chr(10)).encode().hex()} 1"]


def test_large_input_and_split_characters_work(hear: Hear) -> None:
    count = "import sys; print(len(sys.stdin.buffer.read()))"
    assert hear(python(count), "x" * 1_000_000) == ["1000001"]
    assert hear(python(count), "\ud800") == ["4"]


def test_arguments_are_not_interpreted_by_a_shell(hear: Hear) -> None:
    assert hear(command("printf", "%s", "$(echo no); $HOME *")) == ["$(echo no); $HOME *"]


def test_output_is_yielded_while_the_program_runs() -> None:
    program = "import time; print('One. Two. Thr', end='', flush=True); time.sleep(60)"
    answer = python(program).reply("x", 1)
    assert next(piece for piece in answer if piece) == "One. Two. Thr"
    answer.close()


def test_reply_yields_empty_pieces_while_waiting() -> None:
    answer = command("sleep", "600", seconds=600.0).reply("x", 1)
    gaps = []
    for _ in range(5):
        began = time.monotonic()
        assert next(answer) == ""
        gaps.append(time.monotonic() - began)
    assert min(gaps) < 1, "a slow machine is not slow each time"
    answer.close()


def test_exit_code_raises_with_the_last_stderr_line(hear: Hear) -> None:
    program = "import sys; print('Half'); sys.stderr.write('first\\n\\x1b[31mno such file\\n\\n'); sys.exit(3)"
    pieces: list[str] = []
    with pytest.raises(ServiceError) as caught:
        pieces.extend(piece for piece in python(program).reply("x", 1) if piece)
    assert re.search(r"ended with exit code 3; its last line on stderr: '\\x1b\[31mno such file'$", str(caught.value))


def test_output_before_an_error_is_yielded() -> None:
    answer = python("print('Half of it.'); raise SystemExit(1)").reply("x", 1)
    first = next(piece for piece in answer if piece)
    assert first.strip() == "Half of it."
    with pytest.raises(ServiceError, match="exit code 1$"):
        list(answer)


def test_killed_program_raises_with_its_signal(hear: Hear) -> None:
    with pytest.raises(ServiceError, match="by signal 9"):
        hear(python("import os; os.kill(os.getpid(), 9)"))


def test_timeout_ends_the_process_group(tmp_path: Path, hear: Hear) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 600 & echo $! $$ >{pids}; wait; wait; sleep 600"
    found: list[int] = []
    for seconds in (1, 5, 30):  # where the program was ended before it had begun, it gets more time
        began = time.monotonic()
        with pytest.raises(ServiceError, match=f"not finish within {seconds} s"):
            hear(command("sh", "-c", script, seconds=float(seconds)))
        assert time.monotonic() - began < seconds + 60
        found = [int(pid) for pid in pids.read_text().split()] if pids.exists() else []
        if found:
            break
    assert len(found) == 2
    for pid in found:
        wait_gone(pid)


def test_output_limit_ends_the_program(hear: Hear) -> None:
    pieces: list[str] = []
    with pytest.raises(ServiceError, match="more than 1000 bytes"):
        pieces.extend(piece for piece in command("yes", "one word", output_bytes=1000).reply("x", 1) if piece)
    assert "".join(pieces) == ("one word\n" * 200)[:1000]


def test_stderr_flood_ends_with_the_timeout(hear: Hear) -> None:
    with pytest.raises(ServiceError, match="not finish within 1 s"):
        hear(command("sh", "-c", "exec yes >&2", seconds=1.0))


def test_program_may_ignore_its_stdin(hear: Hear) -> None:
    assert hear(command("sh", "-c", "exec <&-; echo I do not listen"), "x" * 1_000_000) == ["I do not listen"]


def test_background_process_neither_delays_the_reply_nor_is_killed(hear: Hear) -> None:
    began = time.monotonic()
    pieces = hear(command("sh", "-c", "sleep 600 & echo $!", seconds=600.0))
    assert time.monotonic() - began < 60
    pid = int(pieces[0])
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_closing_the_reply_ends_the_program_and_releases_everything() -> None:
    before = open_files()
    answer = python("import os, time; print(os.getpid(), end='. \\n', flush=True); time.sleep(60)").reply("x", 1)
    pid = int(next(piece for piece in answer if piece).rstrip(". \n"))
    answer.close()
    assert is_gone(pid)
    assert open_files() <= before


def test_invalid_utf8_is_replaced() -> None:
    answer = python("import sys; sys.stdout.buffer.write(b'caf\\xe9 \\xc3')").reply("x", 1)
    assert "".join(answer) == "caf\ufffd \ufffd"


def test_missing_program_raises_service_error(hear: Hear) -> None:
    with pytest.raises(ServiceError, match="/no/such/program cannot be started: No such file or directory"):
        hear(command("/no/such/program"))


@pytest.mark.parametrize("argv", [(), ("",), ("a\0b",)])
def test_empty_argv_raises_config_error(argv: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"responder\.command\.argv"):
        command(*argv)


def test_environment_excludes_keys(monkeypatch: pytest.MonkeyPatch, hear: Hear) -> None:
    monkeypatch.setenv("VOICE_AGENT_SYNTHESIS__FISH__API_KEY", "topsecret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/topsecret")
    monkeypatch.setenv("KEPT", "kept")
    assert hear(python("import os; print(os.environ.get('KEPT'), 'topsecret' in str(os.environ))")) == ["kept False"]
