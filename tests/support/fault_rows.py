"""Types of the fixtures that the fault tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Record = Callable[[int, str], None]
Drive = Callable[..., dict[str, Any]]
