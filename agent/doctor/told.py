"""What root hands over to an examination that is run as the service, which gets no answer from systemd itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

VARIABLE = "DOCTOR_TOLD"


@dataclass(frozen=True, slots=True)
class Told:
    """``unit``: the properties of the service; ``synchronised``: whether somebody keeps the clock right. ``None`` where
    root did not know either."""

    unit: dict[str, str] | None = None
    synchronised: bool | None = None

    def as_variable(self) -> str:
        """``NAME=VALUE`` for the environment of the examination."""
        return f"{VARIABLE}={json.dumps(asdict(self))}"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Told | None:
        """``None`` where nobody has told anything: one can ask by oneself."""
        if VARIABLE not in environ:
            return None
        try:
            return cls(**json.loads(environ[VARIABLE]))
        except (ValueError, TypeError):
            return cls()
