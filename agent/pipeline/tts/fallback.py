"""Decides the order of the speech services for an utterance, and records its progress through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from agent.audio.format import Format
from agent.pipeline.playback.ring_buffer import Playout
from agent.pipeline.utterance import Urgency, Utterance
from agent.services.connection.closing import BackgroundCloser
from agent.services.connection.standby import Standby
from agent.system.threads import Deadline

if TYPE_CHECKING:  # the synthesizer imports the text modules after the start of the daemon
    from agent.pipeline.text.passages import PassageSplitter
    from agent.pipeline.tts.phrase_file import Phrase
    from agent.pipeline.tts.phrases import Recording
    from agent.pipeline.tts.position import SpokenPosition


class ServiceChain:
    """The speech services in the order in which they are tried.

    Not thread-safe; owned by the synthesizer thread, like its standby connections.

    Attributes:
        services: The services for new utterances. Replaced services stay open until no utterance uses them.
    """

    def __init__(self, services: list[Standby], closer: BackgroundCloser) -> None:
        self.services = services
        self._replaced: list[Standby] = []
        self._closer = closer

    def all(self) -> list[Standby]:
        """Return all services that are open, including replaced ones."""
        return [*self.services, *self._replaced]

    def for_utterance(self, utterance: Utterance) -> list[Standby]:
        """Return the services for an utterance, in the order in which they are tried.

        The service that the utterance names comes first. If the utterance names a voice, an additional standby with
        this voice comes before it; that standby is closed when no utterance uses it.
        """
        delivery = utterance.delivery
        is_reply, name = utterance.turn > 0, delivery.service
        usable = [each for each in self.services if is_reply or not each.is_reserved or each.service == name]
        services = sorted(usable or self.services, key=lambda standby: standby.service != delivery.service)
        if delivery.voice is not None and services and services[0].with_voice is not None:
            other = services[0].with_voice(delivery.voice)
            self._replaced.append(other)
            services.insert(0, other)
        return services

    def replace(self, services: list[Standby]) -> None:
        """Use other services for new utterances."""
        self._replaced += self.services
        self.services = services

    def close_unused(self, used: Iterable[Standby]) -> None:
        """Close the replaced services that are not in ``used``."""
        if not self._replaced:
            return
        needed = list(used)
        for standby in self._replaced:
            if standby not in needed:
                self._closer.close_standby(standby)
        self._replaced = [standby for standby in self._replaced if standby in needed]


class SynthesisJob:
    """One utterance in progress. It keeps all passages, because the next service needs them again if a service fails.

    Not thread-safe; owned by the synthesizer thread.
    """

    def __init__(self, utterance: Utterance, services: list[Standby], splitter: PassageSplitter) -> None:
        self.utterance = utterance
        self.remaining_services = services  # not yet failed; the first one is in use
        self.splitter = splitter
        self.passages: list[str] = []
        self.is_complete = False  # whether no more text follows
        self.done_count = 0  # passages that the service in use has spoken
        self.stream_id: int | None = None
        self.format: Format | None = None  # of the stream; the audio of later sessions is converted to it
        self.position: SpokenPosition | None = None  # boundaries in the audio of the stream; None if not recorded
        self.is_resumed = False  # whether it continues after a suspension
        self.spoken_before: list[str] = []  # sentences that were heard before the last suspension
        self.phrase: Phrase | None = None  # the stored audio of the text; after a suspension, the rest of it
        self.has_audio = False  # whether speech has arrived since the last start
        self.has_sought_phrase = False  # for the service in use
        self.recording: Recording | None = None  # of audio that may become a phrase
        self.is_last_retry = False  # whether the last service is being tried again
        self.attempt_started_at: float | None = None  # earlier failures of a service do not count for this attempt
        self.deadline = Deadline(None)  # of the wait for a connection, or for a busy service
        self.retry_delay = Deadline(None)  # until a busy service is tried again
        self.keeps_deadline = False  # a busy service is retried within the deadline that its first refusal started
        self.failures: list[str] = []
        self.is_refused = False  # whether a service that works refused the text

    def end_text(self) -> None:
        """Mark the text as complete; idempotent."""
        if not self.is_complete:
            self.passages += self.splitter.flush()
            self.is_complete = True

    @property
    def playout(self) -> Playout:
        """The playback options: there are pauses between announcements; an important one does not wait for a pause."""
        utterance = self.utterance
        is_announcement = utterance.turn == 0
        waits = is_announcement and utterance.urgency is not Urgency.IMPORTANT and not self.is_resumed
        return Playout(utterance.delivery.volume, waits_for_pause=waits, starts_pause=is_announcement)

    def mark_spoken(self, passages: int) -> None:
        """Note that all audio of the first ``passages`` passages was written to the stream."""
        if self.position is not None:
            self.position.mark(passages)

    def played_text(self, played_seconds: float, split: Callable[[str], list[str]]) -> str:
        """Return the text that was played so far.

        Args:
            played_seconds: The length of the audio of the last stream that was played.
            split: Returns the sentences of a passage.
        """
        sentences = [split(passage) for passage in self.passages]
        played = [] if self.position is None else self.position.played_sentences(sentences, played_seconds)
        return " ".join([*self.spoken_before, *played])

    def resume(self, played_seconds: float, services: list[Standby], split: Callable[[str], list[str]]) -> None:
        """Prepare the utterance for another stream, which begins with the interrupted sentence.

        Args:
            played_seconds: The length of the audio of the last stream that was played.
            services: The services to try.
            split: Returns the sentences of a passage.
        """
        if self.position is not None:
            self.is_resumed = True
            sentences = [split(passage) for passage in self.passages]
            self.passages = self.position.rest(sentences, played_seconds)
            self.spoken_before += self.position.spoken(sentences, played_seconds)
            if self.phrase is not None:
                start = self.phrase.format.bytes_of(self.position.rest_start_seconds(sentences, played_seconds))
                self.phrase = self.phrase._replace(pcm=self.phrase.pcm[start:])
        self.stream_id, self.format, self.position, self.recording = None, None, None, None
        self.has_sought_phrase = False
        self.done_count, self.has_audio, self.is_last_retry = 0, False, False
        self.remaining_services, self.failures, self.attempt_started_at = services, [], None
        self.reset_deadline()

    def reset_deadline(self) -> None:
        """Cancel the timeout and the retry delay: audio has arrived, or another service is tried."""
        self.deadline, self.retry_delay, self.keeps_deadline = Deadline(None), Deadline(None), False

    def try_next_service(self, reason: str, *, is_connection_lost: bool = False) -> None:
        """Go to the next service, and start again with the first passage.

        The last service gets one retry if its connection was lost, because the connection may have been stale. An
        utterance that is already audible is not started again: all services are removed.

        Args:
            reason: Why the service in use failed.
            is_connection_lost: Whether the end of its connection is the cause.
        """
        failed = self.remaining_services.pop(0)
        self.failures.append(reason)
        if is_connection_lost and not self.remaining_services and not self.is_last_retry:
            self.is_last_retry, self.attempt_started_at = True, None
            self.remaining_services = [failed]
        self.done_count, self.has_sought_phrase = 0, False
        self.reset_deadline()
        if self.has_audio:
            self.remaining_services.clear()

    def is_worth_waiting(
        self, standby: Standby, *, is_first_try: bool, are_others_open: bool, limit_seconds: float
    ) -> bool:
        """Return whether to wait for the service in use, whose last attempt failed, instead of trying the next one.

        Args:
            standby: The service.
            is_first_try: Whether the service has not failed since this utterance began to wait for it.
            are_others_open: Whether the circuit breakers of all other services are open.
            limit_seconds: The timeout for the first audio. A service that has been failing for a shorter time may
                recover.
        """
        is_last = len(self.remaining_services) == 1 or self.has_audio
        if standby.is_dialing and (is_last or are_others_open):
            return True
        error = standby.error
        if error is None or not is_last:
            return False
        if error.is_busy:
            return True  # the service will accept a later attempt
        if error.permanent:
            return False
        if self.has_audio or is_first_try:
            return True  # the error is older than this attempt, and the service may work again
        # A service that has been failing for a longer time gets one attempt for each utterance.
        return error.is_transient and standby.failed_at < standby.failing_since + limit_seconds

    def wait_for(self, standby: Standby, retry_seconds: float, limit_seconds: float) -> bool:
        """Return whether to wait for the service in use. If it cannot be ready in time, go to the next service.

        Starts the deadline at the first call.

        Args:
            standby: The service.
            retry_seconds: The time until the service is tried again.
            limit_seconds: The timeout for the first audio, and for a connection.
        """
        if self.deadline.remaining() is None:
            self.deadline = Deadline(limit_seconds)
        limit, error = f"{limit_seconds:g} s", standby.error
        if error is not None and retry_seconds > (self.deadline.remaining() or 0.0):
            rest = "the" if retry_seconds > limit_seconds else "the rest of the"
            if standby.is_eager:
                when = f"the next retry is in {retry_seconds:.0f} s, after {rest} {limit} for the first audio"
            elif error.retry_after_seconds is not None:
                when = f"it asks for a delay of {retry_seconds:.0f} s, longer than {rest} {limit} for the first audio"
            else:
                when = f"attempts within {limit}: {standby.failed_attempts}"
            self.try_next_service(f"{error}; {when}")
            return False
        if self.deadline.is_expired:
            cause = f"{error}; " if error is not None else f"{standby.service}: "
            self.try_next_service(f"{cause}no connection within {limit}")
            return False
        return True
