"""Load a configuration from a file and the environment, or report every mistake in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from agent.config.environment import PREFIX, read_environment
from agent.config.errors import ConfigIssue, ConfigIssues, Finding
from agent.config.secrets import Secret
from agent.config.validator import Checker, PartialConfig, build, merge
from agent.config.yaml_tree import SIZE_LIMIT, read_tree

SYSTEM_CONFIG = Path("/etc/voice-agent/config.yaml")

C = TypeVar("C")
Check = Callable[[C], Iterable[Finding]]


@dataclass(frozen=True)
class Loaded(Generic[C]):
    """A configuration without a mistake, and where it comes from.

    ``path``: the file that was read, ``None`` where there is none. ``origins``: ``FILE:LINE`` or the name of a
    variable for each dotted key that was given; all others have their defaults. ``warnings``: lines for the log.
    """

    config: C
    path: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def load(
    cls: type[C], path: str | os.PathLike[str] | None, environ: Mapping[str, str], errors: Check[C], warnings: Check[C]
) -> Loaded[C]:
    """Load the configuration: the defaults, overridden by the file, overridden by the environment.

    Args:
        cls: The dataclass of the whole configuration.
        path: The file; ``None`` is ``/etc/voice-agent/config.yaml`` where that exists, else the defaults.
        errors: Yields what makes the loaded configuration unusable.
        warnings: Yields what the user should know about a usable configuration.

    Raises:
        ConfigIssues: Lists every mistake, one per line, and never holds a secret.
    """
    place = Path(path) if path is not None else SYSTEM_CONFIG if _is_there(SYSTEM_CONFIG) else None
    text = b""
    inline_refused: str | None = None
    mistakes: list[ConfigIssue] = []
    if place is not None:
        text, mode = _read(place)
        if mode & 0o077:
            inline_refused = f"the file can be read by others than its owner (mode {mode:04o}, chmod 600 would do)"
        if mode & 0o002:
            what = f"everybody may write into this file (mode {mode:04o}), expected chmod o-w"
            mistakes.append(ConfigIssue(str(place), "", what))

    tree, unread = read_tree(text, str(place))
    file = Checker(cls, inline_refused)
    given = file.section(cls, tree, "")
    variables = Checker(cls, None)
    whole = merge(given, read_environment(variables, cls, environ))
    config: C = build(cls, whole)

    origins = {**file.origins, **variables.origins}
    asked_for = _asked_for_by_name(whole)
    mistakes += [*unread, *file.mistakes, *(m for m in variables.mistakes if m.key or m.where not in asked_for)]
    if not unread or tree is not None:
        invalid_keys = file.invalid_keys | variables.invalid_keys
        mistakes += [
            _placed(finding, origins, place) for finding in errors(config) if not _of(finding.key, invalid_keys)
        ]
    if mistakes:
        raise ConfigIssues(_in_order(mistakes))
    warned = tuple(str(_placed(finding, origins, place)) for finding in warnings(config))
    return Loaded(config, place, origins, warned)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True  # and reading it will say so


def _read(path: Path) -> tuple[bytes, int]:
    """The bytes of the file, up to a little more than the limit, and its permission bits."""
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise ConfigIssues([ConfigIssue(str(path), "", "this is not a file, expected a YAML file")])
            return file.read(SIZE_LIMIT + 1), stat.S_IMODE(facts.st_mode)
    except FileNotFoundError as error:
        what = "there is no such file, expected a configuration (without --config the defaults are used)"
        raise ConfigIssues([ConfigIssue(str(path), "", what)]) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this cannot be a path"
        raise ConfigIssues([ConfigIssue(str(path), "", f"the file cannot be read: {reason}")]) from error


def _asked_for_by_name(given: PartialConfig) -> frozenset[str]:
    """The variables that ``{env: NAME}`` asks for and that happen to begin like ours: these are no unknown ones."""
    found = set()
    waiting: list[object] = [given]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, dict):
            waiting.extend(thing.values())
        elif isinstance(thing, Secret) and thing.env is not None and thing.env.startswith(PREFIX):
            found.add(thing.env)
    return frozenset(found)


def _of(key: str, invalid_keys: set[str]) -> bool:
    """Whether the key, or a section or list around it, has a mistake of its own already."""
    return any(key == other or key.startswith((f"{other}.", f"{other}[")) for other in invalid_keys)


def _placed(finding: Finding, origins: Mapping[str, str], path: Path | None) -> ConfigIssue:
    """The finding with the place of the key, or of the key that brought it up, or of the innermost section around."""
    key, what, meant, cause = finding
    around = key if key in origins or cause is None else cause
    while around:
        if around in origins:
            return ConfigIssue(origins[around], key, what, meant)
        around = around[: max(around.rfind("."), around.rfind("["), 0)]
    return ConfigIssue(str(path) if path is not None else "the defaults", key, what, meant)


def _in_order(mistakes: list[ConfigIssue]) -> list[ConfigIssue]:
    """By line, those of the whole file first and those of the environment last."""

    def order(mistake: ConfigIssue) -> tuple[bool, int]:
        line = mistake.where.rpartition(":")[2]
        return mistake.where.startswith(PREFIX), int(line) if line.isdigit() and len(line) < 9 else 0

    return sorted(dict.fromkeys(mistakes), key=order)
