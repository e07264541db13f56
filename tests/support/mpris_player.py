"""A small music player with a remote control (MPRIS) for the tests.

Usage: ``python -m support.mpris_player NAME STATUS [VOLUME]``. It prints a line for each change: ``ready``, ``Paused``,
``Playing`` or ``volume 0.5``. Without VOLUME it has none. It reads commands from stdin: ``stop`` and ``volume V`` are
what its user does.
"""

from __future__ import annotations

import selectors
import sys

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return
from jeepney.io.blocking import DBusConnection, open_dbus_connection

BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")


def main(name: str, status: str, volume: float | None) -> int:
    connection = open_dbus_connection("SESSION")
    connection.send_and_get_reply(new_method_call(BUS, "RequestName", "su", (f"org.mpris.MediaPlayer2.{name}", 4)))
    print("ready", flush=True)
    properties: dict[str, tuple[str, object]] = {"PlaybackStatus": ("s", status)}
    if volume is not None:
        properties["Volume"] = ("d", volume)
    selector = selectors.DefaultSelector()
    selector.register(connection.sock, selectors.EVENT_READ, "bus")
    selector.register(sys.stdin, selectors.EVENT_READ, "user")
    while True:
        for key, _ in selector.select():
            if key.data == "user":
                words = sys.stdin.readline().split()
                if not words:
                    return 0
                properties["PlaybackStatus" if words[0] == "stop" else "Volume"] = (
                    ("s", "Stopped") if words[0] == "stop" else ("d", float(words[1]))
                )
                print("done", flush=True)
            else:
                handle(connection, properties)


def handle(connection: DBusConnection, properties: dict[str, tuple[str, object]]) -> None:
    message = connection.receive()
    fields = message.header.fields
    if message.header.message_type is not MessageType.method_call:
        return
    member = fields[HeaderFields.member]
    reply = new_method_return(message)
    if member == "Get":
        if message.body[1] not in properties:
            connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownProperty"))
            return
        reply = new_method_return(message, "v", (properties[message.body[1]],))
    elif member == "Set":
        properties[message.body[1]] = message.body[2]
        print(f"volume {message.body[2][1]:g}", flush=True)
    elif member in ("Pause", "Play"):
        properties["PlaybackStatus"] = ("s", {"Pause": "Paused", "Play": "Playing"}[member])
        print(properties["PlaybackStatus"][1], flush=True)
    connection.send(reply)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else None))
