"""``VOICE_AGENT_SECTION__KEY``: the environment variables that outrank the file."""

from __future__ import annotations

import re
from collections.abc import Mapping as Environment
from typing import Any

from agent.config.errors import ConfigIssue, suggestion
from agent.config.fields import Field, all_keys, shapes
from agent.config.validator import Checker, PartialConfig, merge
from agent.config.yaml_tree import Scalar, Tree, read_tree

PREFIX = "VOICE_AGENT_"

_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")


def variable(path: str) -> str:
    """The name of the variable that sets a dotted key."""
    return PREFIX + path.upper().replace(".", "__")


def read_environment(checker: Checker, root: Any, environ: Environment[str, str]) -> PartialConfig:
    """What the variables give, checked like the file; a value is written as in YAML, lists and sections in brackets. A
    variable of that prefix that belongs to no key is a mistake."""
    given: PartialConfig = {}
    names = sorted(name for name in environ if name.startswith(PREFIX))
    for name in sorted(names, key=lambda name: name.count("__")):  # a section first, so that a key of it outranks it
        found = _find(root, name)
        if found is None:
            meant = suggestion(name, [variable(dotted) for dotted, _ in all_keys(root)])
            what = f"unknown variable, expected {PREFIX}SECTION__KEY with a key of the configuration"
            checker.mistakes.append(ConfigIssue(name, "", what, meant))
            continue
        path, shape = found
        tree = _parse(checker, name, environ[name], shape)
        if tree is None:
            continue
        place: PartialConfig = {}
        checker.value(place, path[-1], shape, tree, ".".join(path))
        for section in reversed(path[:-1]):
            place = {section: place}
        given = merge(given, place)
    return given


def _parse(checker: Checker, name: str, text: str, shape: Field) -> Tree | None:
    text = text.encode("utf-8", "replace").decode("utf-8")  # bytes that are no text come as half characters
    if shape.kind in ("text", "secret") and _bare(text):
        null = shape.optional and text in ("", "null", "~")
        return Scalar(name, text, "null" if null else "str", plain=null)
    # What nobody could take for anything else needs no YAML, which takes longer to load than all other variables.
    if text in ("true", "false"):
        return Scalar(name, text, "bool", plain=True)
    if _WHOLE.fullmatch(text):
        return Scalar(name, text, "int", plain=True)
    tree, mistakes = read_tree(text, name, lines=False)
    checker.mistakes.extend(mistakes)
    if mistakes:
        return None
    if isinstance(tree, Scalar) and tree.plain and tree.commented:
        checker.mistakes.append(ConfigIssue(name, "", "a # begins a comment and cuts the value off: put it in quotes"))
        return None
    return tree if tree is not None else Scalar(name, "", "null", True)


def _bare(text: str) -> bool:
    """Whether a text can be taken as it stands: a shell has seen to the quotes already."""
    return not text.lstrip().startswith(('"', "'", "{", "["))


def _find(root: Any, name: str) -> tuple[list[str], Field] | None:
    cls, path = root, []
    parts = name[len(PREFIX) :].split("__")
    for depth, part in enumerate(parts):
        known = shapes(cls) if cls is not None else {}
        if part != part.upper() or part.lower() not in known:
            return None
        shape = known[part.lower()]
        path.append(part.lower())
        cls = shape.cls if shape.kind == "section" else None
        if depth == len(parts) - 1:
            return path, shape
    return None
