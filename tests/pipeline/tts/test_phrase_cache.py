"""The phrases on disk: bounded, checked, never half-written, shared by processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from support.timing import poll_until

from agent.audio.format import Format
from agent.pipeline.tts import phrase_cache
from agent.pipeline.tts.phrase_cache import BLOCK_BYTES, LEFTOVER_SECONDS, PhraseCache
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey

FORMAT = Format(16000)


def phrase(text: str, nbytes: int = 100) -> Phrase:
    return Phrase(PhraseKey("local", "(voice='en')", text), "en", FORMAT, text[:1].encode() * nbytes)


def texts(cache: PhraseCache) -> list[str]:
    return [entry.key.text for entry in cache.entries(checks=True) if entry.key is not None]


def use(cache: PhraseCache, text: str, at: float) -> None:
    os.utime(cache.directory / phrase(text).key.name, (at, at))


@pytest.fixture
def cache(tmp_path: Path) -> PhraseCache:
    return PhraseCache(tmp_path / "cache" / "phrases", 10 * BLOCK_BYTES)


def test_a_phrase_is_found_with_the_same_audio(cache: PhraseCache) -> None:
    assert cache.find(phrase("a").key) is None
    assert cache.store(phrase("a"))
    assert cache.find(phrase("a").key) == phrase("a")
    assert cache.find(phrase("b").key) is None


def test_a_phrase_is_named_by_its_text_in_any_composition(cache: PhraseCache) -> None:
    cache.store(phrase("Le café ferme."))
    assert len(cache.matching([unicodedata.normalize("NFD", "Le café ferme.")])) == 1


def test_only_the_user_reads_the_files(cache: PhraseCache) -> None:
    cache.store(phrase("a"))
    (entry,) = cache.entries()
    assert cache.directory.stat().st_mode & 0o777 == 0o700 and entry.path.stat().st_mode & 0o777 == 0o600


def test_the_least_recently_used_phrases_are_deleted_first(cache: PhraseCache) -> None:
    for at, text in enumerate("abcdefghij"):
        cache.store(phrase(text))
        use(cache, text, 1000.0 + at)
    cache.touch(phrase("a").key)
    cache.store(phrase("k"))
    assert set(texts(cache)) == set("acdefghijk")
    cache.store(phrase("l", 3 * BLOCK_BYTES - 300))
    assert set(texts(cache)) == set("afghijkl")
    assert sum(entry.size for entry in cache.entries()) <= cache.capacity_bytes


def test_a_phrase_that_is_larger_than_the_cache_deletes_nothing(cache: PhraseCache) -> None:
    cache.store(phrase("a"))
    assert not cache.store(phrase("b", cache.capacity_bytes))
    assert texts(cache) == ["a"]


@pytest.mark.parametrize("content", [b"", b"voice-agent phrase 1 ", b"\0" * 5000])
def test_a_damaged_phrase_is_deleted_and_reported(
    cache: PhraseCache, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache.store(phrase("a"))
    (entry,) = cache.entries()
    entry.path.write_bytes(content)
    assert [entry.problem for entry in cache.entries(checks=True)] == ["the checksum differs"]
    assert cache.find(phrase("a").key) is None
    assert not entry.path.exists()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_file_with_the_name_of_another_phrase_is_not_played(cache: PhraseCache) -> None:
    cache.store(phrase("a"))
    (entry,) = cache.entries()
    entry.path.rename(cache.directory / phrase("b").key.name)
    assert cache.find(phrase("b").key) is None and list(cache.entries()) == []


def test_what_is_no_phrase_stays_and_leftovers_of_killed_processes_go(cache: PhraseCache) -> None:
    cache.store(phrase("a"))
    old, new, other = (cache.directory / name for name in (".a.phrase.1.part", ".a.phrase.2.part", "README"))
    for path in (old, new, other):
        path.write_bytes(b"x")
    long_ago = time.time() - LEFTOVER_SECONDS - 5
    os.utime(old, (long_ago, long_ago))
    (cache.directory / "folder.phrase").mkdir()
    cache.store(phrase("b"))
    assert not old.exists() and new.exists() and other.exists() and set(texts(cache)) == {"a", "b"}


def test_a_directory_that_cannot_be_written_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        PhraseCache(tmp_path / "file" / "phrases", 10 * BLOCK_BYTES).store(phrase("a"))


WRITER = """
import sys
from pathlib import Path
from agent.audio.format import Format
from agent.pipeline.tts.phrase_cache import PhraseCache
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey
cache = PhraseCache(Path(sys.argv[1]), int(sys.argv[2]))
print("begins", flush=True)
for at in range(int(sys.argv[3])):
    text = f"{sys.argv[4]} {at % 30}"
    cache.store(Phrase(PhraseKey("local", "", text), "en", Format(16000), text.encode() * 3000))
"""


def writer(cache: PhraseCache, count: int, name: str) -> subprocess.Popen[str]:
    arguments = [str(cache.directory), str(cache.capacity_bytes), str(count), name]
    process = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begins\n"
    return process


def test_a_kill_at_any_point_leaves_only_complete_phrases(tmp_path: Path) -> None:
    cache = PhraseCache(tmp_path / "phrases", 200 * BLOCK_BYTES)
    for number, count in enumerate((1, 4, 9), 1):  # the number of complete files when the process is killed
        process = writer(cache, 1_000_000, f"writer {count}")
        poll_until(lambda count=count: len(list(cache.entries())) >= count, 0.0005)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [entry.problem for entry in cache.entries(checks=True) if entry.problem] == []
        keys = [entry.key for entry in cache.entries(checks=True) if entry.key is not None]
        phrases = [cache.find(key) for key in keys]
        assert phrases and all(phrase and phrase.pcm == phrase.key.text.encode() * 3000 for phrase in phrases)
        assert len(list(cache.directory.glob(".*.part"))) <= number


def test_processes_that_store_at_once_keep_the_limit(tmp_path: Path) -> None:
    cache = PhraseCache(tmp_path / "phrases", 80 * BLOCK_BYTES)
    processes = [writer(cache, 60, name) for name in ("one", "two")]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    entries = list(cache.entries(checks=True))
    assert entries and all(entry.key is not None for entry in entries)
    assert sum(entry.size for entry in entries) <= cache.capacity_bytes


def test_a_phrase_that_is_too_long_is_not_stored(cache: PhraseCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrase_cache, "MAX_AUDIO_BYTES", 100)
    assert cache.store(phrase("a", 100)) and not cache.store(phrase("b", 102))
