"""The engine that reads timed transcripts from a file."""

from __future__ import annotations

import json
from pathlib import Path

from agent.server.stt.script import ScriptEngine


def test_a_final_without_words_is_empty(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"text": "one"}, {"text": " "}, {"text": "two"}]))
    finals = ScriptEngine.read(str(script)).open().finish()
    assert [final.text for final in finals] == ["one", "", "two"]
    assert [word.start_seconds for word in finals[2].words] == [0.7]
