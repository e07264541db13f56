"""The result of one check of the doctor, and the exit code of all results."""

from __future__ import annotations

from collections.abc import Iterable

from agent.system.named_tuple import NamedTuple

OK, WARNING, ERROR = "ok", "warning", "error"

CONFIGURATION_EXIT, SERVICE_EXIT = 78, 69


class CheckResult(NamedTuple):
    """The result of one check. Immutable. The field names are those of ``doctor --json``.

    Args:
        subject: The thing that was checked.
        verdict: ``ok``, ``warning`` or ``error``.
        saw: The observation, in one sentence.
        cure: The line to change or the command to type; empty if no action is needed.
        own: Whether the cause is the configuration or a key, and not the machine or the network.
    """

    subject: str
    verdict: str
    saw: str
    cure: str = ""
    own: bool = False


def exit_code(results: Iterable[CheckResult]) -> int:
    """Return 0 without errors, 78 if the configuration or a key causes an error, else 69."""
    errors = [result for result in results if result.verdict == ERROR]
    if not errors:
        return 0
    return CONFIGURATION_EXIT if any(result.own for result in errors) else SERVICE_EXIT
