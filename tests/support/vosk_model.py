"""The small English model of vosk, which ``scripts/setup.sh`` puts into the environment for the tests."""

from __future__ import annotations

import sys
from pathlib import Path

MODEL = Path(sys.prefix) / "vosk-model"
