"""The broker of Debian's package mosquitto as a process, and a client for tests."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
from pathlib import Path

import trustme

from agent.config.secrets import Secret
from agent.frontends.mqtt.broker import Broker, Message
from agent.frontends.mqtt.settings import MqttSettings
from agent.system.threads import Deadline, Mailbox
from support.machine import await_listener, free_port

TIMEOUT_SECONDS = 60.0


def mosquitto_path() -> str:
    """Return the path of the program, which Debian installs for root."""
    path = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    assert path is not None, "mosquitto is missing: apt-get install mosquitto"
    return path


class Mosquitto:
    """A broker on a port of its own, with sessions and retained messages on the disk.

    Args:
        folder: An existing directory.
        lines: More lines of its configuration.
        port: The port; by default a free one.
    """

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._folder = folder
        anonymous = [] if any("password_file" in line for line in lines) else ["allow_anonymous true"]
        text = [f"listener {self.port} 127.0.0.1", *lines, *anonymous, "log_dest stderr"]
        text += ["persistence true", f"persistence_location {folder}/", "max_queued_messages 5000"]
        if os.geteuid() == 0:
            text.append("user root")  # it would change to a user who may not read the folder
        (folder / "mosquitto.conf").write_text("\n".join([*text, ""]))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            command = [mosquitto_path(), "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        await_listener(self.port, self.log)

    def stop(self) -> None:
        """End it; it writes its messages to the disk. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        deadline = Deadline(TIMEOUT_SECONDS)
        while process.poll() is None:
            # Its start loses a signal: it accepts connections before it sets the flag that the signal clears.
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            assert not deadline.is_expired, "mosquitto does not end"

    def restart(self) -> None:
        self.stop()
        self.start()

    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text("utf-8", "replace")


class Certificates:
    """An authority, and PEM files for the broker and for a device."""

    def __init__(self, folder: Path) -> None:
        ca = trustme.CA()
        self.authority, self.server, self.server_key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        self.device, self.device_key = folder / "device.pem", folder / "device.key"
        ca.cert_pem.write_to_path(self.authority)
        for certificate, file, key in (
            (ca.issue_cert("127.0.0.1", "localhost"), self.server, self.server_key),
            (ca.issue_cert("device"), self.device, self.device_key),
        ):
            certificate.private_key_pem.write_to_path(key)
            certificate.cert_chain_pems[0].write_to_path(file)

    def lines(self, *more: str) -> tuple[str, ...]:
        return (f"cafile {self.authority}", f"certfile {self.server}", f"keyfile {self.server_key}", *more)


class TestClient:
    """A client of a broker. Not thread-safe."""

    __test__ = False

    def __init__(self, url: str, *topics: str, client_id: str = "test", session_seconds: int = 0, **login: str) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._topics, self._box = topics, Mailbox[None]()
        self.broker = Broker(
            MqttSettings(url, login.get("user"), Secret(value=login.get("password")), allow_plaintext=True),
            client_id,
            on_connected=self._subscribe,
            on_message=self._receive,
            session_seconds=session_seconds,
        )
        self.wait_for(lambda: self.broker.is_connected)

    def _subscribe(self) -> None:
        for topic in self._topics:
            self.broker.subscribe_retained(topic)

    def _receive(self, message: Message) -> None:
        self.messages.put(message)
        self.broker.acknowledge(message.token)

    def wait_for(self, is_done: object) -> None:
        deadline = Deadline(TIMEOUT_SECONDS)
        assert callable(is_done)
        while not is_done():
            assert not deadline.is_expired, "timeout"
            self.broker.wait(self._box, 1.0)

    def pump(self, seconds: float = 0.5) -> None:
        """Wait for messages."""
        self.broker.wait(self._box, seconds)

    def next(self, topic: str, *, contains: bytes = b"") -> Message:
        """Return the next message of a topic; others are dropped."""
        deadline = Deadline(TIMEOUT_SECONDS)
        while not deadline.is_expired:
            while not self.messages.empty():
                message = self.messages.get()
                if message.topic == topic and contains in message.payload:
                    return message
            self.broker.wait(self._box, 1.0)
        raise AssertionError(f"no message of {topic}")

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
        assert self.broker.publish(topic, payload, qos=qos, retain=retain)
        self.wait_for(lambda: self.broker.is_confirmed)

    def close(self) -> None:
        self.broker.close()
        self._box.close()
