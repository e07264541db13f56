"""Defines the configuration sections of text to speech and of speech to text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

from agent.config.errors import Finding
from agent.config.fields import SectionGroup, group_key, key, section
from agent.config.rules import Url
from agent.config.secrets import Secret
from agent.services.registry import SERVICES, find, settings_class
from agent.system.named_tuple import NamedTuple

_ENGLISH_VOICES = ("flite:", "hibari:")
"""Prefixes of local voices that speak English only; the rest of their name is no language, unlike ``espeak:de``."""


@section
class TranscriptionSettings(NamedTuple):
    """Speech to text."""

    protocol: str = key(
        "websocket",
        "protocol of the service; wyoming is that of wyoming-faster-whisper and others, with a URL tcp://HOST:PORT",
        choices=("websocket", "wyoming"),
    )
    url: str = key("ws://127.0.0.1:8394/", "URL of the transcription service")
    api_key: Secret = key(
        lambda: Secret(credential="transcription"),
        "where the key is stored that begins a session; without a key none is sent",
    )
    dialect: str = key(
        "melvin",
        "how a session begins and ends: vosk sends the sample rate first, as vosk-server requires",
        choices=("melvin", "vosk"),
    )
    answer_seconds: float = key(
        30.0,
        "longest time without a message from a service that has audio to transcribe; the rest is reported as missing",
        low=1.0,
        high=600.0,
    )
    export_url: str | None = key(
        None, "REST base URL for exports, e.g. http://127.0.0.1:8393; null: exports are not fetched"
    )
    export_key: Secret = key(
        lambda: Secret(credential="transcription-export"), "key of the REST interface; without it api_key is sent"
    )
    export_directory: str | None = key(None, "directory for exports; null: the state directory")
    model: str = key("", "model of a Wyoming service; empty: its default")
    language: str = key("", "language of the speech for a Wyoming service, such as de; empty: its default")
    allow_plaintext: bool = key(False, "true: also ws:// and tcp:// to public hosts; others can read texts and keys")

    def urls(self) -> Iterator[Url]:
        """Yield the URLs that the settings use, with the schemes that each may have."""
        if self.protocol == "wyoming":
            yield Url("url", self.url, ("tcp",), "protocol")
        else:
            yield Url("url", self.url, ("wss", "ws"))
        if self.export_url is not None:
            yield Url("export_url", self.export_url, ("https", "http"))

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the export directory."""
        if self.export_directory is not None and not self.export_directory.startswith("/"):
            yield Finding("export_directory", "this is not an absolute path, expected one that begins with /")


@section
class TextSettings(NamedTuple):
    """How text becomes speech."""

    markdown: str = key(
        "strip",
        "markup in replies; strip: marks, addresses, code and tables are not spoken, keep: the voice gets them",
        choices=("strip", "keep"),
    )
    omitted: str = key("", "sentence in place of a block of code or a table; empty: none")
    language: str = key(
        "auto", "language whose abbreviations do not end a sentence, such as de; auto: guessed from each text"
    )

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the language."""
        if self.language != "auto" and not re.fullmatch(r"[a-z]{2,3}", self.language):
            yield Finding(
                "language", "this is no language, expected auto or a code of two or three letters such as en", "auto"
            )


@section
class PhraseSettings(NamedTuple):
    """Speech that is kept on disk."""

    enabled: bool = key(False, "true: what was spoken is kept, and the next time it needs no service")
    megabytes: int = key(100, "size of all phrases; the least recently used ones are deleted first", low=1, high=100000)
    services: tuple[str, ...] = key((), "services whose speech is kept; empty: all", choices=tuple(SERVICES))
    replies: bool = key(False, "true: also replies, which contain what the user talks about")


@section
class SynthesisSettings(NamedTuple):
    """Text to speech."""

    services: tuple[str, ...] = key(
        ("local",), "speech services in order; the next one speaks if one fails", choices=tuple(SERVICES), min_items=1
    )
    sections: Mapping[str, Any] = group_key(
        SectionGroup(tuple(SERVICES), settings_class, lambda synthesis: synthesis.services)
    )
    text: TextSettings = key(TextSettings, "how text becomes speech")
    phrases: PhraseSettings = key(PhraseSettings, "speech that is kept on disk")
    allow_plaintext: bool = key(False, "true: also ws:// and tcp:// to public hosts; others can read texts and keys")
    first_audio_seconds: float = key(
        10.0, "timeout for the first audio of an utterance, after which the next service is used", low=1.0, high=120.0
    )
    unavailable_text: str = key(
        "",
        "sentence, after a tone, when no speech service can speak, once for each outage; empty: in the language of the"
        " local voice",
    )

    @property
    def language(self) -> str:
        """The configured language of the texts (ISO 639); with ``auto``, the language of the local voice."""
        if self.text.language != "auto":
            return self.text.language
        voice = str(self.settings("local").voice)
        return "en" if voice.startswith(_ENGLISH_VOICES) else voice.rpartition(":")[2][:2]

    def settings(self, name: str) -> Any:
        """Return the section of a service, by default with the default values. Imports the service."""
        return self.sections[name] if name in self.sections else settings_class(name)()

    def urls(self) -> Iterator[Url]:
        """Yield the URLs of the services that have a section or are used."""
        for name in self._relevant():
            service = find(name)
            url = service.url(self.settings(name))
            if url is not None:
                yield Url(f"{name}.{service.url_key}", url, service.url_schemes)

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the section ``text``, and in the sections of all services that have one or are used."""
        for finding in self.text.check():
            yield finding.below("text")
        for name in self._relevant():
            service, settings = find(name), self.settings(name)
            for finding in service.check(settings):
                yield finding.below(name)
            for finding in service.check_used(settings) if name in self.services else ():
                yield Finding(f"{name}.{finding.key}", finding.what, finding.suggestion, "services")

    def _relevant(self) -> dict[str, None]:
        return dict.fromkeys((*self.sections, *self.services))

    @property
    def uses_own_server(self) -> bool:
        """Whether a used service has no URL. The daemon starts its own speech server for such a service."""
        return any(find(name).url(self.settings(name)) is None for name in self.services)

    def secrets(self) -> list[Secret]:
        """Return the API keys of the used services."""
        return [self.settings(name).api_key for name in self.services if find(name).has_key]

    def voice_key(self, name: str) -> str:
        """Return the name of the configuration key that holds the voice of a service."""
        return "voice" if hasattr(self.settings(name), "voice") else "reference_id"

    def voice(self, name: str) -> str:
        """Return the configured voice of a service; empty for the default voice."""
        return str(getattr(self.settings(name), self.voice_key(name), None) or "")

    def with_voice(self, name: str, voice: str) -> Self:
        """Return a copy in which a service has another voice."""
        return self.with_settings(name, self.settings(name)._replace(**{self.voice_key(name): voice}))

    def with_settings(self, name: str, settings: Any) -> Self:
        """Return a copy in which a service has another section."""
        return self._replace(sections={**self.sections, name: settings})
