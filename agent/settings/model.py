"""The whole configuration: the sections that the other packages declare, with the only defaults.

A section is a named tuple whose defaults are made by ``agent.config.fields.key``.
"""

from collections.abc import Iterator

from agent.config.fields import iter_secrets, key, section
from agent.config.secrets import Secret
from agent.frontends.control.settings import ControlSettings
from agent.frontends.hooks.settings import HookSettings
from agent.frontends.mqtt.settings import MqttSettings
from agent.frontends.other_audio.settings import OtherAudioSettings
from agent.frontends.panel.settings import ButtonSettings, LedSettings
from agent.frontends.satellite.settings import SatelliteSettings
from agent.frontends.web.settings import WebSettings
from agent.pipeline.responders.settings import ResponderSettings
from agent.pipeline.settings import (
    ConversationSettings,
    EchoSettings,
    MicrophoneSettings,
    SpeakerSettings,
    WakeSettings,
)
from agent.server.settings import ServerSettings as ServerSettings
from agent.services.settings import SynthesisSettings, TranscriptionSettings
from agent.system.named_tuple import NamedTuple


@section
class LoggingSettings(NamedTuple):
    """The log."""

    level: str = key(
        "info",
        "lowest level that is logged; debug helps to find a fault",
        choices=("debug", "info", "warning", "error"),
    )
    transcripts: bool = key(False, "true: the log contains the words of the user and of the device")


@section
class Config(NamedTuple):
    """The whole configuration. Immutable."""

    microphone: MicrophoneSettings = key(MicrophoneSettings, "the source of audio")
    speaker: SpeakerSettings = key(SpeakerSettings, "the sink of audio")
    wake: WakeSettings = key(WakeSettings, "the wake word")
    echo: EchoSettings = key(EchoSettings, "the echo canceller")
    conversation: ConversationSettings = key(ConversationSettings, "turn taking")
    transcription: TranscriptionSettings = key(TranscriptionSettings, "speech to text")
    synthesis: SynthesisSettings = key(SynthesisSettings, "text to speech")
    responder: ResponderSettings = key(ResponderSettings, "the source of replies")
    server: ServerSettings = key(ServerSettings, "the local speech server")
    control: ControlSettings = key(ControlSettings, "the control socket")
    web: WebSettings = key(WebSettings, "the HTTP API and the page")
    mqtt: MqttSettings = key(MqttSettings, "the connection to an MQTT broker and to Home Assistant")
    satellite: SatelliteSettings = key(SatelliteSettings, "the satellite for Home Assistant's pipelines")
    hooks: HookSettings = key(HookSettings, "commands that the daemon starts for events")
    button: ButtonSettings = key(ButtonSettings, "the button")
    led: LedSettings = key(LedSettings, "the light")
    other_audio: OtherAudioSettings = key(OtherAudioSettings, "players of other programs")
    shutdown_seconds: float = key(
        8.0, "timeout for a shutdown that finishes the current work; more lets a longer reply end", low=1.0, high=120.0
    )
    logging: LoggingSettings = key(LoggingSettings, "the log")

    def word_responders(self) -> dict[str, ResponderSettings]:
        """Return the settings of the responder for each wake word that names one."""
        if self.wake.engine == "none":
            return {}
        return {word: self.responder._replace(kind=kind) for word, kind in self.wake.responders.items()}


def all_secrets(config: Config) -> Iterator[Secret]:
    """Yield all secrets that a configuration uses, without a look-up."""
    yield from (secret for _, secret in iter_secrets(config))
    for responder in config.word_responders().values():
        yield from responder.secrets()
