"""The configuration of the transcription service and of the speech services."""

from __future__ import annotations

from dataclasses import dataclass

from agent.config.fields import key
from agent.config.secrets import Secret


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
