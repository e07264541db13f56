"""The configuration of the local speech server that the daemon starts."""

import re
from collections.abc import Iterator

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.config.rules import directory_problem, input_file_problem
from agent.server.stt.registry import CHOICES as RECOGNITION_ENGINES
from agent.server.tts.registry import ENGINES as SPEECH_ENGINES
from agent.system.hosts import is_valid_hostname
from agent.system.named_tuple import NamedTuple

_ORIGIN = r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


@section
class ServerSettings(NamedTuple):
    """The local speech server."""

    start: str | bool = key(
        "auto", "start it with the daemon; auto: if another key of this file uses it", choices=("auto", True, False)
    )
    host: str = key("127.0.0.1", "address it listens on; 0.0.0.0 serves the network, without authentication")
    port: int = key(8394, "port it listens on, as in transcription.url; 0: any free port", low=0, high=65535)
    wyoming: str | int = key(
        "none",
        "port for Wyoming clients such as Home Assistant, usually 10300; none: there is no such listener",
        choices=("none",),
        low=1,
        high=65535,
    )
    speech: str = key(
        "auto",
        "speech engine; auto: for English hibari (extra voice) if it is installed on 64-bit with 1 GB of memory, else"
        " flite; for the rest espeak; tone is for tests",
        choices=tuple(SPEECH_ENGINES),
    )
    recognition: str = key(
        "auto",
        "recognition engine; auto: moonshine if installed, else vosk; script is for tests",
        choices=RECOGNITION_ENGINES,
    )
    allow_origins: tuple[str, ...] = key(
        (),
        "web pages that may use PlayAI's authorization in a browser, by their origin",
        note="For example [https://kiosk.example:8443]; * is every page",
    )
    model_path: str | None = key(None, "directory of a vosk model, which decides the language")
    script: str | None = key(None, "file with the transcript for the script engine")

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the address, the origins, the engines and the files."""
        if not self.host.isprintable() or " " in self.host or "/" in self.host or not is_valid_hostname(self.host):
            what = "this is not an address to listen on, expected for example 127.0.0.1"
            yield Finding("host", what, "127.0.0.1")
        for index, origin in enumerate(self.allow_origins):
            if not re.fullmatch(_ORIGIN, origin):
                what = f"{origin!r} is not an origin, expected SCHEME://HOST or SCHEME://HOST:PORT without a path, or *"
                yield Finding(f"allow_origins[{index}]", what)
        if self.speech == "hibari":
            from agent.server.tts.hibari import install_hint, is_installed

            if not is_installed():
                yield Finding("speech", f"hibari is not installed. {install_hint()}")
        if self.recognition == "script" and self.script is None:
            what = "server.recognition is script and the file is missing, expected its path"
            yield Finding("script", what, None, "recognition")
        if self.recognition == "vosk" and self.model_path is None:
            what = "server.recognition is vosk and the model is missing, expected its directory"
            yield Finding("model_path", what, None, "recognition")
        if self.script is not None and (problem := input_file_problem(self.script)):
            yield Finding("script", problem, None, "recognition")
        if self.model_path is not None and (problem := directory_problem(self.model_path, "a vosk model")):
            yield Finding("model_path", problem, None, "recognition")

    def warnings(self) -> Iterator[Finding]:
        """Yield a warning for a server that is open to the network."""
        if self.start is not False and self.host not in LOOPBACK_HOSTS:
            yield Finding("host", "every machine that reaches this address can use the local speech server")
