"""Distinguishes the user from the echo of the device in the audio of the microphone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from agent.audio.echo.canceller import Block, EchoCanceller, EchoMeasures
from agent.pipeline.capture.detector import Detector
from agent.pipeline.events import EchoChanged, Event, SpeechSuspected

MEASURING, NEVER = "the echo is being measured", "conversation.interrupt is never"
HALF_DUPLEX, WORD, SPEECH = "half-duplex", "word", "speech"

MIN_RETURN_LOSS_DB = 12.0
"""Below this echo return loss, the residual echo is as loud as speech: only a wake word or a stop word interrupts."""
HYSTERESIS_DB = 2.0
MAX_DRIFT_PPM = 500.0
MAX_SEARCH_SECONDS = 10.0

DUCK_BLOCKS, STOP_BLOCKS = 6, 12
"""Blocks of 20 ms with evidence of speech: 120 ms duck the playback, 240 ms stop it."""
HELD_BLOCKS = 6
"""The residual echo reverberates, so the echo that is expected in this many earlier blocks counts as well."""
# A block has evidence of speech above a limit, in decibels relative to the echo: MARGIN_DB above the usual residual
# echo, but at least MIN_LIMIT_DB. Measured in a simulated room: if the residual echo is usually more than 22 dB below
# the echo, its energy was never 12 dB above its usual value for 240 ms. With a minimum of -18 dB instead, two of twenty
# stops took 0.5 s.
MARGIN_DB, MIN_LIMIT_DB = 12.0, -20.0
UNALIGNED_LIMIT_DB = 6.0
"""The limit until the reference is aligned with the echo and the echo return loss is known."""
UNCALIBRATED_LIMIT_DB = -3.0
"""The limit until the drift of the clocks is known, because the filter may lag behind the drift."""
CALIBRATED_LOSS_DB = 30.0
"""A filter that lags behind a drift does not reach this echo return loss."""
CALIBRATION_SECONDS = 20.0
"""Length of the playback that the filter needs to learn the echo path at all frequencies of a voice. Until then the
residual echo of a fricative is as loud as speech."""
MIN_LEVEL = 70.0
"""Root mean square of a block, in units of a 16-bit sample: a lower one is noise."""

REPORTED_DELAY_SECONDS, REPORTED_DRIFT_PPM, REPORTED_LOSS_DB = 0.002, 5.0, 3.0
"""Smaller changes of the measures are not reported."""


class EchoGuard:
    """Cancels the echo in the frames and wraps the detector of voice activity.

    A frame with echo counts as speech only if its energy after the cancellation is higher than that of the usual
    residual echo. Not thread-safe; owned by the recognizer thread.

    Args:
        canceller: Cancels the echo.
        detector: Classifies the frames without echo.
        interrupt: ``never``, ``word`` or ``speech``, as in the configuration.
        report: Receives the events.
    """

    def __init__(
        self, canceller: EchoCanceller, detector: Detector, interrupt: str, report: Callable[[Event], None]
    ) -> None:
        self._canceller, self._detector, self._interrupt, self._report = canceller, detector, interrupt, report
        self._blocks: deque[tuple[float, float]] = deque(maxlen=STOP_BLOCKS + HELD_BLOCKS)  # energy, limit for echo
        self._has_echo = self._is_near = self._is_certain = False  # in the last frame
        self._is_suspected = False
        self._reported: EchoChanged | None = None

    @property
    def starts_segment(self) -> bool:
        """Whether the last frame completes enough user speech for the start of a segment."""
        return self._detector.starts_segment and (self._is_certain or not self._has_echo)

    @property
    def silent_seconds(self) -> float:
        """Silence at the end of the last speech frame, in seconds."""
        return self._detector.silent_seconds

    def clean(self, frame: bytes, position: int) -> bytes:
        """Remove the echo from a frame (16 kHz mono s16le) and return it.

        The canceller works in blocks, so the result may be shorter or longer than ``frame``.

        Args:
            frame: The frame.
            position: Number of its first sample in the stream of the microphone.
        """
        blocks = self._canceller.process(frame, position)
        if blocks:  # otherwise the canceller holds the frame back
            self._has_echo = self._is_near = self._is_certain = False
        for block in blocks:
            self._add(block)
        self._report_measures()
        return b"".join([block.pcm for block in blocks])

    def is_speech(self, frame: bytes) -> bool:
        """Return whether the last frame that ``clean`` returned contains user speech."""
        is_speech = self._detector.is_speech(frame) and (self._is_near or not self._has_echo)
        is_suspected = is_speech and self._has_echo
        if is_suspected != self._is_suspected:
            self._is_suspected = is_suspected
            self._report(SpeechSuspected(is_suspected))
        return is_speech

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        """Pass the result of a segment to the detector."""
        self._detector.report_segment(has_words=has_words, is_cut=is_cut)

    def _add(self, block: Block) -> None:
        if not block.has_echo:
            self._blocks.clear()
            return
        self._has_echo = True
        limit = UNALIGNED_LIMIT_DB
        if block.is_aligned and block.return_loss_db is not None:
            measures = self._canceller.measures
            has_clock = measures.drift_ppm is not None or block.return_loss_db > CALIBRATED_LOSS_DB
            is_calibrated = has_clock and measures.adapted_seconds > CALIBRATION_SECONDS
            limit = max(MIN_LIMIT_DB if is_calibrated else UNCALIBRATED_LIMIT_DB, MARGIN_DB - block.return_loss_db)
        self._blocks.append((block.level**2, block.echo_level**2 * 10 ** (limit / 10) + MIN_LEVEL**2))
        self._is_near |= self._exceeds(DUCK_BLOCKS)
        self._is_certain |= self._exceeds(STOP_BLOCKS)

    def _exceeds(self, count: int) -> bool:
        """Return whether the last ``count`` blocks have more energy than the residual echo can have."""
        blocks = [*self._blocks][-count - HELD_BLOCKS :]
        if len(blocks) < count:
            return False
        return sum(level for level, _ in blocks[-count:]) > sum(expected for _, expected in blocks)

    # --- the mode

    def _report_measures(self) -> None:
        measures = self._canceller.measures
        mode, reason = self._mode(measures)
        is_problem = mode == HALF_DUPLEX and reason not in (NEVER, MEASURING)
        event = EchoChanged(
            mode, reason, measures.delay_seconds, measures.drift_ppm, measures.return_loss_db, is_problem
        )
        if self._reported is None or _differs(event, self._reported):
            self._reported = event
            self._report(event)

    def _mode(self, measures: EchoMeasures) -> tuple[str, str]:
        if self._interrupt == "never":
            return HALF_DUPLEX, NEVER
        if measures.drift_ppm is not None and abs(measures.drift_ppm) > MAX_DRIFT_PPM:
            return HALF_DUPLEX, f"the clocks of the sound cards differ by more than {MAX_DRIFT_PPM:.0f} ppm"
        if measures.delay_seconds is None and measures.searched_seconds > MAX_SEARCH_SECONDS:
            return HALF_DUPLEX, f"no echo was found in {MAX_SEARCH_SECONDS:.0f} s of playback"
        if measures.delay_seconds is None or measures.return_loss_db is None:
            return HALF_DUPLEX, MEASURING
        was_weak = self._reported is not None and self._reported.mode == WORD and self._interrupt == SPEECH
        limit = MIN_RETURN_LOSS_DB + (HYSTERESIS_DB if was_weak else 0.0)
        if measures.return_loss_db < limit:
            return WORD, f"the echo return loss is below {MIN_RETURN_LOSS_DB:.0f} dB"
        if measures.adapted_seconds < CALIBRATION_SECONDS:
            return WORD, MEASURING
        return self._interrupt, ""


def _differs(new: EchoChanged, old: EchoChanged) -> bool:
    pairs = (
        (new.delay_seconds, old.delay_seconds, REPORTED_DELAY_SECONDS),
        (new.drift_ppm, old.drift_ppm, REPORTED_DRIFT_PPM),
        (new.return_loss_db, old.return_loss_db, REPORTED_LOSS_DB),
    )
    return (new.mode, new.reason) != (old.mode, old.reason) or any(
        (first is None) != (second is None) or (first is not None and second is not None and abs(first - second) > step)
        for first, second, step in pairs
    )
