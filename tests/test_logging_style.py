"""Every log call in the package has a constant message with ``%`` arguments, so that messages can be searched for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"debug": 0, "info": 0, "warning": 0, "error": 0, "exception": 0, "critical": 0, "log": 1}
"""The methods of a logger, and the position of the message in their arguments."""

WRAPPERS = {"agent/system/log.py"}
"""Modules that pass on the message of their caller. Their callers' messages are checked through REPEATED."""

REPEATED = {"warn": 0, "resolved": 0}
"""The methods of ``RepeatedWarning``, which take a message and its arguments."""


def log_calls(tree: ast.AST) -> Iterator[tuple[ast.Call, int]]:
    """Each log call, with the position of its message."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, receiver = node.func.attr, ast.unparse(node.func.value)
        if name in METHODS and (receiver.split(".")[-1].strip("_") in ("log", "logger") or "getLogger" in receiver):
            yield node, METHODS[name]
        elif name in REPEATED and node.args:
            yield node, REPEATED[name]


def mistakes(source: str) -> list[str]:
    """A sentence for each log call that does not follow the rule."""
    wrong = []
    for call, position in log_calls(ast.parse(source)):
        where = f"{call.lineno}: {ast.unparse(call)}"
        message = call.args[position] if position < len(call.args) else None
        if not isinstance(message, ast.Constant) or not isinstance(message.value, str):
            wrong.append(f"{where}: the message is not a constant")
        elif message.value == "%s" and isinstance(call.args[-1], ast.JoinedStr):
            wrong.append(f"{where}: the message is an f-string in disguise")
        elif (expected := placeholders(message.value)) != (number := len(call.args) - position - 1) and not any(
            isinstance(each, ast.Starred) for each in call.args
        ):
            wrong.append(f"{where}: {expected} placeholders and {number} arguments")
    return wrong


def placeholders(message: str) -> int:
    return message.replace("%%", "").count("%")


PATHS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "agent").rglob("*.py"))]


@pytest.mark.parametrize("path", [path for path in PATHS if path not in WRAPPERS])
def test_log_messages_are_constants_with_percent_arguments(path: str) -> None:
    assert mistakes((ROOT / path).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "call",
    [
        'log.info(f"port {port}")',
        'log.info("port " + port)',
        'log.info("port %s" % port)',
        'log.info("%s", f"port {port}")',
        'log.log(10, f"port {port}")',
        'log.error("port %s of %s", port)',
        "self._log.warning(message, port)",
        'self._repeated.warn(f"port {port}")',
    ],
)
def test_other_messages_are_reported(call: str) -> None:
    assert len(mistakes(call)) == 1
    assert mistakes('log.log(10, "port %d, %5.1f %%", port, share)') == []
