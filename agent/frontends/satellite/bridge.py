"""Connects the stages of the daemon with the pipeline of Home Assistant, as a protocol object without sockets.

Source: the package ``wyoming`` 1.10.2 and Home Assistant 2024.3 (``components/wyoming/satellite.py``).
"""

from __future__ import annotations

from agent.services.protocols.wyoming_event import WyomingEvent, encode_event
from agent.services.protocols.wyoming_server import encode_info
from agent.system.distinct import distinct
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

MAX_AUDIO_BYTES = 32 * 1024 * 1024
"""Maximum size of the audio of one reply or announcement: three minutes of s16le at 48 kHz in stereo. Further audio is
dropped. It is also the limit for all announcements that wait."""

MAX_TIMERS = 100
MAX_TEXT_CHARACTERS = 20000

ANNOUNCEMENT = "Home Assistant announcement"
"""Beginning of the text that stands for an announcement; a number follows. Home Assistant sends only the audio of an
announcement, but an utterance of the daemon needs a text."""


@distinct
class Send(NamedTuple):
    """Send an event to a connection. Immutable."""

    connection: int
    message: bytes


@distinct
class CloseConnection(NamedTuple):
    """Close a connection after all messages to it are sent. Immutable."""

    connection: int


@distinct
class Say(NamedTuple):
    """Speak a text; ``is_timer``: a timer has finished. Immutable."""

    text: str
    is_timer: bool = False


Action = Send | CloseConnection | Say


class _Speech:
    """The audio of one reply or announcement. Not thread-safe; owned by the bridge."""

    def __init__(self, text: str, *, is_announcement: bool = False) -> None:
        self.words, self.is_announcement = _words(text), is_announcement
        self.events: list[bytes] = []  # encoded audio events that are not sent to the synthesizer yet
        self.size = 0  # bytes of audio
        self.is_complete = False
        self.voice: int | None = None  # the connection of the synthesizer that gets the audio
        self.is_taken = False  # a synthesizer has asked for the audio
        self.owed_stops = 0  # number of further passages of the text; each gets only an audio-stop, after the audio


class Bridge:
    """Answers the events of all connections. Not thread-safe; owned by the satellite thread.

    The connection that has sent ``run-satellite`` is that of Home Assistant. The other connections are those of the
    stages of the daemon, which use the satellite as their services:

    - The recognizer sends ``transcribe``, which begins a pipeline, then the audio of the user.
    - The responder sends ``transcript`` to ask for the text of the reply, as from a ``handle`` service.
    - The synthesizer sends ``synthesize`` to ask for the audio of that text.

    Only connections from this machine may send these events.

    Args:
        name: Name of the device.
        area: Area of the device in Home Assistant; empty without one.
        version: Version of this program.
        wake_words: Wake words that the device listens for.
    """

    def __init__(self, name: str, area: str, version: str, wake_words: tuple[str, ...] = ()) -> None:
        self._info = _info(name, area, version, wake_words)
        self._assistant: int | None = None  # the connection of Home Assistant
        self._recognizer: int | None = None  # the connection of the recognizer that sends audio
        self._has_transcript = False  # the recognizer has received the transcript of its audio
        self._responder: int | None = None  # the connection of the responder that waits for the reply
        self._is_running = False  # Home Assistant has recognized words, and the responder has not received the reply
        self._reply: str | None = None
        self._speech: _Speech | None = None  # the newest reply or announcement
        self._waiting: list[_Speech] = []  # earlier announcements that the synthesizer has not asked for yet
        self._announcements = 0
        self._wake_word: str | None = None  # for the next pipeline
        self._timers: dict[str, str] = {}  # the name of each timer of Home Assistant, by its id

    @property
    def has_assistant(self) -> bool:
        """Whether Home Assistant is connected."""
        return self._assistant is not None

    def handle_woken(self, word: str) -> list[Action]:
        """Return the actions for a wake word.

        The wake word belongs to the current pipeline or to the next one. Both orders occur, because the wake word and
        the audio are reported by different threads.
        """
        if self._recognizer is not None and not self._has_transcript:
            return self._to_assistant("detection", {"name": word})
        self._wake_word = word
        return []

    def handle_played(self) -> list[Action]:
        """Return the actions for the end of an utterance whose audio came from Home Assistant."""
        if self._speech is None or not self._speech.is_taken:
            return []
        self._speech = None
        return self._to_assistant("played")

    def handle_closed(self, connection: int) -> list[Action]:
        """Return the actions for the end of a connection."""
        if connection == self._assistant:
            self._assistant = None
            return self._fail("Home Assistant has disconnected")
        if connection == self._recognizer:
            self._recognizer = None
            return [] if self._has_transcript else self._to_assistant("audio-stop")
        if connection == self._responder:
            self._responder = None
        if self._speech is not None and connection == self._speech.voice:
            self._speech.voice = None
        return []

    def receive(self, connection: int, event: WyomingEvent, *, is_local: bool) -> list[Action]:
        """Return the actions for an event. Never raises.

        Args:
            connection: The connection that sent the event.
            event: The event.
            is_local: Whether the connection comes from this machine.
        """
        if event.type == "describe":
            return [Send(connection, self._info)]
        if event.type == "ping":
            return [Send(connection, encode_event("pong", {"text": _text(event) or None}))]
        if event.type == "run-satellite":
            return self._connect(connection)
        if connection == self._assistant:
            return self._receive_from_assistant(event)
        if not is_local:
            return []
        match event.type:
            case "transcribe":
                return self._begin(connection)
            case "audio-start" | "audio-chunk" | "audio-stop":
                return self._listen(connection, event)
            case "transcript":
                return self._ask(connection)
            case "synthesize":
                return self._speak(connection, _text(event))
        return []

    # --- Home Assistant

    def _connect(self, connection: int) -> list[Action]:
        before, self._assistant = self._assistant, connection
        if before in (None, connection):
            return []
        assert before is not None
        return [*self._fail("Home Assistant has connected again"), CloseConnection(before)]

    def _receive_from_assistant(self, event: WyomingEvent) -> list[Action]:
        match event.type:
            case "pause-satellite":
                self._assistant = None
                return self._fail("the satellite is paused")
            case "transcript":
                return self._hear(_text(event))
            case "synthesize":
                self._reply = _text(event)
                self._replace_speech(_Speech(self._reply))
                return self._answer()
            case "audio-start":
                return self._begin_audio(event)
            case "audio-chunk" | "audio-stop":
                return self._add_audio(event)
            case "error":
                # For example, no words were recognized. The text of the error is written for developers, so it is not
                # passed to the recognizer.
                return self._fail(_text(event), is_silent=True)
            case "timer-started":
                if len(self._timers) < MAX_TIMERS:
                    name = event.data.get("name")
                    self._timers[str(event.data.get("id"))] = name if isinstance(name, str) else ""
            case "timer-cancelled":
                self._timers.pop(str(event.data.get("id")), None)
            case "timer-finished":
                name = self._timers.pop(str(event.data.get("id")), "")
                return [Say(f"Timer {fix_surrogates(name)[:200]}".strip() + ".", is_timer=True)]
        return []

    def _hear(self, text: str) -> list[Action]:
        if self._recognizer is None or self._has_transcript:
            return []
        self._has_transcript = True
        self._is_running = bool(text.strip())
        return [Send(self._recognizer, encode_event("transcript", {"text": text}))]

    def _begin_audio(self, event: WyomingEvent) -> list[Action]:
        actions: list[Action] = []
        if self._speech is None or self._speech.is_complete:
            self._announcements += 1
            text = f"{ANNOUNCEMENT} {self._announcements}"
            self._replace_speech(_Speech(text, is_announcement=True))
            actions.append(Say(text))
        return [*actions, *self._add_audio(event)]

    def _replace_speech(self, speech: _Speech) -> None:
        """Make a speech the current one. Keep the previous one if it is an announcement that is still in the queue."""
        before, self._speech = self._speech, speech
        if before is not None and before.is_announcement and not before.is_taken:
            self._waiting.append(before)
        while sum(each.size for each in self._waiting) > MAX_AUDIO_BYTES:
            del self._waiting[0]

    def _add_audio(self, event: WyomingEvent) -> list[Action]:
        speech = self._speech
        if speech is None or speech.is_complete:
            return []
        speech.size += len(event.payload)
        if speech.size > MAX_AUDIO_BYTES and event.type == "audio-chunk":
            return []
        speech.is_complete = event.type == "audio-stop"
        speech.events.append(encode_event(event.type, event.data, event.payload))
        return self._flush(speech)

    def _flush(self, speech: _Speech) -> list[Action]:
        if speech.voice is None:
            return []
        events, speech.events = speech.events, []
        if speech.is_complete:
            events += [encode_event("audio-stop")] * speech.owed_stops
            speech.owed_stops = 0
        return [Send(speech.voice, event) for event in events]

    def _fail(self, reason: str, *, is_silent: bool = False) -> list[Action]:
        """End the pipeline without a transcript and without a reply.

        Args:
            reason: The error for the stages that wait.
            is_silent: Whether the recognizer gets an empty transcript instead of an error.
        """
        actions: list[Action] = []
        if self._recognizer is not None and not self._has_transcript:
            self._has_transcript = True
            event = encode_event("transcript", {"text": ""}) if is_silent else _error(reason)
            actions.append(Send(self._recognizer, event))
        self._is_running = False
        if self._responder is not None:
            actions.append(Send(self._responder, _error(reason)))
            self._responder = None
        if self._speech is not None and not self._speech.is_complete and self._speech.voice is not None:
            actions.append(CloseConnection(self._speech.voice))
        return actions

    # --- the stages

    def _begin(self, connection: int) -> list[Action]:
        if self._assistant is None:
            return [Send(connection, _error("Home Assistant is not connected"))]
        self._recognizer, self._has_transcript = connection, False
        self._reply, self._responder, self._is_running = None, None, False
        word, self._wake_word = self._wake_word, None
        request = {"start_stage": "asr", "end_stage": "tts", "restart_on_end": False}
        actions = self._to_assistant("detection", {"name": word}) if word else []
        actions += self._to_assistant("run-pipeline", request | ({"wake_word_name": word} if word else {}))
        return [*actions, *self._to_assistant("streaming-started")]

    def _listen(self, connection: int, event: WyomingEvent) -> list[Action]:
        if connection != self._recognizer:
            return []
        actions: list[Action] = []
        if not self._has_transcript:  # Home Assistant may detect the end of speech before the daemon does
            actions += self._to_assistant(event.type, dict(event.data), event.payload)
        if event.type == "audio-stop":
            actions += self._to_assistant("streaming-stopped")
            actions += [CloseConnection(connection)] if self._has_transcript else []
        return actions

    def _ask(self, connection: int) -> list[Action]:
        self._responder = connection
        if not self._is_running and self._reply is None:
            self._reply = ""
        return self._answer()

    def _answer(self) -> list[Action]:
        if self._responder is None or self._reply is None:
            return []
        answer = Send(self._responder, encode_event("handled", {"text": self._reply}))
        self._responder, self._reply, self._is_running = None, None, False
        return [answer]

    def _speak(self, connection: int, text: str) -> list[Action]:
        words = _words(text)
        if (waiting := next((each for each in self._waiting if each.words == words), None)) is not None:
            self._waiting.remove(waiting)
            self._replace_speech(waiting)
        speech = self._speech
        if speech is None or not words or words not in speech.words:
            return [Send(connection, _error("this text is not from Home Assistant"))]
        if speech.is_taken:  # a further passage of this text: the first passage gets the whole audio
            speech.owed_stops += 1
        speech.voice, speech.is_taken = connection, True
        return self._flush(speech)

    def _to_assistant(self, type: str, data: dict[str, object] | None = None, payload: bytes = b"") -> list[Action]:
        return [] if self._assistant is None else [Send(self._assistant, encode_event(type, data, payload))]


def _info(name: str, area: str, version: str, wake_words: tuple[str, ...]) -> bytes:
    def artifact(about: str, **fields: object) -> dict[str, object]:
        attribution = {"name": "voice-agent", "url": "https://github.com/voice-agent/voice-agent"}
        common = {"name": "voice-agent", "description": about, "attribution": attribution}
        return {**common, "installed": True, "version": version, **fields}

    satellite = artifact(
        "voice-agent",
        name=name,
        area=area or None,
        has_vad=True,
        active_wake_words=list(wake_words),
        max_active_wake_words=len(wake_words),
        supports_trigger=False,
    )
    any_language: list[str] = []
    models = [artifact("wake word", name=word, languages=any_language, phrase=word) for word in wake_words]
    return encode_info(
        satellite=satellite,
        asr=[artifact("the pipeline", models=[])],
        tts=[artifact("the pipeline", voices=[])],
        wake=[artifact("wake words", models=models)] if models else [],
    )


def _error(text: str) -> bytes:
    return encode_event("error", {"text": text})


def _text(event: WyomingEvent) -> str:
    text = event.data.get("text")
    return fix_surrogates(text)[:MAX_TEXT_CHARACTERS] if isinstance(text, str) else ""


def _words(text: str) -> str:
    """Return the letters and digits of a text, to find the text of a passage, whose spaces and markup may differ."""
    return "".join(filter(str.isalnum, text.casefold()))
