"""``voice-agent doctor``: what is wrong, and how to mend it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from agent.cli.doctor import machine as systemd
from agent.cli.doctor import sandbox
from agent.cli.doctor.config import check_configuration, check_keys
from agent.cli.doctor.finding import BROKEN, DOUBTFUL, Finding, exit_code
from agent.cli.doctor.local_server import check_local
from agent.cli.doctor.machine import (
    check_clock,
    check_disk,
    check_systemd,
    check_user,
    is_active,
    is_installed,
    is_synchronised,
)
from agent.cli.doctor.sandbox import HostFacts
from agent.cli.doctor.services import check_services
from agent.cli.doctor.sound import check_microphone, check_speaker
from agent.cli.doctor.support_bundle import write_bundle
from agent.config.secrets import hide_keys, iter_secrets
from agent.errors import ConfigError
from agent.settings.loader import Loaded, load_with_origins
from agent.settings.model import Config
from agent.system.log import set_up_logging
from agent.system.paths import Paths
from agent.system.text import escape

_MARKS = {"fine": "fine    ", "doubtful": "DOUBTFUL", "broken": "BROKEN  "}


def examine(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], show: systemd.Show = systemd.show
) -> Iterator[Finding]:
    """Every finding as soon as it is there. With a broken configuration only what needs none is looked at."""
    loaded, found = check_configuration(path, environ)
    yield from found
    usable = not any(finding.verdict == "broken" for finding in found)
    yield check_user()
    told = HostFacts.of(environ)
    state = show() if told is None else told.unit
    if usable:
        yield from check_keys(loaded, installed=is_installed(state))
    yield check_clock(synchronised=is_synchronised if told is None else lambda: told.synchronised)
    if usable:
        mode = loaded.config.conversation.mode
        yield from check_services(loaded)
        if mode != "announce":
            yield check_microphone(loaded, in_use=is_active(state))
        if mode != "captions":
            yield check_speaker(loaded, in_use=is_active(state))
        yield from check_local(loaded)
    yield from check_disk(Paths.of(environ))
    yield from check_systemd(state)


def lines(finding: Finding) -> list[str]:
    """A finding for a person: verdict, subject and what was seen in columns, the cure below."""
    told = [f"{_MARKS[finding.verdict]}  {finding.subject:<22}  {escape(finding.saw, 1000)}"]
    if finding.cure:
        told.append(f"{'':32}  -> {escape(finding.cure, 1000)}")
    return told


def doctor(path: str | None, *, as_json: bool = False, bundle: str | None = None, here: bool = False) -> int:
    """Looks at everything and prints what it found. 0 where nothing is broken, 78 where the configuration or a key is,
    else 69.

    As root, where the service is installed, the examination runs as the service does; ``here`` prevents that. The
    archive of ``bundle`` is written by whoever calls, since it is to hold what only root may read.
    """
    why = None if here else sandbox.why_not()
    as_service = not here and why is None
    if as_service and bundle is None:
        return sandbox.run_inside([*_arguments(path), *(["--json"] if as_json else [])])
    if why is not None:
        print(f"({why})", file=sys.stderr)
    set_up_logging("error", os.environ)
    loaded = _loaded(path)
    hide_keys(secret for _, secret in iter_secrets(loaded.config))
    found: list[Finding] = []
    seen = sandbox.findings_inside(_arguments(path)) if as_service else None
    for finding in examine(path, os.environ) if seen is None else seen:
        found.append(finding)
        if not as_json:
            print("\n".join(lines(finding)), flush=True)
    code = exit_code(found)
    if as_json:
        print(json.dumps({"exit_code": code, "findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        print(_summary(found))
    if bundle is not None:
        write_bundle(Path(bundle), loaded, found, os.environ)
        print(f"{bundle}: written, without the keys", file=sys.stderr)
    return code


def _arguments(path: str | None) -> list[str]:
    return ["--config", os.path.abspath(path)] if path else []


def _loaded(path: str | None) -> Loaded:
    try:
        return load_with_origins(path, os.environ)
    except ConfigError:
        return Loaded(Config())  # its mistakes are among the findings


def _summary(found: list[Finding]) -> str:
    broken = sum(finding.verdict == BROKEN for finding in found)
    doubtful = sum(finding.verdict == DOUBTFUL for finding in found)
    if not broken and not doubtful:
        return "everything is fine"
    return f"{broken} broken, {doubtful} doubtful, {len(found) - broken - doubtful} fine"
