"""The microphone and the speaker on a sound card: what the card does, converted from and to what the daemon wants."""

from __future__ import annotations

import time

from agent.audio.convert import Resampler, to_mono, to_stereo
from agent.audio.devices.clock_drift import ClockDrift
from agent.audio.devices.portaudio import CardStream, open_card
from agent.audio.format import SPEECH, Format
from agent.errors import AudioError, DeviceError

_LONGEST_PERIOD_SECONDS = 0.1


class CardSource:
    """16 kHz mono from a sound card, whatever the card itself does. Opened, read and closed by one thread.

    ``lost_frames``: samples (at 16 kHz) that the card dropped because nobody read in time.
    """

    def __init__(self, name: str, frame_seconds: float) -> None:
        self.frame_bytes = SPEECH.bytes_of(frame_seconds)
        # A period as long as the frame, but for very long frames: the buffer is two periods, and what does not fit
        # into it while Python is busy elsewhere is lost.
        self._card = open_card(name, False, SPEECH, min(frame_seconds, _LONGEST_PERIOD_SECONDS))
        self.format = self._card.format
        self._resampler = _resampler(self._card, self.format.rate, SPEECH.rate, 1)
        self._waiting = bytearray()
        self._loss = LossMeter(self.format.rate, tolerance_frames=self._card.period_frames)
        self.drift = ClockDrift(self.format.rate)
        self._came = 0
        try:
            self._card.start()
        except DeviceError:
            self._card.close()  # nobody has it yet who could
            raise

    @property
    def lost_frames(self) -> int:
        return round(self._loss.lost_frames * SPEECH.rate / self.format.rate)

    def read(self) -> bytes:
        """The next frame, in real time; ``DeviceError`` with ``lost`` when the card is gone."""
        while len(self._waiting) < self.frame_bytes:
            period = self._card.read()
            self._count(len(period) // self.format.frame_bytes)
            self._waiting += self._resampler.feed(to_mono(period, self.format.channels))
        frame = bytes(self._waiting[: self.frame_bytes])
        del self._waiting[: self.frame_bytes]
        return frame

    def close(self) -> None:
        self.drift.tell(self._card.name)
        self._card.close()

    def _count(self, read: int) -> None:
        waiting, now = self._card.look()
        self._came += read
        self._loss.count(read, waiting, now)
        self.drift.at(self._came + waiting + self._loss.lost_frames, now)


class LossMeter:
    """Frames that a card recorded and nobody read: PyAudio does not tell, so the clock has to.

    ``count`` takes the frames just read, those that wait in the card, and the moment. What the clock says should have
    come, and did not, is lost once it exceeds the tolerance; a card whose clock is a little off is followed, at up to
    one part in a hundred, so that its drift is no loss.
    """

    def __init__(self, rate: int, tolerance_frames: int) -> None:
        self.lost_frames = 0
        self._rate, self._tolerance = rate, tolerance_frames
        self._came = 0
        self._began: float | None = None
        self._behind = 0.0  # by how many frames the card is behind the clock when all is well
        self._last = 0.0

    def count(self, read: int, waiting: int, now: float) -> None:
        self._came += read
        if self._began is None:
            self._began = self._last = now
            self._behind = -float(self._came + waiting)
            return
        behind = (now - self._began) * self._rate - (self._came + waiting)
        slack = (now - self._last) * self._rate / 100
        self._last = now
        if behind - self._behind > self._tolerance:
            self.lost_frames += round(behind - self._behind)
            self._behind = behind
        else:
            self._behind += max(-slack, min(slack, behind - self._behind))


class CardSink:
    """A sound card as the speaker: takes ``format``, whatever the card itself does. One thread owns it.

    ``underruns`` counts how often the card ran empty between two writes of one utterance.
    """

    def __init__(self, name: str, format: Format, period_seconds: float, buffer_seconds: float) -> None:
        if format.channels > 2:
            raise DeviceError(f"sound with {format.channels} channels cannot be played: mono and stereo can")
        self.format = format
        self.underruns = 0
        self._card: CardStream = open_card(name, True, format, period_seconds, buffer_seconds)
        self.card_format = self._card.format
        self._resampler = self._new_resampler()
        self._waiting = bytearray()
        self._playing = self._draining = False
        self.drift = ClockDrift(self.card_format.rate)
        self._offered = self._accepted = 0  # of the sound since opened, drained or dropped: our frames, the card's

    @property
    def accepted_frames(self) -> int:
        """How many frames of ``format`` the card has taken, since it was opened, drained or dropped. To the frame
        where the rates are equal, else rounded down: a card that is lost takes what the filter holds with it."""
        return min(self._offered, self._accepted * self.format.rate // self.card_format.rate)

    @property
    def queued_seconds(self) -> float:
        """How much of what was written is still to be heard."""
        if not self._playing:
            return 0.0
        return max(0, self._card.buffer_frames - self._card.available()) / self.card_format.rate

    @property
    def ready_in_seconds(self) -> float:
        """How long ``write`` would wait: until the card has room for one of its own periods."""
        if not self._playing:
            return 0.0
        return max(0, self._room_wanted() - self._card.available()) / self.card_format.rate

    def write(self, pcm: bytes) -> None:
        """Plays whole frames, at the card's pace: returns when the last of them is in the card's buffer."""
        self._offered += len(pcm) // self.format.frame_bytes
        self._put(self._for_card(self._resampler.feed(pcm)))

    def drain(self) -> None:
        """Returns when all has been heard to its last sample; the card is then at rest.

        PortAudio never drains: stopping a stream throws away what the card still holds, and a card does not even begin
        before a whole period is there. So silence is written until it has pushed everything real out.
        """
        self._put(self._for_card(self._resampler.finish()))
        if self._playing:
            # When so much silence has been taken, at most a bufferful is still to be heard, and none of it is sound.
            silence = self._card.buffer_frames + self._card.period_frames
            self._put(bytes(silence * self.card_format.frame_bytes))
        self.drop()

    def drain_nowait(self) -> float:
        """Drains without waiting; returns after how many seconds to go on, 0.0 when all has been heard."""
        if not self._draining:
            self._draining = True
            self._waiting += self._for_card(self._resampler.finish())
            if self._playing or self._waiting:
                silence = self._card.buffer_frames + self._card.period_frames
                self._waiting += bytes(silence * self.card_format.frame_bytes)
        period = self._card.period_frames * self.card_format.frame_bytes
        while self._waiting:
            missing = self._room_wanted() - self._card.available() if self._playing else 0
            if missing > 0:
                return max(0.001, missing / self.card_format.rate)
            piece = bytes(self._waiting[:period])
            del self._waiting[:period]
            self._give(piece)
        self.drop()
        return 0.0

    def drop(self) -> None:
        """Silent at once: what the card still holds is not heard."""
        self._draining = False
        self._waiting.clear()
        self._offered = self._accepted = 0
        self._resampler = self._new_resampler()
        if self._playing:
            self._playing = False
            self.drift.pause()
            self._card.stop()

    def change_format(self, format: Format) -> bool:
        """Only the card itself knows whether it can do the new rate: it is asked by opening it."""
        return format == self.format

    def close(self) -> None:
        self.drift.tell(self._card.name)
        self._card.close()

    def _put(self, pcm: bytes) -> None:
        self._waiting += pcm
        frame = self.card_format.frame_bytes
        whole = len(self._waiting) // frame * frame
        period = self._card.period_frames * frame
        for start in range(0, whole, period):
            self._give(bytes(self._waiting[start : min(start + period, whole)]))
        del self._waiting[:whole]

    def _give(self, piece: bytes) -> None:
        """At most one period of the card, of whole frames."""
        dry_at = None
        if not self._playing:
            self._card.start()
        else:
            dry_at = self._look()
        self._playing = True
        self._card.write(piece)
        if dry_at is not None and time.monotonic() > dry_at:
            self.drift.pause()  # this machine stood still for so long that the card may have been dry before the piece
        self._accepted += len(piece) // self.card_format.frame_bytes

    def _look(self) -> float | None:
        """Before it gets more: has it run dry, and how far has it come? Returns when it will have run dry, if it has
        not."""
        room, now = self._card.look()
        holds = self._card.buffer_frames - room
        if holds > 0:
            self.drift.at(self._accepted - holds, now)
            return now + holds / self.card_format.rate
        self.drift.pause()  # its counter stands still while it is dry
        if not self._draining:
            self.underruns += 1
        return None

    def _room_wanted(self) -> int:
        """PortAudio waits for so many free frames, however few are written."""
        return min(self._card.period_frames, self._card.buffer_frames)

    def _for_card(self, pcm: bytes) -> bytes:
        channels, card = self.format.channels, self.card_format.channels
        if channels == card:
            return pcm
        return to_mono(pcm, channels) if card == 1 else to_stereo(pcm)

    def _new_resampler(self) -> Resampler:
        return _resampler(self._card, self.format.rate, self.card_format.rate, self.format.channels)


def _resampler(card: CardStream, from_rate: int, to_rate: int, channels: int) -> Resampler:
    try:
        return Resampler(from_rate, to_rate, channels)
    except AudioError:  # its library is missing: the card must not stay open behind the error
        card.close()
        raise
