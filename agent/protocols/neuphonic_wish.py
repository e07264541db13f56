"""What the query of a Neuphonic URL asks for, checked; the same for the client that writes it and the server."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agent.protocols.events import Encoding
from agent.protocols.excerpt import excerpt

SAMPLING_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
SPEED = (0.7, 2.5)
TEMPERATURE = (0.0, 1.0)
SAMPLES = {"pcm_linear": "s16le", "pcm_mulaw": "mulaw"}


class Wish:
    """What a query asks for, in today's names and in those of 2024. ``mistake``: what is out of range, in words."""

    def __init__(self, said: Mapping[str, str]) -> None:
        self.mistake: str | None = None
        self.speed = self._number(said, "speed", 1.0, SPEED)
        self.temperature = self._number(said, "temperature", 0.5, TEMPERATURE)
        rate = said.get("sampling_rate", "22050")
        if rate not in {str(known) for known in SAMPLING_RATES}:
            self.mistake = f"sampling_rate to be one of {', '.join(map(str, SAMPLING_RATES))}, not {excerpt(rate)}"
            rate = "22050"
        samples = said.get("encoding", "pcm_linear")
        if samples not in SAMPLES:
            self.mistake = f"encoding to be pcm_linear or pcm_mulaw, not {excerpt(samples)}"
        if said.get("output_format", "raw") not in ("raw", "pcm"):
            self.mistake = f"output_format to be raw, not {excerpt(said['output_format'])}"
        self.encoding = Encoding("raw", int(rate), 1, SAMPLES.get(samples, "s16le"))

    def _number(self, said: Mapping[str, str], name: str, default: float, bounds: tuple[float, float]) -> float:
        given = said.get(name)
        if given is None:
            return default
        try:
            number = float(given)
        except ValueError:
            number = math.nan
        if not bounds[0] <= number <= bounds[1]:
            self.mistake = f"{name} to be a number from {bounds[0]} to {bounds[1]}, not {excerpt(given)}"
            return default
        return number
