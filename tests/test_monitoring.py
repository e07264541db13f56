"""The dashboard and the alert rules of ``docs/monitoring``: valid, and about metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.promtool import promtool

from agent.daemon.metrics import Metrics
from agent.pipeline.events import AudioArrived, DeviceLost, NearMiss, ServiceDown, ServiceUp, Woken
from agent.pipeline.status import CurrentUtterance, DeviceState, ServiceState, Status

ROOT = Path(__file__).parent.parent
DIRECTORY = ROOT / "docs/monitoring"
_METRIC = re.compile(r"\b(?:voice_agent|process)_[a-z_]+\b")


def all_lines() -> list[str]:
    """The metrics of a daemon that has seen each kind of event."""
    metrics = Metrics()
    saying = CurrentUtterance("a", "", 0, "say")
    service = ServiceState("fish", "speech", "ready", breaker="closed")
    device = DeviceState("speaker", "default", "ready")
    status = Status(
        "ready", "speaking", volume=80, saying=saying, services=(service,), devices=(device,), can_speak=True,
        can_listen=True,
    )  # fmt: skip
    for notification in (
        status,
        Woken("hey"),
        NearMiss("hey", 0.3),
        AudioArrived("a", "fish"),
        ServiceDown("fish", ""),
        ServiceUp("fish"),
        DeviceLost("speaker", ""),
    ):
        metrics.update(notification)
    return metrics.render().splitlines()


def names() -> set[str]:
    return {line.split("{")[0].split()[0] for line in all_lines() if not line.startswith("#")}


def dashboard_expressions() -> list[str]:
    dashboard = json.loads((DIRECTORY / "dashboard.json").read_text("utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DIRECTORY / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", str(DIRECTORY / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_fire_as_described() -> None:
    done = promtool("test", "rules", str(DIRECTORY / "alerts.test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [
        expr.replace("$__rate_interval", "5m").replace("$instance", ".*") for expr in dashboard_expressions()
    ]
    records = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("where", ["rules", "dashboard", "page"])
def test_only_metrics_that_exist_are_used(where: str) -> None:
    texts = {
        "rules": lambda: [rule["expr"] for rule in rules()],
        "dashboard": dashboard_expressions,
        "page": lambda: [(ROOT / "docs/monitoring.md").read_text("utf-8")],
    }
    used = {name for text in texts[where]() for name in _METRIC.findall(text)}
    # The documentation names a histogram without the suffix of its samples.
    known = names() | {name.removesuffix("_bucket") for name in names()}
    assert used and used - known == set()


def test_every_metric_and_every_alert_is_documented() -> None:
    text = (ROOT / "docs/monitoring.md").read_text("utf-8")
    families = {line.split()[2] for line in all_lines() if line.startswith("# HELP")}
    assert sorted(family for family in families if f"`{family}`" not in text) == []
    assert sorted(rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in text) == []
