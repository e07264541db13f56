"""``voice-agent doctor``: check the configuration, the machine, the services and the sound devices."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from agent.cli.doctor import sandbox
from agent.cli.doctor.config import check_configuration, check_keys
from agent.cli.doctor.local_server import check_local_server
from agent.cli.doctor.machine import (
    UnitState,
    check_clock,
    check_disk,
    check_systemd,
    check_user,
    is_active,
    is_installed,
    is_synchronized,
    unit_state,
)
from agent.cli.doctor.responder import check_responder
from agent.cli.doctor.result import ERROR, WARNING, CheckResult, exit_code
from agent.cli.doctor.sandbox import HostFacts
from agent.cli.doctor.services import check_services
from agent.cli.doctor.sound import check_library, check_microphone, check_speaker
from agent.cli.doctor.support_bundle import check_bundle, write_bundle
from agent.config.fields import iter_secrets
from agent.config.secrets import hide_keys
from agent.errors import ConfigError
from agent.settings.loader import Loaded, load_with_origins
from agent.settings.model import Config
from agent.system.log import set_up_logging
from agent.system.paths import Paths
from agent.system.text import escape

MAX_LINE = 1000
"""Maximum length of an observation or a cure in the report, in characters."""


def doctor(path: str | None, *, as_json: bool = False, bundle: str | None = None, here: bool = False) -> int:
    """Run all checks, print the results and return the exit code: 0, 69 or 78 (``exit_code``).

    As root and with the service installed, the checks run as the service. This process always writes the support
    archive itself, because the archive contains files that only root can read.

    Args:
        path: The configuration file; ``None`` for the default.
        as_json: Print one JSON object instead of lines.
        bundle: The path of a support archive to write.
        here: Run the checks in this process, also as root.
    """
    if bundle is not None:
        check_bundle(Path(bundle))
    obstacle = None if here else sandbox.why_not_as_service()
    as_service = not here and obstacle is None
    arguments = ["--config", os.path.abspath(path)] if path else []
    if as_service and bundle is None:
        return sandbox.run_as_service([*arguments, *(["--json"] if as_json else [])])
    if obstacle is not None:
        print(f"({obstacle})", file=sys.stderr)
    set_up_logging("error", os.environ)
    loaded = _loaded(path)
    hide_keys(secret for _, secret in iter_secrets(loaded.config))
    remote = sandbox.results_as_service(arguments) if as_service else None
    results: list[CheckResult] = []
    for result in run_checks(path, os.environ) if remote is None else remote:
        results.append(result)
        if not as_json:
            print("\n".join(lines(result)), flush=True)
    code = exit_code(results)
    if as_json:
        print(json.dumps({"exit_code": code, "findings": [result._asdict() for result in results]}, indent=2))
    else:
        print(_summary(results))
    if bundle is not None:
        write_bundle(Path(bundle), loaded, results, os.environ)
        print(f"{bundle}: written, without the keys", file=sys.stderr)
    return code


def run_checks(
    path: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
    read_state: Callable[[], UnitState | None] = unit_state,
    *,
    checks_devices: bool = True,
) -> Iterator[CheckResult]:
    """Yield each result as soon as it is known. If the configuration is invalid, run only the checks that need none.

    Args:
        path: The configuration file; ``None`` for the default.
        environ: The environment; if it contains ``HostFacts``, systemd is not queried again.
        read_state: Returns the properties of the unit; not called with ``HostFacts``.
        checks_devices: Whether the checks that open a sound device run.
    """
    loaded, results = check_configuration(path, environ)
    yield from results
    is_valid = not any(result.verdict == ERROR for result in results)
    yield check_user()
    facts = HostFacts.of(environ)
    state = read_state() if facts is None else facts.unit
    if is_valid:
        yield from check_keys(loaded, installed=is_installed(state))
    yield check_clock(synchronized=is_synchronized if facts is None else lambda: facts.synchronized)
    if is_valid:
        mode = loaded.config.conversation.mode
        yield from check_services(loaded)
        yield from check_responder(loaded)
        if mode == "assistant" and loaded.config.responder.intents.home_assistant.url:
            from agent.cli.doctor.home_assistant import check_home_assistant  # most machines have none

            yield check_home_assistant(loaded)
        if loaded.config.mqtt.is_on:
            from agent.cli.doctor.mqtt import check_broker  # most machines have none

            yield check_broker(loaded, in_use=is_active(state))
        if checks_devices and (blocked := check_library(loaded.config)) is not None:
            yield blocked
            checks_devices = False  # the next checks would block as well
        if checks_devices and mode != "announce":
            yield check_microphone(loaded, in_use=is_active(state))
        if checks_devices and mode != "captions":
            yield check_speaker(loaded, in_use=is_active(state))
        if checks_devices and (loaded.config.button.is_used or loaded.config.led.is_used):
            from agent.cli.doctor.panel import check_panel  # most machines have neither

            yield from check_panel(loaded.config, in_use=is_active(state))
        if mode == "assistant" and loaded.config.echo.canceller != "none":
            from agent.cli.doctor.echo import check_echo  # most machines have none

            yield check_echo(None if path is None else str(path))
        yield from check_local_server(loaded)
    yield from check_disk(Paths.from_environment(environ))
    yield from check_systemd(state)


def lines(result: CheckResult) -> list[str]:
    """Return a result as lines: verdict, subject and observation in columns, the cure below."""
    rows = [f"{result.verdict:8}  {result.subject:<22}  {escape(result.saw, MAX_LINE)}"]
    if result.cure:
        rows.append(f"{'':32}  -> {escape(result.cure, MAX_LINE)}")
    return rows


def _loaded(path: str | None) -> Loaded:
    try:
        return load_with_origins(path, os.environ)
    except ConfigError:
        return Loaded(Config())  # check_configuration reports the errors


def _summary(results: Sequence[CheckResult]) -> str:
    errors, warnings = (sum(result.verdict == verdict for result in results) for verdict in (ERROR, WARNING))
    return f"errors: {errors}, warnings: {warnings}, ok: {len(results) - errors - warnings}"
