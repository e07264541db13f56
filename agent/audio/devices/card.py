"""Microphone and speaker on a sound card, converted between the format of the card and that of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.audio.convert import Resampler, copy_channels, gain_percent, pick_channel, scale, to_mono
from agent.audio.devices.clock_drift import ClockDrift
from agent.audio.devices.portaudio import CardStream, open_card
from agent.audio.format import SPEECH, Format
from agent.errors import AudioError, DeviceError

_MAX_PERIOD_SECONDS = 0.1
_TRUSTED_SECONDS = 0.03
"""With more audio than this in the card, its amount is estimated from the clock; with less, the card is queried."""

_FRESH_SECONDS = 0.001
"""The result of a query of the card is used again for this time."""

MAX_CLOCK_ERROR = 0.01
"""Up to this relative error of a card's clock, missing frames count as drift and not as loss."""


class CardSource:
    """A sound card as the microphone: 16 kHz mono s16le. Not thread-safe; one thread opens, reads and closes it.

    ``lost_samples``: samples at 16 kHz that the card dropped because no read happened in time.

    Args:
        name: Name of the device.
        frame_seconds: Duration of a frame.
        channel: The channel of the card, from 1.
        gain_db: Amplification in decibels, with clipping.

    Raises:
        DeviceError: If the card cannot be opened, or lacks the channel.
        AudioError: If the rate of the card needs a resampler and its library is missing.
    """

    def __init__(self, name: str, frame_seconds: float, channel: int = 1, gain_db: float = 0.0) -> None:
        self._channel, self._percent = channel, gain_percent(gain_db)
        self.read_bytes = SPEECH.bytes_of(frame_seconds)
        # One period per frame, except for long frames. The card's buffer has two periods, so it overruns if another
        # thread holds the interpreter lock for longer than a period.
        self._card = open_card(name, False, Format(SPEECH.rate, channel), min(frame_seconds, _MAX_PERIOD_SECONDS))
        self.format = self._card.format
        if channel > self.format.channels:
            self._card.close()
            raise DeviceError(
                f"the microphone {name!r} has no channel {channel}: it has {self.format.channels}. "
                "Choose a lower microphone.channel."
            )
        self._resampler = _create_resampler(self._card, self.format.rate, SPEECH.rate, 1)
        self._buffer = bytearray()
        self._loss = LossMeter(self.format.rate, tolerance_frames=self._card.period_frames)
        self.drift = ClockDrift(self.format.rate)
        self._read_frames = 0
        self._period_ended_at = 0.0
        try:
            self._card.start()
        except DeviceError:
            self._card.close()  # the caller has no object to close
            raise

    @property
    def lost_samples(self) -> int:
        return round(self._loss.lost_frames * SPEECH.rate / self.format.rate)

    @property
    def captured_at(self) -> float:
        """The monotonic time at which the last sample of the last frame was recorded."""
        return self._period_ended_at - SPEECH.seconds_of(len(self._buffer))

    def read(self) -> bytes:
        """Return the next frame, in real time.

        Raises:
            DeviceError: With ``lost`` set, if the card is gone.
        """
        while len(self._buffer) < self.read_bytes:
            period = self._card.read()
            self._count(len(period) // self.format.frame_bytes)
            mono = pick_channel(period, self.format.channels, self._channel)
            self._buffer += scale(self._resampler.feed(mono), self._percent)
        frame = bytes(self._buffer[: self.read_bytes])
        del self._buffer[: self.read_bytes]
        return frame

    def close(self) -> None:
        self.drift.log(self._card.name)
        self._card.close()

    def _count(self, frames: int) -> None:
        available, now = self._card.available_at()
        self._period_ended_at = now - available / self.format.rate
        self._read_frames += frames
        self._loss.count(frames, available, now)
        self.drift.observe(self._read_frames + available + self._loss.lost_frames, now)


class LossMeter:
    """Counts frames that a card recorded and then dropped. Not thread-safe; owned by the source's thread.

    PyAudio reports an overrun only as an error that closes the stream (see ``CardStream.read``). Therefore the loss is
    computed as the difference between the clock and the frames read. A difference above the tolerance is a loss. A
    smaller one is followed at a rate of up to ``MAX_CLOCK_ERROR``, so that the drift of the card's clock does not count
    as a loss. ``lost_frames`` counts frames at the rate of the card.

    Args:
        rate: Rate of the card in Hz.
        tolerance_frames: Differences up to this do not count as a loss.
    """

    def __init__(self, rate: int, tolerance_frames: int) -> None:
        self.lost_frames = 0
        self._rate, self._tolerance = rate, tolerance_frames
        self._read_frames = 0
        self._started_at: float | None = None
        self._offset = 0.0  # frames by which the card is behind the clock without a loss
        self._last_at = 0.0

    def count(self, frames: int, available: int, now: float) -> None:
        """Note that ``frames`` were read, and that ``available`` more can be read at the monotonic time ``now``."""
        self._read_frames += frames
        if self._started_at is None:
            self._started_at = self._last_at = now
            self._offset = -float(self._read_frames + available)
            return
        behind = (now - self._started_at) * self._rate - (self._read_frames + available)
        max_change = (now - self._last_at) * self._rate * MAX_CLOCK_ERROR
        self._last_at = now
        if behind - self._offset > self._tolerance:
            self.lost_frames += round(behind - self._offset)
            self._offset = behind
        else:
            self._offset += max(-max_change, min(max_change, behind - self._offset))


class CardSink:
    """A sound card as the speaker: accepts ``format``, mono or stereo. Not thread-safe; one thread owns it.

    ``underruns``: how often the card was empty between two writes of one utterance.

    Args:
        name: Name of the device.
        format: Format of the audio.
        period_seconds: Shortest period of the card; a larger buffer has longer periods.
        buffer_seconds: Desired size of the card's buffer.
        open_stream: Opens the stream, as ``open_card``.

    Raises:
        DeviceError: If the card cannot be opened, or ``format`` has more than two channels.
        AudioError: If the rate of the card needs a resampler and its library is missing.
    """

    def __init__(
        self,
        name: str,
        format: Format,
        period_seconds: float,
        buffer_seconds: float,
        open_stream: Callable[[str, bool, Format, float, float], CardStream] = open_card,
    ) -> None:
        if format.channels > 2:
            raise DeviceError(f"cannot play audio with {format.channels} channels: use mono or stereo")
        self.format = format
        self.underruns = 0
        self._card = open_stream(name, True, format, period_seconds, buffer_seconds)
        self.card_format = self._card.format
        self._resampler = self._new_resampler()
        self._buffer = bytearray()  # in the card's format
        self._is_playing = self._is_draining = False
        self.drift = ClockDrift(self.card_format.rate)
        # Since open, drain or drop: frames of `format` that were written, frames of the card that it accepted.
        self._written_frames = self._card_frames = 0
        # The free frames that a write of any size waits for (see ``CardStream.write``).
        self._required_frames = min(self._card.period_frames, self._card.buffer_frames)
        self._room, self._room_at = 0, 0.0  # free frames at the last query, and its monotonic time
        self._empty_at: float | None = None  # the card will be empty at this monotonic time; None: not known

    @property
    def accepted_frames(self) -> int:
        """Frames of ``format`` that the card accepted since it was opened, drained or dropped.

        Exact if the rates are equal, otherwise rounded down: audio in the resampler is lost with the card.
        """
        return min(self._written_frames, self._card_frames * self.format.rate // self.card_format.rate)

    @property
    def empty_at(self) -> float:
        """The monotonic time at which the card will have played its audio."""
        now = time.monotonic()
        if not self._is_playing:
            return now
        # Estimated, because a query of the card costs more CPU time than all other steps of a write together.
        if self._empty_at is not None and self._empty_at - now > _TRUSTED_SECONDS:
            return self._empty_at
        queued_frames = max(0, self._card.buffer_frames - self._query_room())
        return self._room_at + queued_frames / self.card_format.rate

    @property
    def ready_in_seconds(self) -> float:
        """Time that ``write`` would wait until the card has room for a period."""
        if not self._is_playing:
            return 0.0
        rate, required = self.card_format.rate, self._required_frames
        if self._empty_at is not None:
            queued_seconds = self._empty_at - time.monotonic()
            if (wait := queued_seconds - (self._card.buffer_frames - required) / rate) > 0:
                return wait
        return max(0, required - self._query_room()) / rate

    def write(self, pcm: bytes) -> None:
        """Write whole frames at the rate of the card; return when the last one is in its buffer."""
        self._written_frames += len(pcm) // self.format.frame_bytes
        self._write_all(self._to_card_channels(self._resampler.feed(pcm)))

    def drain(self) -> None:
        """Wait until everything was played, and stop the card.

        PortAudio cannot drain: its ALSA backend always stops with ``snd_pcm_drop`` (``AlsaStop`` in pa_linux_alsa.c
        sets ``abort = 1`` because "snd_pcm_drain tends to lock up"), which discards the card's buffer; measured: 113 ms
        of a 1 s tone were lost. A card also starts only with a full period. So silence is written to push out the
        audio.
        """
        self._write_all(self._to_card_channels(self._resampler.finish()))
        if self._is_playing:
            self._write_all(self._draining_silence())
        self.drop()

    def drain_nowait(self) -> float:
        """Drain without blocking; return the seconds until the next call, 0.0 when everything was played."""
        if not self._is_draining:
            self._is_draining = True
            self._buffer += self._to_card_channels(self._resampler.finish())
            if self._is_playing or self._buffer:
                self._buffer += self._draining_silence()
        period_bytes = self._card.period_frames * self.card_format.frame_bytes
        while self._buffer:
            missing = self._required_frames - self._card.available() if self._is_playing else 0
            if missing > 0:
                return max(0.001, missing / self.card_format.rate)
            piece = bytes(self._buffer[:period_bytes])
            del self._buffer[:period_bytes]
            self._write_period(piece)
        self.drop()
        return 0.0

    def drop(self) -> None:
        """Stop immediately; discard all audio that was not played."""
        self._is_draining = False
        self._buffer.clear()
        self._written_frames = self._card_frames = 0
        self._resampler = self._new_resampler()
        if self._is_playing:
            self._is_playing = False
            self._empty_at, self._room_at = None, 0.0
            self.drift.pause()
            # An ALSA plugin counts the played audio only when it is queried; otherwise stop() drops more than the rest.
            self._card.available()
            self._card.stop()

    def change_format(self, format: Format) -> bool:
        """Return ``False`` for another format: only opening the card shows whether it supports the rate."""
        return format == self.format

    def close(self) -> None:
        self.drift.log(self._card.name)
        self._card.close()

    def _draining_silence(self) -> bytes:
        # When the card has accepted this much silence, its buffer holds only silence.
        return bytes((self._card.buffer_frames + self._card.period_frames) * self.card_format.frame_bytes)

    def _write_all(self, pcm: bytes) -> None:
        self._buffer += pcm
        frame_bytes = self.card_format.frame_bytes
        whole = len(self._buffer) // frame_bytes * frame_bytes
        period_bytes = self._card.period_frames * frame_bytes
        for start in range(0, whole, period_bytes):
            self._write_period(bytes(self._buffer[start : min(start + period_bytes, whole)]))
        del self._buffer[:whole]

    def _write_period(self, piece: bytes) -> None:
        """Write at most one period of whole frames."""
        empty_at = None
        if not self._is_playing:
            self._card.start()
        else:
            empty_at = self._observe()
        self._is_playing = True
        self._card.write(piece, self._room)
        self._room, self._room_at, self._empty_at = 0, 0.0, None
        frames = len(piece) // self.card_format.frame_bytes
        if empty_at is not None:
            if time.monotonic() > empty_at:
                # The process was suspended for so long that the card may have been empty before this write.
                self.drift.pause()
            else:
                self._empty_at = empty_at + frames / self.card_format.rate
        self._card_frames += frames

    def _observe(self) -> float | None:
        """Check for an underrun and observe the drift; return the time at which the card will be empty."""
        if time.monotonic() - self._room_at > _FRESH_SECONDS:
            self._query_room()
        queued_frames = self._card.buffer_frames - self._room
        if queued_frames > 0:
            self.drift.observe(self._card_frames - queued_frames, self._room_at)
            return self._room_at + queued_frames / self.card_format.rate
        self.drift.pause()  # the counter of an empty card does not advance
        if not self._is_draining:
            self.underruns += 1
        return None

    def _query_room(self) -> int:
        self._room, self._room_at = self._card.available_at()
        return self._room

    def _to_card_channels(self, pcm: bytes) -> bytes:
        channels, card_channels = self.format.channels, self.card_format.channels
        if channels == card_channels:
            return pcm
        return to_mono(pcm, channels) if card_channels == 1 else copy_channels(pcm, channels, card_channels)

    def _new_resampler(self) -> Resampler:
        return _create_resampler(self._card, self.format.rate, self.card_format.rate, self.format.channels)


def _create_resampler(card: CardStream, from_rate: int, to_rate: int, channels: int) -> Resampler:
    try:
        return Resampler(from_rate, to_rate, channels)
    except AudioError:  # the library is missing: the caller has no object to close
        card.close()
        raise
