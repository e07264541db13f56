"""Shared by the benchmarks that need the times of messages: the local speech server in this process."""

from __future__ import annotations

from types import TracebackType

from agent.server.listener import Listener
from agent.server.options import ServerOptions, parse
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import SttOptions
from agent.server.tts import registry as tts_registry
from agent.server.wire_log import WireLog
from agent.system.threads import Deadline


class Server:
    """The local server with the exact engine; ``log`` receives its messages. Not thread-safe."""

    def __init__(self, log: WireLog, *arguments: str) -> None:
        words = ["--port", "0", "--speech", "tone", "--recognition", "none", *arguments]
        options: ServerOptions = parse(words)
        engine = stt_registry.create(options.recognition, SttOptions(script=options.script))
        self._listener = Listener(options, tts_registry.create("tone"), engine, log)
        self.port = self._listener.address[1]

    def stop(self) -> None:
        self._listener.stop(Deadline(1.0), Deadline(2.0))

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
