"""``voice-agent doctor``: what is wrong, and how to mend it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from agent.config import Config, Loaded, load_with_origins
from agent.doctor import sandbox
from agent.doctor.bundle import write_bundle
from agent.doctor.examination import as_data, examine, lines
from agent.doctor.finding import BROKEN, DOUBTFUL, Finding, exit_code
from agent.errors import ConfigError
from agent.masking import hide_keys
from agent.service import set_up_logging


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
    hide_keys(loaded.config)
    found: list[Finding] = []
    seen = sandbox.findings_inside(_arguments(path)) if as_service else None
    for finding in examine(path, os.environ) if seen is None else seen:
        found.append(finding)
        if not as_json:
            print("\n".join(lines(finding)), flush=True)
    code = exit_code(found)
    if as_json:
        print(json.dumps({"exit_code": code, "findings": [as_data(finding) for finding in found]}, indent=2))
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
