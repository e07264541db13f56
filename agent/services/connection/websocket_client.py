"""Imports the parts of websocket-client that connections use: client frames, URL parsing and the upgrade."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websocket._abnf import ABNF
    from websocket._exceptions import WebSocketException, WebSocketTimeoutException
    from websocket._handshake import handshake as upgrade
    from websocket._url import parse_url
else:

    def _import(*names):
        """Import modules of the library without ``websocket/__init__.py``. A later ``import websocket`` still works.

        ``__init__.py`` also imports the event loop ``WebSocketApp``, which imports ``inspect``. Without these, the
        import takes 0.4 instead of 1.5 MiB and 4 instead of 10 ms of CPU time (measured: websocket-client 1.9.2,
        CPython 3.11).
        """
        is_bare = "websocket" not in sys.modules
        if is_bare:
            if (spec := find_spec("websocket")) is None:
                raise ModuleNotFoundError("No module named 'websocket'", name="websocket")
            sys.modules["websocket"] = module_from_spec(spec)
        try:
            return [import_module(f"websocket.{name}") for name in names]
        finally:
            if is_bare:
                del sys.modules["websocket"]

    _abnf, _exceptions, _handshake, _url = _import("_abnf", "_exceptions", "_handshake", "_url")
    ABNF = _abnf.ABNF
    WebSocketException = _exceptions.WebSocketException
    WebSocketTimeoutException = _exceptions.WebSocketTimeoutException
    upgrade, parse_url = _handshake.handshake, _url.parse_url

__all__ = ["ABNF", "WebSocketException", "WebSocketTimeoutException", "parse_url", "upgrade"]
