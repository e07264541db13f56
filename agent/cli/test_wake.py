"""``voice-agent test-wake``: show how well the wake words are found, to set ``wake.sensitivity``."""

from __future__ import annotations

import contextlib
import json
import queue
import sys

from agent.audio.devices.device import open_source
from agent.cli.foreground import stop_signals
from agent.errors import ConfigError
from agent.pipeline.capture.wake_word import MicroSpotter, find_models
from agent.pipeline.events import Event
from agent.settings.model import Config

FRAME_SECONDS = 0.1
SHOWN_SCORE = 0.2
"""Lower scores are no near miss."""


def test_wake(config: Config, *, seconds: float | None = None, as_json: bool = False) -> int:
    """Print the highest score of each word that is found or nearly found, until a signal.

    Args:
        config: The configuration, with the microphone and the words.
        seconds: Stop after this time.
        as_json: Print one JSON object for each line.

    Raises:
        AgentError: The microphone or a model cannot be used.
    """
    settings = config.wake
    models, problems = find_models(settings.words, settings.own)
    if problems:
        raise ConfigError(problems[0])
    spotter = MicroSpotter(models, settings.sensitivity)
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    microphone = config.microphone
    with (
        stop_signals(inbox.put),
        contextlib.closing(
            open_source(microphone.device, FRAME_SECONDS, microphone.channel, microphone.gain_db)
        ) as source,
    ):
        if not as_json:
            words = ", ".join(model.word for model in models)
            print(f"say {words}; the microphone is {microphone.device!r}. Ctrl+C ends the test.", flush=True)
        frames = 0
        peaks: dict[str, float] = {}
        while inbox.empty() and (seconds is None or frames * FRAME_SECONDS < seconds):
            found = spotter.find(source.read())
            frames += 1
            is_rising = False
            for word, score in spotter.scores.items():
                is_rising |= score > peaks.get(word, SHOWN_SCORE)
                peaks[word] = max(score, peaks.get(word, 0.0))
            if found is not None or not is_rising:
                _report(frames * FRAME_SECONDS, peaks, found, as_json=as_json)
                peaks.clear()
    return 0


def _report(at_seconds: float, peaks: dict[str, float], found: str | None, *, as_json: bool) -> None:
    for word, score in peaks.items():
        if score <= SHOWN_SCORE and word != found:
            continue
        is_found = word == found
        if as_json:
            line = json.dumps({"at": round(at_seconds, 1), "word": word, "score": round(score, 2), "found": is_found})
        else:
            line = f"{at_seconds:6.1f} s  {word}: {score:.2f}  {'found' if is_found else 'near miss'}"
        print(line, file=sys.stdout, flush=True)
