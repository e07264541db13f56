"""Check of the MQTT broker: the connection, TLS, the login, the access rules and the discovery message."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent.cli.broker_session import ANSWER_SECONDS, BrokerConnectionError, BrokerSession
from agent.cli.doctor.config import key_with_origin, set_key_command
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.errors import ServiceError
from agent.frontends.mqtt.discovery import discovery_topic
from agent.frontends.mqtt.frontend import NO_DISCOVERY
from agent.settings.loader import Loaded

SUBJECT = "mqtt broker"


def check_broker(loaded: Loaded, *, in_use: bool, answer_seconds: float = ANSWER_SECONDS) -> CheckResult:
    """Connect with the settings of the device and a separate client identifier; send a message and receive it.

    Args:
        loaded: The configuration; ``mqtt.url`` is an address.
        in_use: Whether the service runs. Then it should have published the discovery message.
        answer_seconds: Longest wait until the sent message is received.
    """
    settings = loaded.config.mqtt
    topics, host = settings.topics, urlsplit(settings.url).hostname
    discovery = discovery_topic(topics)
    found: set[str] = set()
    user = "this device" if settings.user is None else f"the user {settings.user}"
    try:
        session = BrokerSession(
            settings,
            [discovery],
            topics.of("doctor"),
            lambda topic, payload: found.add(topic),
            answer_seconds=answer_seconds,
        )
        with session:
            pass
    except BrokerConnectionError as error:
        failure, cure = error.failure, error.failure.cure
        if not cure and failure.is_permanent:  # a key or a file that cannot be read
            cure = f"correct {key_with_origin(loaded, 'mqtt')}"
        elif not cure:
            cure = f"start the broker, or check host and port of {key_with_origin(loaded, 'mqtt.url')}"
        if "mqtt.credential" in cure:
            cure = f"{cure}: {set_key_command(settings.credential)}"
        return CheckResult(SUBJECT, ERROR, failure.reason, cure, own=failure.is_permanent)
    except ServiceError as error:
        cure = f"allow {user} to read and write {topics.of('#')} in the rules of the broker"
        return CheckResult(SUBJECT, ERROR, str(error).removeprefix("mqtt: "), cure)
    tls = "with TLS" if settings.url.startswith("mqtts:") else "without TLS"
    saw = f"{host} accepts {user} {tls} as {topics.root}/{topics.name}"
    if settings.discovery == NO_DISCOVERY:
        return CheckResult(SUBJECT, OK, saw)
    if discovery in found:
        return CheckResult(SUBJECT, OK, f"{saw}, Home Assistant can find the device")
    if not in_use:
        return CheckResult(SUBJECT, OK, f"{saw}; the daemon publishes the discovery message when it starts")
    cure = f"allow {user} to read and write {discovery}, then sudo systemctl restart voice-agent"
    return CheckResult(SUBJECT, WARNING, f"{saw}, but there is no discovery message for Home Assistant", cure)
