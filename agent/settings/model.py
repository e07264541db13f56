"""The shape of the configuration: frozen dataclasses whose defaults are the only defaults there are, and they run.

A field's ``metadata`` holds what the checker and the JSON Schema need: ``about`` (one line for users), ``low`` and
``high`` (inclusive bounds), ``choices``, ``least`` (how many items a list needs). A field of type ``Secret`` never
shows its value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.config.secrets import Secret


def key(default: Any, about: str, **more: Any) -> Any:
    """One key of the configuration: its default, one line for users, and its bounds or choices."""
    metadata = {"about": about, **more}
    if isinstance(default, list | dict) or callable(default):
        made = default if callable(default) else lambda: type(default)(default)
        return field(default_factory=made, metadata=metadata)
    return field(default=default, metadata=metadata)


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
class Transcription:
    """Speech to text."""

    url: str = key("ws://127.0.0.1:8394/", "WebSocket address of the transcription service")
    api_key: Secret = key(lambda: Secret(credential="transcription"), "key, where the service wants one")
    dialect: str = key(
        "melvin",
        "melvin | vosk: how the end is said; vosk-server also has to be told the sample rate",
        choices=("melvin", "vosk"),
    )
    export_url: str | None = key(None, "REST base for the export, e.g. http://127.0.0.1:8393; null: not fetched")
    export_directory: str | None = key(None, "where exports are written; null: the state directory")
    allow_plaintext: bool = key(False, "allow ws:// to a host that is neither this one nor on a private network")


@dataclass(frozen=True)
class Neuphonic:
    """The service Neuphonic."""

    url: str = key("wss://eu-west-1.api.neuphonic.com/speak/en", "its address; the last part is the language")
    api_key: Secret = key(lambda: Secret(credential="neuphonic"), "its key")
    speed: float = key(1.0, "speed of the voice", low=0.7, high=2.5)
    temperature: float | None = key(0.5, "randomness of the voice; null: not sent", low=0.0, high=1.0)
    sampling_rate: int = key(22050, "samples a second, in Hz", choices=(8000, 16000, 22050, 24000, 32000, 44100, 48000))
    voice: str = key("", "voice id; empty: the language's own")


@dataclass(frozen=True)
class PlayAI:
    """The service PlayAI."""

    auth_url: str = key("https://api.play.ai/api/v1/tts/websocket-auth", "where a WebSocket address is asked for")
    api_key: Secret = key(lambda: Secret(credential="playai"), "its key")
    user_id: str = key("", "user id, sent as X-User-Id")
    model: str = key("Play3.0-mini", "which of the addresses is used")
    voice: str = key("", "voice id or URL")
    output_format: str = key("wav", "encoding of the sound", choices=("mp3", "wav", "raw", "pcm", "mulaw", "ogg"))
    sample_rate: int = key(24000, "samples a second, in Hz", low=8000, high=48000)
    speed: float = key(1.0, "speed of the voice", low=0.5, high=2.0)
    temperature: float | None = key(None, "randomness; null: not sent", low=0.0, high=1.0)


@dataclass(frozen=True)
class VachanaAudio:
    """The sound that Vachana is asked for."""

    sample_rate: int = key(44100, "samples a second, in Hz", choices=(8000, 16000, 22050, 24000, 44100, 48000))
    num_channels: int = key(1, "how many channels", choices=(1, 2))
    sample_width: int = key(2, "bytes of a sample", choices=(1, 2))
    encoding: str = key(
        "linear_pcm", "encoding of the samples", choices=("linear_pcm", "oggopus", "pcm_mulaw", "pcm_alaw")
    )
    container: str = key(
        "wav", "what the samples come wrapped in", choices=("raw", "wav", "mp3", "ogg", "mulaw", "alaw")
    )


@dataclass(frozen=True)
class Vachana:
    """The service Vachana."""

    url: str = key("wss://api.vachana.ai/api/v1/tts", "its address")
    api_key: Secret = key(lambda: Secret(credential="vachana"), "its key")
    voice: str = key("Sia", "name of the voice")
    language: str = key("IND-IN", "language of the text")
    model: str = key("vachana-voice-v1", "which of its models speaks")
    speed: float | None = key(None, "speed of the voice; null: not sent", low=0.5, high=2.0)
    audio_config: VachanaAudio = key(VachanaAudio, "the sound that is asked for")


@dataclass(frozen=True)
class FishProsody:
    """Speed and volume of Fish Audio's voice."""

    speed: float = key(1.0, "speed of the voice", low=0.5, high=2.0)
    volume: float = key(0.0, "louder or softer, in dB", low=-20.0, high=20.0)


@dataclass(frozen=True)
class FishReference:
    """A recording of the voice that is to be imitated."""

    audio: str = key("", "path of a recording of the voice that is to be imitated")
    text: str = key("", "what is said in it")


@dataclass(frozen=True)
class Fish:
    """The service Fish Audio."""

    url: str = key("wss://api.fish.audio/v1/tts/live", "its address")
    api_key: Secret = key(lambda: Secret(credential="fish"), "its key")
    model: str = key("speech-1.5", "model, sent as a header")
    format: str = key("wav", "encoding of the sound", choices=("opus", "mp3", "wav", "pcm"))
    sample_rate: int | None = key(
        None,
        "Hz; null: the service's own (44100, opus 48000)",
        choices=(8000, 16000, 24000, 32000, 44100, 48000, None),
    )
    latency: str = key("normal", "normal | balanced | low", choices=("normal", "balanced", "low"))
    temperature: float = key(0.7, "randomness", low=0.0, high=1.0)
    top_p: float = key(0.7, "diversity", low=0.0, high=1.0)
    prosody: FishProsody = key(FishProsody, "speed and volume")
    reference_id: str | None = key(None, "a voice made before")
    references: tuple[FishReference, ...] = key((), "recordings of the voice that is to be imitated")


@dataclass(frozen=True)
class Local:
    """The local speech server as a service."""

    url: str | None = key(None, "address of a local speech server run by somebody else; null: the daemon's own")
    voice: str = key("en", "language or voice of the local engine, e.g. en, de, flite:slt, espeak:de")


@dataclass(frozen=True)
class Synthesis:
    """Text to speech."""

    services: tuple[str, ...] = key(
        ("local",),
        "tried in this order until one gives its first sound",
        choices=("neuphonic", "playai", "vachana", "fish", "local"),
        least=1,
    )
    neuphonic: Neuphonic = key(Neuphonic, "the service Neuphonic")
    playai: PlayAI = key(PlayAI, "the service PlayAI")
    vachana: Vachana = key(Vachana, "the service Vachana")
    fish: Fish = key(Fish, "the service Fish Audio")
    local: Local = key(Local, "the local speech server")
    allow_plaintext: bool = key(False, "allow ws:// to a host that is neither this one nor on a private network")
    first_audio_seconds: float = key(10.0, "how long a service may take for its first sound", low=1.0, high=120.0)


@dataclass(frozen=True)
class Rule:
    """What is answered to what."""

    pattern: str = key("", "regular expression, searched in what was heard, case ignored")
    reply: str = key("", "what is said; {time}, {date}, {weekday}, {heard} and the groups of the pattern are filled in")


def _rules() -> tuple[Rule, ...]:
    return (
        Rule(pattern=r"\bwhat time\b|\btime is it\b", reply="It is {time}."),
        Rule(pattern=r"\bwhat (day|date)\b|\bdate\b", reply="Today is {weekday}, {date}."),
        Rule(pattern=r"\b(hello|hi|good morning|good evening)\b", reply="Hello. How can I help you?"),
        Rule(pattern=r"\bthank(s| you)\b", reply="You are welcome."),
        Rule(pattern=r"\b(stop|be quiet|silence)\b", reply=""),
    )


@dataclass(frozen=True)
class OpenAI:
    """A chat service."""

    base_url: str = key("https://api.openai.com/v1", "base URL of any compatible service")
    api_key: Secret = key(lambda: Secret(credential="openai"), "key, where the service wants one")
    model: str = key("gpt-4o-mini", "which of its models answers")
    system: str = key(
        "You are a voice assistant. Answer in one or two short spoken sentences, without markup.",
        "what it is told before the first turn",
    )
    history_turns: int = key(6, "how many turns are remembered", low=0, high=100)
    max_tokens: int | None = key(None, "longest answer; null: the service's own", low=1, high=100000)


@dataclass(frozen=True)
class Webhook:
    """A program on the network."""

    url: str = key("", "gets a JSON POST {text, turn}; answers with text or JSON {text}")
    api_key: Secret = key(lambda: Secret(credential="webhook"), "sent as a Bearer token, where there is one")


@dataclass(frozen=True)
class Command:
    """A program on this machine."""

    argv: tuple[str, ...] = key((), "program and arguments; the heard text comes on its stdin, never through a shell")
    output_bytes: int = key(65536, "what it prints beyond this is cut off", low=1, high=1048576)


@dataclass(frozen=True)
class Responder:
    """Who answers."""

    kind: str = key("rules", "who answers", choices=("rules", "echo", "openai", "webhook", "command", "none"))
    timeout_seconds: float = key(20.0, "how long an answer may take", low=1.0, high=600.0)
    rules: tuple[Rule, ...] = key(_rules, "tried in this order; the first that matches answers")
    fallback: str = key("Sorry, I did not understand that.", "the answer where no rule matches; empty: none")
    openai: OpenAI = key(OpenAI, "a chat service")
    webhook: Webhook = key(Webhook, "a program on the network")
    allow_plaintext: bool = key(False, "allow http:// to a host that is neither this one nor on a private network")
    command: Command = key(Command, "a program on this machine")


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
