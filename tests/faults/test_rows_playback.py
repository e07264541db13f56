"""Rows 17, 18, 58, 66 and 68: jitter, a slow connection, hush, a service in real time, and interruptions."""

from __future__ import annotations

import base64
import json
import random
import statistics
import threading
import time
from array import array
from collections.abc import Iterator

import pytest
from support.fault_rows import Record
from support.local_server import LocalServerProcess
from support.proxy import Proxy, Toxics
from support.scripted import TEXT, Peer, Scripted, frame
from support.speaker_harness import PERIOD_SECONDS, SpeakerHarness
from support.speech_harness import SpeechHarness
from support.speech_services import accept_session, client_messages, frames_of
from support.timing import MAX_TRIES, DelayMonitor, undisturbed
from support.vcard import VirtualCard

from agent.audio.devices.device import open_sink
from agent.audio.format import Format
from agent.pipeline.events import PlaybackStarted, UtteranceCancelled, UtterancePlayed
from agent.pipeline.playback.jitter_buffer import JitterBuffer
from agent.server.tts import tone

RATE = 22050
FORMAT = Format(RATE)
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    with LocalServerProcess(tmp_path_factory.mktemp("server"), "--speech", "tone", "--recognition", "none") as running:
        yield running


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    arguments = ("--speech", "tone", "--recognition", "none", "--pace", "1.0")
    with LocalServerProcess(tmp_path_factory.mktemp("paced"), *arguments) as running:
        yield running


def test_17_jitter_loses_no_sample(paced: LocalServerProcess, record_row: Record) -> None:
    """A service that sends in real time, each chunk 100 to 500 ms late.

    ``scripts/bench jitter`` compares the gaps with the unavoidable ones, on a simulated clock: on a real one a busy
    machine causes gaps as well.
    """
    text = " ".join(WORDS[:4])
    gaps, arrival_gaps = [], []
    toxics = Toxics(latency_seconds=0.3, jitter_seconds=0.2)
    with Proxy(paced.port, down=toxics, seed=17) as proxy, SpeechHarness(proxy.port) as harness:
        for _ in range(2):
            utterance = harness.begin(text)
            end = harness.end(utterance)
            assert isinstance(end, UtterancePlayed) and end.seconds == FORMAT.seconds_of(len(tone.pcm(text, RATE)))
            gaps.append(harness.underruns(utterance).times)
            arrival_gaps.append(count_arrival_gaps(harness.arrivals[utterance]))
    record_row(17, f"2 utterances, every sample played: {sum(gaps)} gaps, on arrival {sum(arrival_gaps)}")


@pytest.mark.slow
@pytest.mark.parametrize("jitter_seconds", [0.0, 0.01])
@pytest.mark.parametrize("piece_seconds", [0.04, 0.1, 0.2])
def test_66_a_service_in_exact_real_time_plays_without_inserted_silence(
    record_row: Record, piece_seconds: float, jitter_seconds: float
) -> None:
    """Utterances during which the machine delays a thread by more than 10 ms are not judged."""
    generator, count, judged, gaps = random.Random(66), round(1.2 / piece_seconds), 0, 0
    pcm = bytes(FORMAT.bytes_of(piece_seconds))

    def script(peer: Peer) -> None:
        session = accept_session(peer, "neuphonic")
        assert session is not None
        for message in client_messages(peer):
            answers = frames_of(session.receive(message))
            began = time.monotonic()
            for index in range(count if answers else 0):
                due = began + index * piece_seconds + generator.uniform(0.0, jitter_seconds)
                peer.over.wait(max(0.0, due - time.monotonic()))
                data = {"audio": base64.b64encode(pcm).decode(), "sampling_rate": RATE, "stop": False}
                peer.send(frame(TEXT, json.dumps({"data": data}).encode()))
            for each in answers[-1:]:
                peer.send(each)

    with Scripted(script) as server, SpeechHarness(server.port) as harness, DelayMonitor() as monitor:
        for _ in range(8):
            monitor.worst_seconds = 0.0
            utterance = harness.begin("One.")
            assert isinstance(harness.end(utterance), UtterancePlayed)
            if monitor.worst_seconds <= 0.01:
                judged += 1
                gaps += harness.underruns(utterance).times
    assert gaps == 0
    record_row(66, f"pieces of {piece_seconds} s, jitter {jitter_seconds} s: {gaps} gaps in {judged} of 8 utterances")


def count_arrival_gaps(arrivals: list[tuple[float, int]]) -> int:
    """Return the number of gaps of a player that plays on arrival."""
    gaps, lateness, received = 0, 0.0, 0
    for at, nbytes in arrivals:
        now = at - arrivals[0][0] - FORMAT.seconds_of(received)
        if now > lateness + 0.001:
            gaps, lateness = gaps + 1, now
        received += nbytes
    return gaps


def test_18_a_slow_connection_plays_with_few_underruns(server: LocalServerProcess, record_row: Record) -> None:
    text = " ".join(WORDS[:4])
    with (
        Proxy(server.port, down=Toxics(bytes_per_second=8000, slice_bytes=400)) as proxy,
        SpeechHarness(proxy.port) as harness,
    ):
        used, began = time.process_time(), time.monotonic()
        utterance = harness.begin(text)
        end = harness.end(utterance)
        used, took = time.process_time() - used, time.monotonic() - began
        assert isinstance(end, UtterancePlayed) and end.seconds == FORMAT.seconds_of(len(tone.pcm(text, RATE)))
        on_arrival = count_arrival_gaps(harness.arrivals[utterance])
        underruns = harness.underruns(utterance)
    assert 1 <= underruns.times <= on_arrival
    assert used < 0.35 * took, "the proxy included"
    gaps = f"{underruns.times} gaps, {underruns.silence_seconds:.1f} s of silence"
    record_row(18, f"{end.seconds:.1f} s in {took:.1f} s: {gaps}; {used / took:.0%} of a core with the proxy")


@pytest.mark.slow
def test_58_no_old_audio_is_played_after_a_hush(server: LocalServerProcess, record_row: Record) -> None:
    """Hushes at random moments: dialing, waiting for audio, buffering, playing, draining.

    The audio between two hushes is the beginning of the utterance that was started between them.
    """
    made = random.Random(58)
    took, phases = [], set()
    with SpeechHarness(server.port) as harness:
        for number in range(60):
            text = f"{WORDS[number % len(WORDS)]} {number}"
            audio_of = tone.pcm(text, RATE)
            since = len(harness.heard)
            utterance = harness.begin(text)
            while number % 3 == 0 and (utterance, "PlaybackStarted") not in harness.moments:
                harness.next_event()
            threading.Event().wait(made.uniform(0.0, 0.45) * made.random())
            began = time.monotonic()
            harness.synthesizer.cancel_all("a test")
            end = harness.end(utterance)
            took.append(time.monotonic() - began)
            heard = bytes(harness.heard[since:])
            assert audio_of.startswith(heard)
            phases.add(type(end).__name__ + ("" if heard else " unheard"))
        last = harness.begin("the last one")
        since = len(harness.heard)
        assert isinstance(harness.end(last), UtterancePlayed)
        assert bytes(harness.heard[since:]) == tone.pcm("the last one", RATE)
    assert {"UtteranceCancelled", "UtteranceCancelled unheard"} <= phases
    usual = statistics.median(took)
    assert usual < 0.5
    record_row(
        58, f"60 hushes in every phase: 0 old samples afterwards, each reported once, usually {usual * 1000:.0f} ms"
    )


@pytest.mark.parametrize("is_streamed", [False, True], ids=["one passage", "a passage for each sentence"])
def test_68_nothing_is_skipped_after_an_interruption(
    server: LocalServerProcess, record_row: Record, is_streamed: bool
) -> None:
    """An important utterance at random moments: the interrupted one is heard again from the start of a sentence."""
    made = random.Random(68)
    sentences = ["One two. ", "Three four five. ", "Six seven. "]
    starts = [len(tone.pcm("".join(sentences[:number]), RATE)) for number in range(len(sentences))]
    whole, alarm = tone.pcm("".join(sentences), RATE), tone.pcm("Fire.", RATE)
    repeated = []
    with SpeechHarness(server.port) as harness:
        for _ in range(MAX_TRIES):
            since = len(harness.heard)
            utterance = harness.begin(None if is_streamed else "".join(sentences))
            for sentence in sentences if is_streamed else ():
                harness.synthesizer.append_text(utterance, sentence)
            harness.synthesizer.complete(utterance)
            while (utterance, "PlaybackStarted") not in harness.moments:
                harness.next_event()
            threading.Event().wait(made.uniform(0.0, 1.3))
            harness.synthesizer.suspend(utterance, "an alarm")
            important = harness.begin("Fire.")
            interrupted = harness.end(utterance)
            assert isinstance(harness.end(important), UtterancePlayed)
            before, _, _ = bytes(harness.heard[since:]).partition(alarm)
            if not isinstance(interrupted, UtteranceCancelled):
                continue  # it had ended
            resumed = len(harness.heard)
            del harness.ends[utterance]
            harness.synthesizer.resume(utterance, interrupted.seconds)
            assert isinstance(harness.end(utterance), UtterancePlayed)
            if harness.underruns(utterance).times or harness.underruns(important).times:
                continue  # a busy machine inserts silence and reports it
            rest = bytes(harness.heard[resumed:])
            start = len(whole) - len(rest)
            assert whole.startswith(before)
            assert whole.endswith(rest) and start in starts and start <= len(before)
            repeated.append(FORMAT.seconds_of(len(before) - start))
            if len(repeated) == 3:
                break
    assert repeated
    record_row(68, f"{len(repeated)} interruptions: 0 samples skipped, {statistics.mean(repeated):.2f} s heard again")


def test_58_frequent_hushes_leave_every_utterance_with_one_end(server: LocalServerProcess, record_row: Record) -> None:
    over = threading.Event()

    def storm() -> None:
        for _ in range(150):
            harness.synthesizer.cancel_all("a button")
            if over.wait(0.02):
                return

    with SpeechHarness(server.port) as harness:
        pressing = threading.Thread(target=storm)
        pressing.start()
        begun = []
        while pressing.is_alive():
            begun.append(harness.begin(WORDS[len(begun) % len(WORDS)]))
            pressing.join(0.01)
        harness.synthesizer.cancel_all("a button")
        ends = [harness.end(utterance) for utterance in begun]

        def speak() -> tuple[str, bytes]:
            since = len(harness.heard)
            last = harness.begin("the last one")
            assert isinstance(harness.end(last), UtterancePlayed)
            return last, bytes(harness.heard[since:])

        # A busy machine inserts silence and reports it.
        _, sound = undisturbed(speak, lambda spoken: harness.underruns(spoken[0]).times)
        assert sound == tone.pcm("the last one", RATE)
    cancelled = sum(isinstance(end, UtteranceCancelled) for end in ends)
    assert cancelled >= 0.5 * len(begun)
    record_row(
        58, f"150 hushes in 3 s: {len(begun)} utterances, {cancelled} cancelled, each reported once, the next whole"
    )


@pytest.mark.slow
def test_58_a_card_is_silent_after_a_hush(card: VirtualCard, record_row: Record) -> None:
    """On the exact record of a card: every sample encodes its utterance, and the sink records when it stopped."""
    format = Format(24000)
    made = random.Random(200)
    stopped: list[float] = []
    waits = []

    def open(wanted: Format) -> DropRecorder:
        return DropRecorder(open_sink("speaker", wanted, PERIOD_SECONDS, 0.1), stopped)

    with SpeakerHarness(format, open, jitter_buffer=JitterBuffer(0.0)) as harness:
        for number in range(200):
            harness.say(numbered(number, round(made.uniform(0.05, 0.6) * format.rate)))
            assert isinstance(harness.event(), PlaybackStarted)
            threading.Event().wait(made.uniform(0.0, 0.2))
            stopped.clear()
            cut = time.monotonic()
            harness.ring.clear("a test")
            if isinstance(harness.end(), UtteranceCancelled):
                waits.append(stopped[0] - cut)
    runs = heard(array("h", card.played()))
    assert len(waits) > 100, "most of them were cut in mid-sound"
    assert sorted(runs) == runs and len(runs) == len(set(runs)), "nothing of an utterance is heard after the next began"
    usual = statistics.median(waits)
    assert usual <= 1.5 * PERIOD_SECONDS, sorted(waits)
    record_row(58, f"{len(waits)} cuts on a card: silent after {usual * 1000:.1f} ms, usually; 0 old samples after it")


class DropRecorder:
    """A sink that records when it was stopped. Not thread-safe; owned by the speaker thread."""

    def __init__(self, sink: object, stopped: list[float]) -> None:
        self._sink, self._stopped = sink, stopped

    def __getattr__(self, name: str) -> object:
        return getattr(self._sink, name)

    def drop(self) -> None:
        self._sink.drop()  # type: ignore[attr-defined]
        self._stopped.append(time.monotonic())


def numbered(number: int, frames: int) -> bytes:
    """Return an utterance whose samples are alternately ``1 + number`` and its negative."""
    return array("h", [(1 + number) * (1 if frame % 2 == 0 else -1) for frame in range(frames)]).tobytes()


def heard(record: array[int]) -> list[int]:
    """Return the numbers of the utterances in the record, one per uninterrupted run."""
    runs: list[int] = []
    for sample in record:
        if sample and (not runs or runs[-1] != abs(sample) - 1):
            runs.append(abs(sample) - 1)
    return runs
