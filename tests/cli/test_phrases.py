"""``voice-agent phrases``: what it keeps, prints, deletes and returns."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.audio.format import Format
from agent.cli.main import main
from agent.pipeline.tts import phrase_cache
from agent.pipeline.tts.phrase_cache import PhraseCache
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey
from agent.server.tts import tone

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(tmp_path: Path) -> PhraseCache:
    return PhraseCache(tmp_path / "cache" / "phrases", 100_000_000)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with a cache directory of its own; return the code, stdout and stderr."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    config = tmp_path / "config.yaml"
    config.write_text("{synthesis: {phrases: {enabled: true}}, server: {speech: tone, port: 1}}")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["phrases", *words, "--config", str(config)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def keep(cache: PhraseCache, *texts: str) -> None:
    for text in texts:
        cache.store(Phrase(PhraseKey("local", "", text), "en", Format(16000), bytes(3200)))


def damage(cache: PhraseCache) -> None:
    """Damage the phrase that was used last."""
    entry = next(cache.entries())
    entry.path.write_bytes(entry.path.read_bytes()[:-1])


def test_warm_keeps_each_text_names_bad_lines_and_resumes(run: Run, cache: PhraseCache, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("{n} = 1..2\nTrain {n}.\nTrain {m}.\nStand back.\n")
    code, out, err = run("warm", str(texts))
    assert code == 2 and out.startswith("local: 3 phrases kept, 0 were there before, 1 failed")
    assert [line.split()[0] for line in err.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]
    assert "line 3" in err and "{m}" in err
    kept = {entry.key.text: cache.find(entry.key) for entry in cache.entries(checks=True) if entry.key is not None}
    assert set(kept) == {"Train 1.", "Train 2.", "Stand back."}
    phrase = kept["Stand back."]
    assert phrase is not None and phrase.pcm == tone.pcm("Stand back.", phrase.format.rate)

    texts.write_text("Train 1.\nTrain 3.\n")
    code, out, _ = run("warm", "--json", str(texts))
    summary: dict[str, Any] = json.loads(out)
    assert code == 0 and (summary["kept"], summary["present"], summary["failed"]) == (1, 1, 0)


def test_warm_says_that_the_phrases_do_not_fit(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_SYNTHESIS__PHRASES__MEGABYTES", "1")
    sentence = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    (tmp_path / "texts.txt").write_text("".join(f"{sentence} {number}.\n" for number in range(10)))
    code, out, err = run("warm", "--json", str(tmp_path / "texts.txt"))
    summary = json.loads(out)
    assert code == 78 and summary["kept"] == 10 and 0 < summary["deleted"] < 10
    assert "synthesis.phrases.megabytes" in err


def test_warm_ends_with_69_if_the_service_cannot_be_reached(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_AGENT_SYNTHESIS__LOCAL__URL", "ws://127.0.0.1:1")
    (tmp_path / "texts.txt").write_text("One.\nTwo.\n")
    code, out, err = run("warm", str(tmp_path / "texts.txt"))
    assert code == 69 and "0 phrases kept, 0 were there before, 2 failed" in out
    assert "line 1" in err and "line 2" in err


def test_warm_shows_a_bar_on_a_terminal_and_a_line_for_each_failure(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_AGENT_SYNTHESIS__LOCAL__URL", "ws://127.0.0.1:1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (tmp_path / "texts.txt").write_text("Train {m}.\nTrain {n}.\n")
    code, _, err = run("warm", str(tmp_path / "texts.txt"))
    assert code == 2
    assert "[############............] 1/2" in err and "[########################] 2/2" in err
    lines = [line for line in err.replace("\r", "\n").replace("\x1b[K", "").splitlines() if "failed" in line]
    assert [line.split(" failed")[0] for line in lines] == ["1/2 line 1:", "2/2 line 2:"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"\xff\xfe", "not UTF-8"), (b"# nothing\n", "has no text")],
)
def test_warm_refuses_a_file_without_texts(run: Run, tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    code, _, err = run("warm", str(tmp_path / "texts.txt"))
    assert code == 2 and reason in err


@pytest.mark.parametrize("words", [["warm"], ["warm", "a", "b"], ["list", "x"], ["remove"], ["remove", "No such."]])
def test_words_that_do_not_fit_are_a_usage_error(run: Run, cache: PhraseCache, words: list[str]) -> None:
    keep(cache, "One.")
    assert run(*words)[0] == 2
    assert len(list(cache.entries())) == 1


def test_list_shows_all_phrases_and_the_damaged_ones(run: Run, cache: PhraseCache) -> None:
    keep(cache, "One.", "Two.")
    damage(cache)
    code, out, err = run("list")
    assert code == 0 and len(out.splitlines()) == 2 and "damaged" in out and "2 phrases" in err
    code, out, _ = run("list", "--json")
    phrases = json.loads(out)
    assert sorted(phrase.get("text", "") for phrase in phrases) in (["", "One."], ["", "Two."])
    assert {phrase["seconds"] for phrase in phrases if "seconds" in phrase} == {0.1}


def test_remove_takes_texts_and_ids(run: Run, cache: PhraseCache) -> None:
    keep(cache, "One more.", "Two.", "Three.")
    entry = next(entry for entry in cache.entries(checks=True) if entry.key is not None and entry.key.text == "Two.")
    assert run("remove", "One  more.", entry.id[:8])[1] == "2 phrases removed\n"
    assert [entry.key.text for entry in cache.entries(checks=True) if entry.key is not None] == ["Three."]


def test_clear_removes_all_phrases(run: Run, cache: PhraseCache) -> None:
    keep(cache, "One.", "Two.")
    assert json.loads(run("clear", "--json")[1]) == {"removed": 2}
    assert list(cache.entries()) == [] and run("clear")[0] == 0


def test_verify_removes_damaged_phrases_only(run: Run, cache: PhraseCache) -> None:
    keep(cache, "One.", "Two.")
    damage(cache)
    code, out, _ = run("verify", "--json")
    report = json.loads(out)
    assert code == 0 and report["checked"] == 2 and len(report["removed"]) == 1
    assert run("verify")[1].startswith("1 phrases checked, 0 damaged")


def fail_reads(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let each read of a phrase fail with this ``errno``."""

    def fail(path: Path) -> bytes:
        raise OSError(code, os.strerror(code), str(path))  # a code such as EACCES gives its subclass

    monkeypatch.setattr(phrase_cache, "_read", fail)


def test_verify_keeps_a_phrase_that_may_not_be_read(
    run: Run, cache: PhraseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, "One.")
    fail_reads(monkeypatch, errno.EACCES)
    code, out, err = run("verify")
    assert (code, out) == (2, "") and err.endswith(": Permission denied. Use sudo\n")
    assert "cannot be read: Permission denied" in run("list")[1]
    assert len(list(cache.entries())) == 1


def test_verify_removes_a_phrase_on_a_damaged_block(
    run: Run, cache: PhraseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, "One.")
    fail_reads(monkeypatch, errno.EIO)
    assert run("verify")[1].endswith("1 damaged ones removed\n")
    assert list(cache.entries()) == []


@pytest.mark.parametrize("words", [["list"], ["verify"], ["clear"], ["remove", "One."]])
def test_a_directory_that_cannot_be_read_is_one_line(run: Run, cache: PhraseCache, words: list[str]) -> None:
    cache.directory.parent.mkdir()
    cache.directory.write_text("")
    code, out, err = run(*words)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "cannot be read or deleted: Not a directory" in err
