"""The configuration of the microphone, the speaker and the conversation."""

from collections.abc import Callable, Iterator

from agent.config.errors import Finding, suggestion
from agent.config.fields import key, section
from agent.config.rules import Url, input_recording_problem, output_file_problem
from agent.errors import AudioError
from agent.system.named_tuple import NamedTuple

NO_CHIME = "none"
MAX_PAUSE_SECONDS = 10.0
"""Upper limit of the configured silence that ends a turn."""
CHIMES = ("ding", "ding-dong", "gong", "alert")
"""The names of the sounds before an announcement."""


@section
class MicrophoneSettings(NamedTuple):
    """The source of audio."""

    device: str = key(
        "default",
        "default | an ALSA name | part of a card's name | file:PATH.wav | none",
        note="`voice-agent devices` lists the names. An ALSA name looks like plughw:CARD=Device,DEV=0.",
    )
    channel: int = key(1, "channel of a card or file with several of them, such as a microphone array", low=1, high=8)
    gain_db: float = key(
        0.0, "amplification in decibels, for a quiet microphone; too much clips loud speech", low=-20.0, high=40.0
    )
    frame_seconds: float = key(
        0.1, "audio in one message; more saves bandwidth and delays the transcript", low=0.1, high=1.0
    )
    pre_roll_seconds: float = key(
        0.5, "audio before the detected start of speech that is sent too; less may cut off words", low=0.0, high=5.0
    )
    outage_seconds: float = key(
        30.0,
        "audio that is kept while the transcription service is unreachable; a second takes 32 kB of memory",
        low=1.0,
        high=600.0,
    )

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the device."""
        return _check_device(self.device, input_recording_problem)


@section
class SpeakerSettings(NamedTuple):
    """The sink of audio."""

    device: str = key("default", "default | an ALSA name | part of a card's name | file:PATH.wav records | none")
    volume: int = key(100, "playback volume in percent", low=0, high=100)
    period_seconds: float = key(
        0.02,
        "audio in one write to the card, or nearly half of buffer_seconds if that is more; more needs less CPU and"
        " delays the stop",
        low=0.005,
        high=0.2,
    )
    buffer_seconds: float = key(
        0.2, "audio that the card buffers; more survives a busy machine and delays the stop", low=0.02, high=2.0
    )
    prebuffer_seconds: float = key(
        0.1,
        "first playout delay, which then adapts to the network; more avoids gaps, less starts sooner",
        low=0.0,
        high=5.0,
    )
    prebuffer_most_seconds: float = key(
        3.0, "longest playout delay; more bridges a slow network and delays the reply", low=0.0, high=30.0
    )
    wake_seconds: float = key(
        0.0, "silence before each utterance; more helps if the card cuts off the first syllable", low=0.0, high=5.0
    )

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the device and the buffer."""
        yield from _check_device(self.device, _recording_problem)
        if self.buffer_seconds < self.period_seconds:
            what = f"{self.buffer_seconds:g} is less than one period, expected at least {self.period_seconds:g}"
            yield Finding("buffer_seconds", f"{what} (speaker.period_seconds)", None, "period_seconds")


@section
class PauseSettings(NamedTuple):
    """The silence that ends a turn, by the text so far."""

    complete: float | None = key(
        None, "after a text that ends like a sentence or matches a rule; null: 3/7 of unsure", low=0.2, high=5.0
    )
    unsure: float = key(
        0.7, "where the text shows neither; less replies sooner and may interrupt the user", low=0.2, high=5.0
    )
    incomplete: float | None = key(
        None, "after a word that needs another word, or a comma; null: 12/7 of unsure", low=0.2, high=MAX_PAUSE_SECONDS
    )

    @property
    def complete_seconds(self) -> float:
        return max(0.2, 3 / 7 * self.unsure) if self.complete is None else self.complete

    @property
    def incomplete_seconds(self) -> float:
        return 12 / 7 * self.unsure if self.incomplete is None else self.incomplete


@section
class WakeSettings(NamedTuple):
    """The wake word."""

    engine: str = key(
        "none",
        "none: every speech is a question | micro: small neural networks (extra wake) | vosk: any phrase (extra vosk) |"
        " wyoming: a service, which gets the sound; only in mode assistant",
        choices=("none", "micro", "vosk", "wyoming"),
    )
    words: tuple[str, ...] = key(
        ("alexa",),
        "micro: words whose models the package contains (alexa, hey_jarvis, hey_mycroft, okay_nabu) or that own names;"
        " vosk: phrases, such as hey computer; wyoming: names of models of the service. {alexa: rules, hey_jarvis:"
        " openai} names the responder of each",
        pairs=True,
    )
    own: tuple[str, ...] = key((), "files (.json) of your own microWakeWord models, each beside its .tflite")
    model_path: str = key("", "directory of a model of vosk, for the engine vosk and for stop words")
    url: str = key("tcp://127.0.0.1:10400", "address of the service, for the engine wyoming")
    allow_plaintext: bool = key(False, "true: the service may be a public host, and the sound can be heard on the way")
    sensitivity: float = key(0.5, "more finds quieter words and more false ones", low=0.0, high=1.0)
    stop: tuple[str, ...] = key(
        ("auto",),
        "words that end what the device says, where the microphone is open meanwhile; auto: those of the language of"
        " synthesis.text",
    )
    sound: bool = key(True, "true: a short sound follows a wake word after which the user pauses")
    follow_up_seconds: float = key(
        6.0, "time after a reply in which a question needs no wake word; 0: always needed", low=0.0, high=60.0
    )

    @property
    def spoken_words(self) -> tuple[str, ...]:
        """The words without their responders."""
        return tuple(word.partition(":")[0].strip() for word in self.words)

    @property
    def responders(self) -> dict[str, str]:
        """The kind of responder for each word that names one."""
        pairs = (word.partition(":") for word in self.words)
        return {word.strip(): kind.strip() for word, mark, kind in pairs if mark}

    def urls(self) -> Iterator[Url]:
        """Yield the address of the service, if it is used."""
        if self.engine == "wyoming":
            yield Url("url", self.url, ("tcp",))

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the words; looks for the files of the models."""
        if self.engine == "none":
            return
        if self.engine == "vosk" or self.model_path:
            from agent.pipeline.capture.vosk_words import model_problems

            for name, problem in model_problems(self.model_path, self.spoken_words if self.engine == "vosk" else ()):
                yield Finding(name, problem, None, "engine")
        has_word = bool(self.spoken_words)
        if self.engine == "micro":
            from agent.pipeline.capture.wake_word import find_models

            models, problems = find_models(self.spoken_words, self.own)
            has_word = bool(models or problems)
            for problem in problems:
                yield Finding("words", problem)
        if not has_word:
            yield Finding("words", "there is no wake word, expected a word or a file in own")


AUTO = "auto"


@section
class EchoSettings(NamedTuple):
    """The echo canceller, which lets the user interrupt the device."""

    canceller: str = key(
        "none",
        "none: the microphone is shut while the device speaks | speex: libspeexdsp removes the device's own voice",
        choices=("none", "speex"),
    )
    tail_seconds: float = key(0.4, "reverberation of the room that is removed; more needs more CPU", low=0.05, high=1.0)
    delay_seconds: str | float = key(
        AUTO,
        "auto | time from the playback to its echo; auto measures it during the first words",
        choices=(AUTO,),
        low=0.0,
        high=1.0,
    )

    def check(self) -> Iterator[Finding]:
        """Yield an error if the library is missing."""
        if self.canceller == "none":
            return
        from agent.audio.convert import load_speexdsp

        try:
            load_speexdsp()
        except AudioError as error:
            yield Finding("canceller", str(error))


@section
class ConversationSettings(NamedTuple):
    """Turn taking."""

    mode: str = key(
        "assistant",
        "assistant: listen and reply | captions: only listen | announce: only speak",
        choices=("assistant", "captions", "announce"),
    )
    listen_while_speaking: bool = key(
        False, "true: speech interrupts a reply; only for a microphone with echo cancellation"
    )
    interrupt: str = key(
        "never",
        "never | word: a wake word or a stop word interrupts the device | speech: any speech does; both need"
        " echo.canceller",
        choices=("never", "word", "speech"),
    )
    gap_seconds: float = key(0.0, "silence between two announcements", low=0.0, high=60.0)
    chime: str = key(
        NO_CHIME,
        f"{' | '.join((NO_CHIME, *CHIMES))} | file:PATH.wav: sound before an announcement that names none",
    )
    silence_seconds: PauseSettings = key(
        PauseSettings, "silence that ends a turn; a single number means unsure", shorthand="unsure"
    )
    turn_seconds: float = key(
        30.0, "longest turn; a longer one is answered without waiting for silence", low=2.0, high=600.0
    )
    vad: str = key(
        "auto",
        "voice activity detection: energy compares loudness, webrtc the spectrum, silero is a neural network and "
        "the only one that ignores most music; auto is the best one that is installed",
        choices=("auto", "energy", "webrtc", "silero"),
    )
    answer_timeout_seconds: float = key(
        20.0, "longest wait for the first word of a reply; the turn then fails", low=1.0, high=600.0
    )
    filler_seconds: float = key(
        1.5,
        "time without a word of the reply until a short sound says that it is on its way; 0: none",
        low=0.0,
        high=60.0,
    )

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the chime, the interruption and the durations."""
        if self.listen_while_speaking and self.interrupt != "never":
            what = "listen_while_speaking is true too, which means speech without a canceller, expected one of both"
            yield Finding("interrupt", what, None, "listen_while_speaking")
        if self.chime.startswith("file:"):
            if problem := input_recording_problem(self.chime.removeprefix("file:")):
                yield Finding("chime", problem)
        elif self.chime not in (NO_CHIME, *CHIMES):
            choices, close = ", ".join((NO_CHIME, *CHIMES)), suggestion(self.chime, (NO_CHIME, *CHIMES))
            yield Finding("chime", f"{self.chime!r} is no chime, expected one of {choices} or file:PATH.wav", close)
        pauses = self.silence_seconds
        if not pauses.complete_seconds <= pauses.unsure <= pauses.incomplete_seconds:
            what = (
                f"{pauses.complete_seconds:g}, {pauses.unsure:g} and {pauses.incomplete_seconds:g} s are not in order"
            )
            yield Finding("silence_seconds", f"{what}, expected complete <= unsure <= incomplete")
        if pauses.unsure >= self.turn_seconds:
            what = f"{pauses.unsure:g} is no shorter than the longest turn"
            expected = f"expected less than {self.turn_seconds:g}"
            yield Finding("silence_seconds", f"{what}, {expected}", None, "turn_seconds")


def _recording_problem(path: str) -> str | None:
    """Return the problem with the path of the file into which the speaker records; ``None`` if there is none."""
    from agent.audio.wav_writer import check_suffix  # imported only here, because most speakers are cards

    try:
        check_suffix(path)
    except AudioError as error:
        return str(error)
    return output_file_problem(path)


def _check_device(device: str, file_problem: Callable[[str], str | None]) -> Iterator[Finding]:
    if not device.strip():
        yield Finding("device", "the device is empty, expected default, none, file:PATH.wav or a name", "default")
    elif device.startswith("file:") and (problem := file_problem(device.removeprefix("file:"))):
        yield Finding("device", problem)
