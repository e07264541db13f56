"""The house stands: every module on its floor, every library behind its doorway, nothing too big or of a bad habit."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

AGENT = Path(__file__).parent.parent / "agent"

# From the ground up. A module imports from floors below its own and from its own room; each tuple is a room.
FLOORS: list[list[tuple[str, ...]]] = [
    [
        (
            "agent",
            "events",
            "threads",
            "errors",
            "patience",
            "records",
            "safe",
            "sentences",
            "turns",
            "texts",
            "signals",
        ),
        ("drafts",),
        ("authorities",),
        ("house",),
    ],
    [("protocols",), ("audio",), ("config",), ("service",)],
    [
        ("connection",),
        ("control",),
        ("masking",),
        ("supervisor", "watchdog", "standstill"),
        ("conversation", "announcements", "condition", "frontend"),
        ("absence",),
        ("captions",),
        ("shares",),
        ("journal",),
        ("line",),
        ("levels",),
        ("remarks",),
    ],
    [
        ("microphone",),
        ("recognizer", "hearing", "stretch"),
        ("responder", "responders"),
        ("synthesizer", "job", "lineup", "speech", "passages", "orders"),
        ("speaker", "lasting_sink", "prebuffer"),
        ("services", "grants"),
        ("exports",),
        ("local_server",),
    ],
    [("server",), ("frontends.control",), ("frontends.mqtt",), ("frontends.gpio",), ("frontends",)],
    [("__main__", "cli", "streams", "daemon", "hands", "assembly", "reload", "doctor", "commands")],
]

# Who may import which library. Those of LATE are imported only by those who use them, when they use them.
DOORWAYS: dict[str, tuple[str, ...]] = {
    "websocket": ("connection",),
    "pyaudio": ("audio",),
    "webrtcvad": ("audio",),
    "msgpack": ("protocols.fish",),
    "systemd": ("service",),
    "yaml": ("config",),
    "websockets": ("server",),
    "moonshine_voice": ("server",),
    "vosk": ("server",),
    "requests": ("line", "responders", "exports"),
    "urllib3": ("line", "responders"),
}
LATE = frozenset({"pyaudio", "webrtcvad", "moonshine_voice", "vosk", "requests", "urllib3", "systemd"})

LONGEST_MODULE = 350


class Module:
    def __init__(self, path: Path) -> None:
        parts = path.relative_to(AGENT).with_suffix("").parts
        self.path = path
        self.name = ".".join(part for part in parts if part != "__init__") or "agent"
        self.package = parts[:-1]
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text)

    def line(self, node: ast.AST) -> str:
        number = getattr(node, "lineno", 1)
        return f"agent/{self.path.relative_to(AGENT)}:{number}: {self.text.splitlines()[number - 1].strip()}"

    def imports(self) -> Iterator[tuple[ast.stmt, str, bool]]:
        """Each import: where, the whole dotted name, and whether it runs as the module is loaded."""
        inside = {id(node) for part in ast.walk(self.tree) if isinstance(part, _LATER) for node in ast.walk(part)}
        for part in ast.walk(self.tree):
            if isinstance(part, ast.If) and "TYPE_CHECKING" in ast.unparse(part.test):
                inside |= {id(node) for child in part.body for node in ast.walk(child)}
        for node in ast.walk(self.tree):
            early = id(node) not in inside
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node, alias.name, early
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                if node.level:
                    above = ("agent", *self.package)[: len(self.package) + 2 - node.level]
                    origin = ".".join((*above, origin)).rstrip(".")
                for alias in node.names:
                    yield node, f"{origin}.{alias.name}", early


_LATER = ast.FunctionDef | ast.Lambda
MODULES = [Module(path) for path in sorted(AGENT.rglob("*.py"))]
NAMES = frozenset(module.name for module in MODULES)


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def place(name: str) -> tuple[int, tuple[str, ...]] | None:
    """The floor and the room of a module; the most exact name in the table counts."""
    found = [
        (len(member), floor, room)
        for floor, rooms in enumerate(FLOORS)
        for room in rooms
        for member in room
        if is_in(name, member)
    ]
    return max(found)[1:] if found else None


def target(name: str) -> str:
    """The module of ours that ``agent.a.b.thing`` names, without the ``agent.``"""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in NAMES:
        parts.pop()
    return ".".join(parts) or "agent"


def test_every_module_has_its_floor() -> None:
    assert [module.name for module in MODULES if place(module.name) is None] == []


def test_a_module_imports_only_from_floors_below_its_own_and_from_its_room() -> None:
    wrong = []
    for module in MODULES:
        here = place(module.name)
        for node, name, _ in module.imports():
            if here is None or not is_in(name, "agent"):
                continue
            there = place(target(name))
            if there is None or (there[0] >= here[0] and there != here):
                wrong.append(module.line(node))
    assert wrong == []


def test_a_library_has_one_doorway() -> None:
    wrong = []
    for module in MODULES:
        for node, name, _ in module.imports():
            library = name.split(".")[0]
            if library in sys.stdlib_module_names or library == "agent":
                continue
            if not any(is_in(module.name, door) for door in DOORWAYS.get(library, ())):
                wrong.append(module.line(node))
    assert wrong == []


def test_what_is_heavy_or_may_be_missing_is_imported_only_when_it_is_used() -> None:
    wrong = [
        module.line(node)
        for module in MODULES
        for node, name, early in module.imports()
        if early and name.split(".")[0] in LATE
    ]
    assert wrong == []


def test_no_module_is_too_long_to_be_read() -> None:
    lengths = {module.name: module.text.count("\n") for module in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_every_module_and_every_public_class_says_what_it_is() -> None:
    wrong = [module.name for module in MODULES if ast.get_docstring(module.tree) is None]
    for module in MODULES:
        if module.name == "config.model":
            continue  # its classes speak through the line that each key carries
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
                wrong.append(module.line(node))
    assert wrong == []


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "base", "manager", "common", "misc"])
def test_no_module_has_a_name_that_says_nothing(name: str) -> None:
    assert [module.name for module in MODULES if name in module.name.split(".")] == []


def test_nobody_sleeps_or_keeps_globals_or_acts_when_forgotten() -> None:
    wrong = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            dies_late = isinstance(node, ast.FunctionDef) and node.name == "__del__"
            if sleeps or dies_late or isinstance(node, ast.Global):
                wrong.append(module.line(node))
    assert wrong == []


def test_the_floors_would_be_noticed() -> None:
    """The test itself is tested: a wrong import, late or relative, is seen as what it is."""
    assert place("audio.ring") == (1, ("audio",))
    assert place("frontends.mqtt") != place("frontends.gpio")
    assert place("nowhere") is None
    assert target("agent.audio.ring.RingBuffer") == "audio.ring"
    module = Module(AGENT / "audio" / "ring.py")
    module.tree = ast.parse("from ..config import model\nfrom . import wav\ndef late():\n    import agent.speaker")
    assert [(name, early) for _, name, early in module.imports()] == [
        ("agent.config.model", True),
        ("agent.audio.wav", True),
        ("agent.speaker", False),
    ]
