"""The configuration of the control socket."""

from __future__ import annotations

import os
from collections.abc import Iterator

from agent.config.errors import Finding, suggestion
from agent.config.fields import key, section
from agent.system.named_tuple import NamedTuple

MAX_PATH_BYTES = 107
"""Maximum length of the path of a Unix socket: ``sun_path`` has 108 bytes, including the final NUL (unix(7))."""


@section
class ControlSettings(NamedTuple):
    """The control socket."""

    socket: str = key(
        "auto", "path of the control socket; auto: in the run directory; none: no command reaches the daemon"
    )

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the path of the socket."""
        if self.socket in ("auto", "none"):
            return
        if not self.socket.startswith("/"):
            what = "this is not an absolute path, expected auto, none or a path that begins with /"
            yield Finding("socket", what, suggestion(self.socket, ("auto", "none")))
        elif len(os.fsencode(self.socket)) > MAX_PATH_BYTES:
            what = f"the path is too long for a socket, expected at most {MAX_PATH_BYTES} bytes"
            yield Finding("socket", what)
