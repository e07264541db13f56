"""``voice-agent events``: print the events of the running daemon, one per line."""

from __future__ import annotations

import json
import select
import sys
import threading
from collections.abc import Mapping, Sequence

from agent.cli.clock import clock
from agent.cli.daemon_errors import service_errors
from agent.cli.handover import require_daemon
from agent.client import Client
from agent.system.text import escape


def events(path: str | None, names: Sequence[str], *, as_json: bool = False, texts: bool = False) -> int:
    """Print each event until the daemon ends, the reader of stdout closes the pipe, or the user presses Ctrl-C.

    Args:
        path: The value of ``--config``.
        names: The names of the events to print; empty for all events.
        as_json: Print one JSON object per line.
        texts: Include transcripts and the texts of utterances.

    Returns:
        The exit code.

    Raises:
        ServiceError: No daemon answers, or the daemon ended.
    """
    client = require_daemon(path)
    watcher = threading.Thread(target=_close_without_reader, args=(client,), name="stdout", daemon=True)
    with client, service_errors():
        try:
            watcher.start()
            for event in client.events(*names, texts=texts):
                # Flush each line: the reader of a pipe waits for it.
                print(json.dumps(event) if as_json else line(event), flush=True)
        except KeyboardInterrupt:
            return 0
    return 0


def _close_without_reader(client: Client) -> None:
    """Wait until the reader of stdout has closed the pipe, then close the connection.

    Otherwise the command would end only when it prints the next event, which may arrive hours later.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # an empty mask reports only errors (poll(2))
    poll.poll()
    client.close()


def line(event: Mapping[str, object]) -> str:
    """Return an event as one line for people: the local time, the name and the fields."""
    fields = [
        f"{name}={escape(value if isinstance(value, str) else json.dumps(value), 500)}"
        for name, value in event.items()
        if name not in ("event", "time") and value not in (None, "", [])
    ]
    return " ".join([clock(event.get("time")), f"{escape(str(event.get('event')), 40):9}", *fields])
