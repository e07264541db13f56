"""Closes the PCM of a PortAudio stream whose card is lost: PortAudio 19.6 and 19.7 leave such a PCM open.

``Pa_CloseStream`` first aborts an active stream. If the card is gone, the abort fails and ``Pa_CloseStream`` returns
without closing anything (``pa_front.c``: "shouldn't we close anyway?", ticket 115). Each unplugged card would then keep
the descriptors and the memory of its PCM, and the kernel could not reuse the number of the card.
"""

from __future__ import annotations

import ctypes
from typing import Any

_MAGIC = 0x18273645
"""``PA_STREAM_MAGIC``: the first field of an open stream; closing a stream overwrites it."""


class _Representation(ctypes.Structure):
    """The first fields of ``PaUtilStreamRepresentation`` (``pa_stream.h``)."""

    _fields_ = [("magic", ctypes.c_ulong), ("next", ctypes.c_void_p), ("interface", ctypes.POINTER(ctypes.c_void_p))]


class StreamHandle:
    """The address of a stream. Not thread-safe; used under ``PORTAUDIO_LOCK``, so that no new stream reuses it.

    Args:
        stream: A ``pyaudio.Stream``; the first field of its C object is the ``PaStream *``.
    """

    def __init__(self, stream: Any) -> None:
        self._address = ctypes.c_void_p.from_address(id(stream._stream) + object.__basicsize__).value

    def close(self) -> None:
        """Close the stream if ``Pa_CloseStream`` has left it open. Call this between that and ``Pa_Terminate``."""
        if not self._address:  # PyAudio has already closed the stream
            return
        representation = _Representation.from_address(self._address)
        if representation.magic == _MAGIC:
            close = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(representation.interface[0])
            close(self._address)
