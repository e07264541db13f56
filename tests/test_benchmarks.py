"""The logic of the benchmarks: verdicts, comparison, report; many consecutive utterances leak nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks import peers
from scripts.benchmarks._collection import BEGIN, END, Collection, changes, insert
from scripts.benchmarks._picture import draw
from scripts.benchmarks._report import Column, Result, Table, at_most
from scripts.benchmarks.utterances import run

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 300.0
COLUMNS = (Column("clock, ms", 1), Column("clock ratio"))


def result(first: float, second: float) -> Result:
    rows = [("say", first, 1.0), ("hush", second, None)]
    return Result(
        [Table(("exec to",), COLUMNS, rows)], [at_most("at most 10 ms", 10.0, {"say": first, "hush": second})]
    )


def collection(first: float, second: float) -> Collection:
    return Collection({"processor": "2 x A"}, {"commands": result(first, second)}, {})


# --- verdicts


@pytest.mark.parametrize(("values", "worst", "holds"), [((3.0, 9.0), "hush", True), ((12.0, 9.0), "say", False)])
def test_verdict_judges_the_worst_row(values: tuple[float, float], worst: str, holds: bool) -> None:
    verdict = result(*values).verdicts[0]
    assert (verdict.worst, verdict.where, verdict.holds) == (max(values), worst, holds)
    assert ("yes" if holds else "no") in verdict.text() and worst in verdict.text()


def test_result_holds_only_if_every_verdict_holds(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = at_most("a", 1.0, {"row": 0.5}), at_most("b", 1.0, {"row": 1.5})
    assert [Result([], each).show(as_json=False) for each in ([good], [good, bad], [bad, good])] == [0, 1, 1]
    capsys.readouterr()


def test_table_shows_a_missing_number_as_a_dash() -> None:
    lines = result(1.25, 2.0).markdown().splitlines()
    assert lines[:4] == [
        "| exec to | clock, ms | clock ratio |",
        "|---|---|---|",
        "| say | 1.2 | 1.00 |",
        "| hush | 2.0 | - |",
    ]


def test_json_of_a_result_reads_back_as_the_same_result() -> None:
    written = json.loads(json.dumps(result(1.0, 2.0).as_json()))
    assert Result.from_json(written).markdown() == result(1.0, 2.0).markdown()
    assert written["verdicts"][0]["holds"] is True


# --- comparison and report


def test_comparison_has_the_ratio_of_each_figure_of_both_runs() -> None:
    new = collection(3.0, 8.0)._replace(results={"commands": result(3.0, 8.0), "idle": result(1.0, 1.0)})
    found = {(each.row, each.column): each.ratio for each in changes(collection(2.0, 8.0), new)}
    assert found == {("say", "clock, ms"): 1.5, ("say", "clock ratio"): 1.0, ("hush", "clock, ms"): 1.0}


@pytest.mark.parametrize(("old", "new", "percent"), [(0.0, 0.0, 0.0), (0.0, 1.0, float("inf")), (4.0, 3.0, 25.0)])
def test_change_is_rated_in_percent(old: float, new: float, percent: float) -> None:
    assert changes(collection(old, 1.0), collection(new, 1.0))[0].percent == percent


def test_collection_is_read_back_from_its_file(tmp_path: Path) -> None:
    written = collection(1.0, 2.0)._replace(missing={"server": "it failed with 2"})
    written.save(tmp_path / "bench.json")
    read = Collection.read(tmp_path / "bench.json")
    assert read.markdown() == written.markdown() and not read.holds
    assert "it failed with 2" in read.markdown()


def test_unreadable_collection_names_the_file_and_the_command(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"bench\.json cannot be read.*scripts/bench all"):
        Collection.read(tmp_path / "bench.json")


def test_report_replaces_only_the_text_between_the_marks() -> None:
    document = f"# Title\n{BEGIN}\nold\n{END}\nend\n"
    assert insert(document, "new") == f"# Title\n{BEGIN}\n\nnew\n\n{END}\nend\n"
    with pytest.raises(ValueError, match="missing"):
        insert("# Title\n", "new")


# --- peers


def row(program: str, ratio: float) -> dict[str, Any]:
    return {"service": "fish", "program": program} | {
        name: ratio for metric in peers.METRICS for name in (metric, f"{metric} ratio")
    }


@pytest.mark.parametrize(
    ("ours", "sdk", "limit_holds", "below_holds"), [(1.2, 2.0, True, True), (1.2, 1.1, True, False)]
)
def test_peers_are_judged_by_the_limit_and_by_every_sdk(
    ours: float, sdk: float, limit_holds: bool, below_holds: bool
) -> None:
    rows = [row("bare loop", 1.0), row("an SDK", sdk), row("voice-agent", ours)]
    verdicts = [each for each in peers.verdicts(rows) if each.claim.startswith("CPU")]
    assert [each.holds for each in verdicts] == [limit_holds, below_holds]


def test_picture_has_one_bar_for_each_program_and_metric() -> None:
    rows = [row("bare loop", 1.0), row("an SDK", 4.0), row("voice-agent", 2.0)]
    picture = draw(peers.result(rows, ["pyht cannot be installed: no network"]))
    assert len(re.findall(r"<rect x=", picture)) == 3 * len(peers.METRICS)
    widths = [float(width) for width in re.findall(r'<rect x="\d+" y="\d+" width="([\d.]+)"', picture)]
    assert widths[:3] == [pytest.approx(widths[1] * share, abs=0.1) for share in (0.25, 1.0, 0.5)]


def test_missing_peer_is_named() -> None:
    rows = [row("bare loop", 1.0), row("voice-agent", 1.0)]
    assert "pyht cannot be installed" in peers.result(rows, ["pyht cannot be installed: no network"]).markdown()


# --- whole benchmarks


def test_utterances_leave_no_descriptor_and_no_thread() -> None:
    report = run(60, warm=20)
    assert report.spoken == 60
    assert report.left[0] <= 2, "a standby connection may exist or not"
    assert report.left[1] <= 2, "one thread may dial, one may close a connection"


@pytest.mark.slow
def test_a_thousand_utterances_leak_no_memory_no_descriptor_and_no_thread() -> None:
    report = run(1000, warm=400)
    assert report.spoken == 1000
    assert report.left[0] <= 2, "a standby connection may exist or not"
    assert report.left[1] <= 2, "one thread may dial, one may close a connection"
    assert report.slope_kib < 256, "a coarse limit; the benchmark runs ten times as many"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("turn", "--rounds", "1"),
        ("hush", "--rounds", "1"),
        ("idle", "--seconds", "1"),
        ("shutdown", "--rounds", "1"),
        ("growth", "--seconds", "1", "2", "--utterances", "1", "2"),
        ("commands", "--rounds", "1"),
        ("start", "--rounds", "1", "--seconds", "1"),
        ("speaking", "--rounds", "1", "--seconds", "1"),
    ],
    ids=lambda words: words[0],
)
def test_benchmark_prints_progress_and_a_result(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "bench", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode in (0, 1), done.stderr  # the verdict depends on the machine
    found = Result.from_json(json.loads(done.stdout))
    assert found.tables[0].rows and found.verdicts
    assert f"{words[0]}: " in done.stderr


@pytest.mark.slow
def test_all_writes_the_results_and_names_their_verdicts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "bench", "all", "turn_end", "--output", tmp_path / "bench.json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "turn_end: " in done.stdout
    assert list(Collection.read(tmp_path / "bench.json").results) == ["turn_end"]
