from __future__ import annotations

import json

from agent.server.recordings import Exports
from agent.services.protocols.codec import Transcript


def _kept(exports: Exports, pcm: bytes, text: str = "") -> str:
    recording = exports.begin()
    recording.add_sound(pcm)
    if text:
        recording.add_final(Transcript(text, final=True))
    return exports.keep(recording)


def test_an_export_is_found_by_its_id_and_by_no_other() -> None:
    exports = Exports()
    one, two = _kept(exports, b"1111", "one"), _kept(exports, b"22", "two")
    recording = exports.find(one)
    assert recording is not None
    assert (recording.wav() or b"")[44:] == b"1111"
    assert [final["text"] for final in json.loads(recording.transcript() or "")] == [" one"]
    assert one != two
    assert exports.find("0" * 32) is None
    exports.close()


def test_the_oldest_goes_when_there_are_too_many_or_too_much() -> None:
    exports = Exports(count=3, total_bytes=100)
    ids = [_kept(exports, bytes(10)) for _ in range(4)]
    assert [exports.find(each) is not None for each in ids] == [False, True, True, True]
    large = _kept(exports, bytes(90))
    assert [exports.find(each) is not None for each in [*ids, large]] == [False, False, False, True, True]
    exports.close()


def test_what_is_old_goes() -> None:
    exports = Exports(life_seconds=0.0)
    assert exports.find(_kept(exports, b"11")) is None


def test_a_recording_that_would_fill_everything_stops_growing_and_says_so() -> None:
    exports = Exports(total_bytes=100)
    recording = exports.begin()
    for _ in range(20):
        recording.add_sound(bytes(10))
    assert (recording.size, recording.complete) == (100, False)
    exports.drop(recording)
    assert exports.find(_kept(exports, bytes(100))) is not None
    exports.close()


def test_an_export_that_is_forgotten_while_it_is_fetched_is_just_not_there() -> None:
    exports = Exports()
    recording = exports.find(_kept(exports, b"11"))
    assert recording is not None
    exports.close()
    assert recording.wav() is None
