"""Reads the environment variables ``VOICE_AGENT_SECTION__KEY``, which override the configuration file."""

from __future__ import annotations

import re
from collections.abc import Mapping as Environment
from typing import Any

from agent.config.errors import ConfigIssue, suggestion
from agent.config.fields import Field, all_keys, fields_of
from agent.config.tree import Scalar, Sequence, Tree
from agent.config.validator import PartialConfig, Validator, merge

PREFIX = "VOICE_AGENT_"
EVENT_PREFIX = f"{PREFIX}EVENT"
"""Prefix of the variables that the daemon passes to the commands of hooks. These variables set no key."""

_OF_CONTAINERS = r"SERVICE_(HOST|PORT(_\w+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
_INTEGER = r"0|[1-9][0-9]{0,17}"


def variable(path: str) -> str:
    """Return the name of the variable that sets a dotted key."""
    return PREFIX + path.upper().replace(".", "__")


def read_environment(validator: Validator, root: Any, environ: Environment[str, str]) -> PartialConfig:
    """Return the values that the variables set, with the same checks as for the file.

    A value is written in YAML, with lists and sections in brackets. The items of a list may also be separated by commas
    without brackets. A variable with the prefix that sets no key becomes an issue of ``validator``, or a warning if a
    container system sets it.
    """
    values: PartialConfig = {}
    names = sorted(name for name in environ if name.startswith(PREFIX) and not name.startswith(EVENT_PREFIX))
    if foreign := [name for name in names if _find(root, name) is None and _is_of_container(name, environ[name])]:
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        what = f"the variable{more} is ignored: container systems set it for a service with the name voice-agent"
        validator.warnings.append(ConfigIssue(foreign[0], "", what))
        names = [name for name in names if name not in foreign]
    for name in sorted(names, key=lambda name: name.count("__")):  # sections first: their keys override them
        target = _find(root, name)
        if target is None:
            hint = suggestion(name, [variable(dotted) for dotted, _ in all_keys(root)])
            what = f"unknown variable, expected {PREFIX}SECTION__KEY with a key of the configuration"
            validator.issues.append(ConfigIssue(name, "", what, hint))
            continue
        path, field = target
        tree = _parse(validator, name, environ[name], field)
        if tree is None:
            continue
        partial: PartialConfig = {}
        validator.value(partial, path[-1], field, tree, ".".join(path))
        for section in reversed(path[:-1]):
            partial = {section: partial}
        values = merge(values, partial)
    return values


def _parse(validator: Validator, name: str, text: str, field: Field) -> Tree | None:
    text = text.encode("utf-8", "replace").decode("utf-8")  # os.environ has surrogates for bytes that are not UTF-8
    if field.kind == "str" and not _is_quoted(text) or field.kind == "secret" and _is_bare(text):
        is_null = field.is_optional and text in ("", "null", "~")
        return Scalar(name, text, "null" if is_null else "str", is_plain=is_null)
    if (
        field.kind in ("strings", "ints")
        and text.strip() not in ("", "null", "~")
        and _is_bare(text)
        and "\n" not in text
    ):
        items = text.strip().removesuffix(",").split(",")
        return Sequence(name, [Scalar(name, item.strip(), "str", is_plain=True) for item in items])
    if field.kind == "strings" and text.lstrip().startswith(('"', "'")):
        text = f"[{text}]"
    # These values need no YAML parser. Its import takes longer than all other work here.
    if text in ("true", "false"):
        return Scalar(name, text, "bool", is_plain=True)
    if re.fullmatch(_INTEGER, text):
        return Scalar(name, text, "int", is_plain=True)
    from agent.config.yaml_tree import read_tree

    tree, issues = read_tree(text, name, has_lines=False)
    validator.issues.extend(issues)
    if issues:
        return None
    if isinstance(tree, Scalar) and tree.is_plain and tree.has_comment:
        what = "a # begins a comment and truncates the value: put it in quotes"
        validator.issues.append(ConfigIssue(name, "", what))
        return None
    return tree if tree is not None else Scalar(name, "", "null", True)


def _is_of_container(name: str, value: str) -> bool:
    """Return whether a container system sets this variable for a service whose name begins with ``voice-agent``.

    Source: Kubernetes documentation, "Service", "Environment variables"; Docker uses the same names for legacy links.
    """
    is_address = name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    return is_address or re.search(_OF_CONTAINERS, name[len(PREFIX) :]) is not None


def _is_bare(text: str) -> bool:
    """Return whether a text begins without a YAML quote or bracket. The shell has already removed its own quotes."""
    return not text.lstrip().startswith(('"', "'", "{", "["))


def _is_quoted(text: str) -> bool:
    """Return whether a text is enclosed in YAML quotes."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def _find(root: Any, name: str) -> tuple[list[str], Field] | None:
    cls, path = root, []
    parts = name[len(PREFIX) :].split("__")
    for depth, part in enumerate(parts):
        fields = fields_of(cls) if cls is not None else {}
        if part != part.upper() or part.lower() not in fields:
            return None
        field = fields[part.lower()]
        path.append(part.lower())
        cls = field.cls if field.kind == "section" else None
        if depth == len(parts) - 1:
            return path, field
    return None
