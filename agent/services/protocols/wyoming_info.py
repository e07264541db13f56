"""Reads the ``info`` of a Wyoming server: its programs with their models, voices and languages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.services.protocols.parsing import excerpt
from agent.services.protocols.wyoming_event import EventError, decode_event
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

_MAX_PROGRAMS, _MAX_MODELS = 100, 10000
_MAX_NAMED = 8


class InfoError(ValueError):
    """An ``info`` that cannot be used.

    Args:
        received: What the server has sent, or what it offers.
        expected: What is expected instead.
        is_permanent: Whether a retry with the same settings is useless.
    """

    def __init__(self, received: str, expected: str, is_permanent: bool = True) -> None:
        super().__init__(f"{received}; expected {expected}")
        self.received, self.expected, self.is_permanent = received, expected, is_permanent


class ModelInfo(NamedTuple):
    """A voice or a model, with its languages. Immutable."""

    name: str
    languages: tuple[str, ...]


class Program(NamedTuple):
    """A program of the server. Immutable.

    ``can_stream``: the program accepts text, or sends transcripts, in pieces.
    """

    name: str
    models: tuple[ModelInfo, ...]
    can_stream: bool

    @property
    def languages(self) -> list[str]:
        """The languages of all models, without duplicates."""
        return list(dict.fromkeys(language for model in self.models for language in model.languages))

    def has_model(self, name: str) -> bool:
        """Return whether the program has a model of that name."""
        return any(model.name == name for model in self.models)

    def supports_language(self, language: str) -> bool:
        """Return whether a model supports the language. A model that lists no languages supports all."""
        return any(not model.languages or matches(language, model.languages) for model in self.models)

    def model_for(self, language: str) -> str | None:
        """Return the name of the first model that lists the language; ``None`` if there is none."""
        return next((model.name for model in self.models if matches(language, model.languages)), None)


class Info(NamedTuple):
    """The programs of a server, by kind. Immutable."""

    tts: tuple[Program, ...]
    asr: tuple[Program, ...]
    wake: tuple[Program, ...] = ()


def read_info(message: bytes) -> Info:
    """Decode an ``info`` event (``wyoming/info.py``). Models that are not installed are omitted, unless none
    is installed.

    Raises:
        InfoError: The message is not an ``info`` event.
    """
    try:
        event = decode_event(message)
    except EventError as error:
        raise InfoError(excerpt(message), f"an info event ({error})", is_permanent=False) from error
    if event.type != "info":
        raise InfoError(f"the event {excerpt(event.type)}", "an info event", is_permanent=False)
    return Info(
        _programs(event.data.get("tts"), "voices", "supports_synthesize_streaming"),
        _programs(event.data.get("asr"), "models", "supports_transcript_streaming"),
        _programs(event.data.get("wake"), "models", ""),
    )


def matches(language: str, languages: Iterable[str]) -> bool:
    """Return whether a language matches one of ``languages``.

    ``de`` matches ``de``, ``de_DE`` and so on. ``de-AT`` matches ``de-AT`` and ``de``, but not ``de_DE``.
    """
    wanted = _normalized(language)
    for each in map(_normalized, languages):
        if each == wanted or each.startswith(f"{wanted}-") or wanted.startswith(f"{each}-"):
            return True
    return False


def name_some(names: Sequence[str]) -> str:
    """Return the first names of a list in quotes, and how many more there are."""
    unique = list(dict.fromkeys(names))
    shown = ", ".join(excerpt(name) for name in unique[:_MAX_NAMED])
    return f"{shown} and {len(unique) - _MAX_NAMED} more" if len(unique) > _MAX_NAMED else shown or "(none)"


def _normalized(language: str) -> str:
    return language.strip().lower().replace("_", "-")


def _programs(value: object, models_key: str, streaming_key: str) -> tuple[Program, ...]:
    programs: list[Program] = []
    for each in value[:_MAX_PROGRAMS] if isinstance(value, list) else ():
        if isinstance(each, dict) and each.get("installed") is not False:
            models = _models(each.get(models_key))
            programs.append(Program(_text(each.get("name")), models, each.get(streaming_key) is True))
    return tuple(programs)


def _models(value: object) -> tuple[ModelInfo, ...]:
    entries = [each for each in value[:_MAX_MODELS] if isinstance(each, dict)] if isinstance(value, list) else []
    # wyoming-piper also lists voices that it can download; these are not installed and follow the installed ones.
    installed = [each for each in entries if each.get("installed") is not False]
    models: list[ModelInfo] = []
    for each in installed or entries:
        languages = each.get("languages")
        texts = tuple(map(_text, languages)) if isinstance(languages, list) else ()
        models.append(ModelInfo(_text(each.get("name")), texts))
    return tuple(models)


def _text(value: object) -> str:
    return fix_surrogates(value) if isinstance(value, str) else ""
