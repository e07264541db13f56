"""The shape of the configuration: frozen dataclasses whose defaults are the only defaults there are, and they run.

A field's ``metadata`` holds what the checker and the JSON Schema need: ``about`` (one line for users), ``low`` and
``high`` (inclusive bounds), ``choices``, ``least`` (how many items a list needs). A field of type ``Secret`` never
shows its value.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.config.fields import key
from agent.pipeline.responders.settings import Command as Command
from agent.pipeline.responders.settings import OpenAI as OpenAI
from agent.pipeline.responders.settings import Responder as Responder
from agent.pipeline.responders.settings import Rule as Rule
from agent.pipeline.responders.settings import Webhook as Webhook
from agent.services.settings import Fish as Fish
from agent.services.settings import FishProsody as FishProsody
from agent.services.settings import FishReference as FishReference
from agent.services.settings import Local as Local
from agent.services.settings import Neuphonic as Neuphonic
from agent.services.settings import PlayAI as PlayAI
from agent.services.settings import Synthesis as Synthesis
from agent.services.settings import Transcription as Transcription
from agent.services.settings import Vachana as Vachana
from agent.services.settings import VachanaAudio as VachanaAudio


@dataclass(frozen=True)
class Microphone:
    """Where sound comes from."""

    device: str = key("default", "default | an ALSA name | part of a card's name | file:PATH.wav | none")
    frame_seconds: float = key(
        0.1, "how much sound one message to the transcription service carries", low=0.1, high=1.0
    )
    pre_roll_seconds: float = key(
        0.5, "what was heard before speech was noticed and is sent with it", low=0.0, high=5.0
    )
    outage_seconds: float = key(
        30.0, "how much speech is kept while the transcription service is away", low=1.0, high=600.0
    )


@dataclass(frozen=True)
class Speaker:
    """Where sound goes to."""

    device: str = key("default", "as for the microphone; file:PATH.wav records")
    volume: int = key(100, "loudness in percent", low=0, high=100)
    period_seconds: float = key(0.02, "one write to the card", low=0.005, high=0.2)
    buffer_seconds: float = key(0.1, "how much sound the card itself holds", low=0.02, high=2.0)
    prebuffer_seconds: float = key(
        0.1, "how long an utterance gathers before it starts, until it is known how its sound comes", low=0.0, high=5.0
    )
    prebuffer_most_seconds: float = key(3.0, "the longest that sound is waited for on purpose", low=0.0, high=30.0)
    wake_seconds: float = key(
        0.0, "silence played first, for a card that swallows the first syllable", low=0.0, high=5.0
    )


@dataclass(frozen=True)
class Conversation:
    """How turns are taken."""

    mode: str = key(
        "assistant",
        "assistant: listen, answer | captions: listen only, without end | announce: speak only",
        choices=("assistant", "captions", "announce"),
    )
    listen_while_speaking: bool = key(False, "keep the microphone open while the device speaks (needs echo cancelling)")
    silence_seconds: float = key(0.7, "how long a pause ends a turn", low=0.2, high=5.0)
    turn_seconds: float = key(30.0, "the longest turn; then it is ended as if a pause had come", low=2.0, high=600.0)
    vad: str = key(
        "auto", "auto | energy | webrtc: how speech is told from noise", choices=("auto", "energy", "webrtc")
    )
    answer_timeout_seconds: float = key(20.0, "how long the first word of an answer may take", low=1.0, high=600.0)


@dataclass(frozen=True)
class Server:
    """The local speech server."""

    start: str | bool = key("auto", "auto: when something above is local | true | false", choices=("auto", True, False))
    host: str = key("127.0.0.1", "address it listens on")
    port: int = key(8394, "port it listens on, as in transcription.url; 0: any free one", low=0, high=65535)
    speech: str = key("auto", "engine that speaks", choices=("auto", "flite", "espeak", "tone"))
    recognition: str = key("auto", "engine that recognises", choices=("auto", "moonshine", "vosk", "script", "none"))
    model_path: str | None = key(None, "directory of a vosk model")
    script: str | None = key(None, "file with the transcript that the script engine gives")


@dataclass(frozen=True)
class Control:
    """The control socket."""

    socket: str = key("auto", "path of the control socket; auto: in the run directory; none: no socket")


@dataclass(frozen=True)
class Logging:
    """The log."""

    level: str = key("info", "debug | info | warning | error", choices=("debug", "info", "warning", "error"))
    transcripts: bool = key(False, "write into the log what was heard and said")


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    microphone: Microphone = key(Microphone, "where sound comes from")
    speaker: Speaker = key(Speaker, "where sound goes to")
    conversation: Conversation = key(Conversation, "how turns are taken")
    transcription: Transcription = key(Transcription, "speech to text")
    synthesis: Synthesis = key(Synthesis, "text to speech")
    responder: Responder = key(Responder, "who answers")
    server: Server = key(Server, "the local speech server")
    control: Control = key(Control, "the control socket")
    shutdown_seconds: float = key(8.0, "how long an orderly end may take", low=1.0, high=120.0)
    logging: Logging = key(Logging, "the log")
