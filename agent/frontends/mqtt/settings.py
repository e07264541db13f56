"""The configuration of the connection to an MQTT broker."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.errors import Finding
from agent.config.fields import key as setting  # one of the fields has the name key
from agent.config.fields import section
from agent.config.rules import Url, input_file_problem
from agent.config.secrets import Secret
from agent.frontends.mqtt.topics import ALL, DEFAULT_ROOT, GROUP, RESERVED, Topics, name_problem
from agent.system.named_tuple import NamedTuple

NO_BROKER = "none"
SCHEMES = ("mqtt", "mqtts")
PORTS = {"mqtt": 1883, "mqtts": 8883}
LIBRARY = "paho"
INSTALL = 'pip install "edge-voice-agent[mqtt]", or apt install python3-paho-mqtt'


@section
class MqttSettings(NamedTuple):
    """The connection to an MQTT broker, for Home Assistant and for fleets of devices."""

    url: str = setting(
        NO_BROKER, "mqtts://HOST or mqtt://HOST of the broker, with its port if it is not 8883 or 1883; none: it is off"
    )
    user: str | None = setting(None, "name of the user at the broker")
    credential: Secret = setting(lambda: Secret(credential="mqtt"), "where the password is stored")
    topic: str = setting("auto", f"topic of this device: {DEFAULT_ROOT}/NAME; auto: NAME is the name of the machine")
    groups: tuple[str, ...] = setting((), f"groups of this device: it also speaks texts of {DEFAULT_ROOT}/{GROUP}/...")
    discovery: str = setting(
        "homeassistant",
        "homeassistant: the device appears in Home Assistant | none: it does not",
        choices=("homeassistant", "none"),
    )
    room: str | None = setting(None, "room of this device: of all devices in it, the loudest wake word is answered")
    voices: tuple[str, ...] = setting(
        (), "voices of the first service of synthesis that Home Assistant offers besides the configured one"
    )
    transcripts: bool = setting(False, "true: events contain the words of the user and of the device")
    authority: str | None = setting(None, "PEM file with the certificates that the broker may have; null: the system's")
    certificate: str | None = setting(None, "PEM file with the certificate of this device")
    key: str | None = setting(None, "PEM file with the private key of the certificate")
    allow_plaintext: bool = setting(False, "true: mqtt:// is allowed to a public host; texts and password can be read")

    @property
    def is_on(self) -> bool:
        """Whether the device connects to a broker."""
        return self.url != NO_BROKER

    @property
    def topics(self) -> Topics:
        """The topics of the device."""
        if self.topic != "auto":
            root, _, name = self.topic.partition("/")
            return Topics(root, name, self.groups)
        import socket  # imported late: most daemons have no broker

        return Topics(DEFAULT_ROOT, socket.gethostname().partition(".")[0] or "device", self.groups)

    def urls(self) -> Iterator[Url]:
        """Yield the address of the broker."""
        if self.is_on and "@" not in self.url:
            yield Url("url", self.url, SCHEMES)

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the address, the names and the files."""
        if not self.is_on:
            return
        if "@" in self.url:
            yield Finding("url", "the address contains a user name, expected it in mqtt.user, password in credential")
        if problem := self._topic_problem():
            yield Finding("topic", problem)
        for index, group in enumerate(self.groups):
            if problem := name_problem(group):
                yield Finding(f"groups[{index}]", problem)
        if self.room is not None and (problem := name_problem(self.room)):
            yield Finding("room", problem)
        for name, path in (("authority", self.authority), ("certificate", self.certificate), ("key", self.key)):
            if path is not None and (problem := input_file_problem(path)):
                yield Finding(name, problem)
        for name, other in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                yield Finding(other, f"mqtt.{name} is set and this file is missing, expected its path", None, name)
        yield from self._library_findings()

    def _topic_problem(self) -> str | None:
        if self.topic == "auto":
            return None
        root, slash, name = self.topic.partition("/")
        if not slash:
            return f"this is no topic of a device, expected auto or {DEFAULT_ROOT}/NAME"
        if name in RESERVED:
            return f"{name} is no name of a device, because {DEFAULT_ROOT}/{ALL}/say reaches all of them"
        return name_problem(root) or name_problem(name)

    def _library_findings(self) -> Iterator[Finding]:
        import importlib.util  # imported late: most daemons have no broker

        if importlib.util.find_spec(LIBRARY) is None:
            yield Finding("url", f"the library paho-mqtt is missing, expected the extra mqtt: {INSTALL}")
