"""Loads a configuration from a file and the environment, or reports every error in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from agent.config.environment import PREFIX, read_environment
from agent.config.errors import ConfigIssue, ConfigIssues, Finding
from agent.config.secrets import Secret
from agent.config.tree import MAX_BYTES, Tree
from agent.config.tree_cache import TreeCache
from agent.config.validator import PartialConfig, Validator, build, merge
from agent.system import paths
from agent.system.named_tuple import NamedTuple

SYSTEM_CONFIG = Path(paths.SYSTEM_CONFIG)

C = TypeVar("C")
Check = Callable[[C], Iterable[Finding]]


class Loaded(NamedTuple, Generic[C]):
    """A valid configuration. Immutable.

    Attributes:
        config: The values.
        path: The file; ``None`` if no file was loaded.
        origins: ``FILE:LINE`` or the name of a variable for each dotted key that is set.
        warnings: Lines for the log.
    """

    config: C
    path: Path | None = None
    origins: Mapping[str, str] = MappingProxyType({})
    warnings: tuple[str, ...] = ()


def load(
    cls: type[C],
    path: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
    errors: Check[C],
    warnings: Check[C],
    cache: TreeCache | None = None,
) -> Loaded[C]:
    """Load the configuration: the defaults, overridden by the file, overridden by the environment.

    Args:
        cls: The section that holds the whole configuration.
        path: The file; ``None`` means ``/etc/voice-agent/config.yaml`` if it exists, otherwise no file.
        environ: The environment variables.
        errors: Yields the findings that make the loaded configuration unusable.
        warnings: Yields the warnings about a usable configuration.
        cache: Keeps the tree of the file for the next start.

    Raises:
        ConfigIssues: The configuration has errors. The text lists all of them, one per line, and contains no secret.
    """
    file = Path(path) if path is not None else SYSTEM_CONFIG if _exists(SYSTEM_CONFIG) else None
    data = b""
    inline_refusal: str | None = None
    issues: list[ConfigIssue] = []
    if path is not None and not os.fspath(path):
        what = f"the path is empty, expected that of a YAML file (without --config: {SYSTEM_CONFIG}, if it exists)"
        issues.append(ConfigIssue("--config", "", what))
    elif file is not None:
        data, mode, problem = _read(file)
        if problem is not None:
            issues.append(ConfigIssue(str(file), "", problem))
        if mode & 0o077:
            inline_refusal = f"other users can read the file (mode {mode:04o}, chmod 600 is enough)"
        if mode & 0o002:
            what = f"every user can write to this file (mode {mode:04o}), expected chmod o-w"
            issues.append(ConfigIssue(str(file), "", what))

    tree: Tree | None = None
    is_partial = False  # True: the tree is incomplete, so its issues may be consequences
    syntax_issues: list[ConfigIssue] = []
    if data and cache is not None:
        tree = cache.read(data, str(file))
    if data and tree is None:
        from agent.config.yaml_tree import read_sections, read_tree

        tree, syntax_issues = read_tree(data, str(file))
        if syntax_issues and tree is None:
            tree, is_partial = read_sections(data, str(file)), True
        elif cache is not None and tree is not None and not syntax_issues:
            cache.write(data, str(file), tree)
    of_file = Validator(cls, inline_refusal)
    of_variables = Validator(cls, None)
    values = merge(of_file.section(cls, tree, ""), read_environment(of_variables, cls, environ))
    config: C = build(cls, values)

    origins = {**of_file.origins, **of_variables.origins}
    holds_secret = _variables_of_secrets(values)
    issues += [*syntax_issues, *([] if is_partial else of_file.issues)]
    issues += [issue for issue in of_variables.issues if issue.key or issue.where not in holds_secret]
    if not is_partial:
        invalid = of_file.invalid_keys | of_variables.invalid_keys
        issues += [
            _placed(finding, origins, file) for finding in errors(config) if not _is_inside(finding.key, invalid)
        ]
    if issues:
        from agent.config.cures import add_cures

        raise ConfigIssues(add_cures(_in_order(issues), data, str(file)), config)
    found = [*of_variables.warnings, *(_placed(finding, origins, file) for finding in warnings(config))]
    return Loaded(config, file, origins, tuple(map(str, found)))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True  # reading the file reports the reason


def _read(path: Path) -> tuple[bytes, int, str | None]:
    """Return at most ``MAX_BYTES + 1`` bytes of the file, its permission bits, and the reason if reading failed."""
    try:
        # Without O_NONBLOCK, open() of a pipe without a writer blocks forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return b"", 0, "this is not a file, expected a YAML file"
            return file.read(MAX_BYTES + 1), stat.S_IMODE(status.st_mode), None
    except FileNotFoundError:
        what = "there is no such file, expected a configuration (without --config the defaults are used)"
        return b"", 0, what
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this cannot be a path"
        return b"", 0, f"the file cannot be read: {reason}"


def _variables_of_secrets(values: PartialConfig) -> frozenset[str]:
    """Return the variables with ``PREFIX`` that ``{env: NAME}`` refers to; they are not reported as unknown."""
    names = set()
    pending: list[object] = [values]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, Secret) and value.env is not None and value.env.startswith(PREFIX):
            names.add(value.env)
    return frozenset(names)


def _is_inside(key: str, invalid_keys: set[str]) -> bool:
    """Return whether the key, or a section or list that contains it, is in ``invalid_keys``."""
    return any(key == other or key.startswith((f"{other}.", f"{other}[")) for other in invalid_keys)


def _placed(finding: Finding, origins: Mapping[str, str], path: Path | None) -> ConfigIssue:
    """Return the finding as an issue at the line of its key, of its cause, or of the innermost section around it."""
    key, what, suggestion, cause = finding
    around = key if key in origins or cause is None else cause
    while around:
        if around in origins:
            return ConfigIssue(origins[around], key, what, suggestion)
        around = around[: max(around.rfind("."), around.rfind("["), 0)]
    return ConfigIssue(str(path) if path is not None else "the defaults", key, what, suggestion)


def _in_order(issues: list[ConfigIssue]) -> list[ConfigIssue]:
    """Return the issues without duplicates, sorted by line: the whole file first, the environment last."""

    def order(issue: ConfigIssue) -> tuple[bool, int]:
        line = issue.where.rpartition(":")[2]
        return issue.where.startswith(PREFIX), int(line) if line.isdigit() and len(line) < 9 else 0

    return sorted(dict.fromkeys(issues), key=order)
