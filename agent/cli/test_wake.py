"""``voice-agent test-wake``: show how well the wake words are found, to set ``wake.sensitivity``."""

from __future__ import annotations

import contextlib
import json
import queue
import sys

from agent.cli.foreground import stop_signals
from agent.daemon.capture_builder import make_spotter, open_microphone
from agent.errors import AudioError, ConfigError
from agent.pipeline.capture.spotter import Spot, Spotter
from agent.pipeline.capture.vosk_words import VoskSpotter
from agent.pipeline.events import Event
from agent.settings.model import Config
from agent.system.threads import Deadline

FRAME_SECONDS = 0.1
SHOWN_SHARE = 0.2
"""Scores from this share of the threshold on are shown as near misses, if the engine is ``micro``. The daemon counts
only scores from ``NEAR_SHARE`` on."""
LOAD_SECONDS = 120.0
"""Longest wait until the Vosk model is loaded."""
CLOSE_SECONDS = 1.0


def test_wake(config: Config, *, seconds: float | None = None, as_json: bool = False) -> int:
    """Print the highest score of each word that is found or nearly found, until a signal.

    If ``wake.engine`` is ``none``, the engine ``micro`` is used.

    Args:
        config: The configuration, with the microphone and the words.
        seconds: Stop after this time; ``None`` for no limit.
        as_json: Print one JSON object instead of each line.

    Raises:
        AgentError: The microphone or a model cannot be used.
    """
    settings = config.wake
    if settings.engine == "none":
        settings = settings._replace(engine="micro")
    for finding in settings.check():
        raise ConfigError(f"wake.{finding.key}: {finding.what}")
    spotter = make_spotter(settings, SHOWN_SHARE)
    try:
        _listen(spotter, config, (*settings.spoken_words, *settings.own), seconds, as_json=as_json)
    finally:
        spotter.close(Deadline(CLOSE_SECONDS))
    return 0


def _listen(spotter: Spotter, config: Config, words: tuple[str, ...], seconds: float | None, *, as_json: bool) -> None:
    if isinstance(spotter, VoskSpotter) and not spotter.wait(LOAD_SECONDS):
        spotter.find(b"")  # raises the error of the load
        raise AudioError(f"the model {config.wake.model_path} did not load within {LOAD_SECONDS:.0f} s. Try again")
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with (
        stop_signals(inbox.put),
        contextlib.closing(open_microphone(config, FRAME_SECONDS)) as source,
    ):
        if not as_json:
            shown = ", ".join(words)
            print(f"say {shown}; the microphone is {config.microphone.device!r}. Ctrl+C ends the test.", flush=True)
        frames = 0
        while inbox.empty() and (seconds is None or frames * FRAME_SECONDS < seconds):
            spot = spotter.find(source.read())
            frames += 1
            if spot is not None:
                _report(frames * FRAME_SECONDS, spot, as_json=as_json)


def _report(at_seconds: float, spot: Spot, *, as_json: bool) -> None:
    if as_json:
        fields = {"at": round(at_seconds, 1), "word": spot.word, "score": round(spot.score, 2), "found": spot.is_found}
        line = json.dumps(fields)
    else:
        result = "found" if spot.is_found else "near miss"
        line = f"{at_seconds:6.1f} s  {spot.word}: {spot.score:.2f}  {result}"
    print(line, file=sys.stdout, flush=True)
