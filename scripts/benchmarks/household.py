"""Runs an assistant through a scripted day of a household and checks that no turn is lost without a record.

    scripts/bench household [--minutes 30] [--json]

A daemon with a wake word listens and speaks through the virtual card. The local server recognizes and speaks. The
daemon reaches it through a proxy, which is its network; a second local server is the voice without a network. Another
program plays music at PulseAudio, which the daemon ducks. Voices of flite and espeak-ng speak 200 times in 30 minutes;
each spoken sentence is a turn:

- *wake*: the wake word and a question in one breath; *music*: the same while music plays;
- *follow-up*: a question right after a reply, without the wake word;
- *barge-in*: a question interrupts the reply; *stop word*: "stop" ends it; *hush*: a command ends it;
- *button*: a press ends the reply, another one opens the microphone for a question; *listen*: the same by the command;
- *important*: an important announcement interrupts the reply, which continues;
- *unplugged*: the sound card disappears during the question; *offline*: the network is down during the question.

Each turn ends *as intended*, or *recorded* with another end (a failed utterance, a lost device or service, a
transcript without words, a near miss, or the time for a follow-up was over before the script spoke), or it is *lost*
without a trace in the events. A question with the wake word that is answered although no word was found is asked again:
on a busy machine the daemon may process audio from the time for a follow-up. The virtual card keeps what the daemon
reads late, so that each sentence reaches it whole. After a fault the daemon has to answer again without help. Memory,
threads and descriptors are those of the idle daemon in the first and in the last quarter of the run.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from support import noise
from support.local_server import LocalServerProcess
from support.proxy import Proxy, Toxics
from support.sound_server import SoundServer
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.client import Client, ClientError
from scripts.benchmarks._daemon import Daemon, Ready, daemon
from scripts.benchmarks._processes import Size, size
from scripts.benchmarks._report import Column, Result, Table, at_most, progress
from scripts.benchmarks._speech import spoken

MINUTES, TURNS = 30.0, 200
MAX_EXTENSION = 1.2
"""A busy machine, which answers late, may need this much longer for the turns."""
ANSWER_SECONDS = 20.0
"""Longest wait for the answer to a question on a busy machine."""
BACK_SECONDS = 60.0
"""Longest time after a fault until a question is answered."""
OUTAGE_SHARE = 1 / 30
"""The network is down for this share of the run, the sound card for half of it."""
UNPLUGGED_AT, OFFLINE_AT = 0.4, 0.65
"""When the faults begin, as a share of the run."""
MAX_MIB = 4.0
"""Largest growth of the memory of the daemon from the first quarter of the run to the last."""
MAX_OBJECTS = 1
"""The same for its threads and descriptors: a connection in standby may exist or not."""

VOICES = ("flite:slt", "flite:awb", "espeak:en-gb", "espeak:en-us+m3", "espeak:en-gb-x-rp")
"""Voices whose wake word the models find before each question."""
STOP_VOICES = ("flite:awb", "espeak:en-gb", "espeak:en-us+m3")
"""Voices whose "stop" the recognizer understands."""
WORD = "Alexa,"
QUESTIONS = ("what time is it?", "what day is it today?", "who are you?", "what can you do?")
RULES = """responder:
  rules:
  - {pattern: 'time', reply: 'It is {time}. The day has only begun, and there is time enough.'}
  - {pattern: 'day', reply: 'Today is {weekday}, and nothing else is in the calendar of this house.'}
  fallback: 'I tell the time and the day. I can also answer some other questions about this house.'
"""
"""Replies that are long enough to be interrupted."""
FOLLOW_UP_SECONDS = 2.0
BEHIND_SECONDS = 0.5
"""The audio that the daemon processes is usually less old."""
NO_WORD = "answered without the wake word"
MUSIC_SHARE = 0.1
LEAD_SECONDS = 0.3
"""Silence before a question."""
FULL_VOLUME = 65536
KINDS = ("wake", "follow-up", "music", "barge-in", "stop word", "hush", "button", "listen", "important")
WEIGHTS = (5, 4, 3, 4, 3, 1, 3, 1, 2)
RECORDS = ("device", "service", "heard", "near_miss")
"""Events that record why a question has no answer."""


class Turn(NamedTuple):
    """One turn and how it ended: ``as intended``, ``recorded`` or ``lost``, and the seconds until the reply."""

    kind: str
    result: str
    seconds: float | None
    detail: str = ""


class Events:
    """The events of the daemon with their times (``time.monotonic``). Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._client = Client(str(path))
        self._all: list[tuple[float, dict[str, Any]]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, args=(self._client.events(texts=True),), daemon=True).start()

    def _read(self, events: Any) -> None:
        for event in events:
            with self._changed:
                self._all.append((time.monotonic(), event))
                self._changed.notify_all()

    def since(self, at: float) -> list[dict[str, Any]]:
        """Return the events from a time on."""
        with self._changed:
            return [event for when, event in self._all if when >= at]

    def wait(self, at: float, seconds: float, **fields: object) -> tuple[float, dict[str, Any]] | None:
        """Return the first event from a time on with these fields; ``None`` if there is none within the seconds."""
        return self.wait_for(lambda event: all(event.get(name) == value for name, value in fields.items()), at, seconds)

    def wait_for(
        self, is_wanted: Callable[[dict[str, Any]], bool], at: float, seconds: float
    ) -> tuple[float, dict[str, Any]] | None:
        """Return the first event from a time on that is wanted; ``None`` if there is none within the seconds."""

        def find() -> tuple[float, dict[str, Any]] | None:
            return next(((when, event) for when, event in self._all if when >= at and is_wanted(event)), None)

        with self._changed:
            self._changed.wait_for(find, seconds)
            return find()

    def forget(self) -> None:
        """Forget the events so far, so that a long run does not grow."""
        with self._changed:
            self._all.clear()

    def close(self) -> None:
        self._client.close()


class House:
    """The daemon and its surroundings. Not thread-safe."""

    def __init__(
        self, folder: Path, card: VirtualCard, events: Events, network: Proxy, sound_server: SoundServer
    ) -> None:
        self._card, self.events, self._network, self._sound_server = card, events, network, sound_server
        self._path, self._fifo = str(folder / "control.sock"), folder / "button"
        self._random = random.Random(1)
        self._voices, self._stop_voices = cycle(VOICES), cycle(STOP_VOICES)
        self._questions = cycle(QUESTIONS)
        self._music = noise.music(12)
        self._question_ends_at = 0.0
        self.ducked = 0  # replies during which the music of the other program was quiet
        for voice in VOICES:  # spoken once, so that no sentence is late
            for question in QUESTIONS:
                spoken(question, voice)
                spoken(f"{WORD} {question}", voice)
        for voice in STOP_VOICES:
            spoken("Stop.", voice)

    def live(self, kind: str) -> list[Turn]:
        """Speak to the device in one of the ways; return how each spoken sentence ended."""
        self.events.forget()
        ways: dict[str, Callable[[], Iterator[Turn]]] = {
            "wake": self._wake,
            "music": lambda: self._wake(music=True),
            "follow-up": self._follow_up,
            "barge-in": self._barge_in,
            "stop word": self._stop_word,
            "hush": self._hush,
            "button": self._button,
            "listen": self._listen,
            "important": self._important,
        }
        turns = [turn._replace(kind=kind) for turn in ways[kind]()]
        self.await_idle()
        return turns

    def is_music_loud(self) -> bool:
        """Whether the music of the other program has its own volume."""
        return all(volume == FULL_VOLUME for name, volume in self._sound_server.volumes() if name == "music")

    @property
    def _client(self) -> Client:
        """A new connection: the daemon closes one that is idle during a fault."""
        return Client(self._path)

    def await_idle(self) -> None:
        """Wait until the daemon neither listens nor speaks."""
        deadline = time.monotonic() + ANSWER_SECONDS
        at = 0.0
        while self._client.status()["state"] != "idle" and time.monotonic() < deadline:
            found = self.events.wait(at, 1.0, event="state", state="idle")
            at = found[0] + 1e-6 if found else 0.0

    def await_music(self) -> bool:
        """Return whether the music is loud again within the time of an answer."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not (is_loud := self.is_music_loud()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return is_loud

    def during_fault(self, kind: str, begin: Callable[[], None], seconds: float, end: Callable[[], None]) -> Turn:
        """Ask a question while a fault begins; end the fault after the seconds."""
        self.events.forget()
        at = self._call()
        time.sleep(1.0)  # the middle of the question
        begin()
        time.sleep(seconds)
        end()
        turn = self._outcome(at, ("played",))  # audio that is kept during the fault may be answered after it
        self.await_idle()
        return turn._replace(kind=kind)

    def unplug(self) -> None:
        self._card.fault("unplug")

    def plug_in(self) -> None:
        self._card.fault("unplug", on=False)

    def go_offline(self) -> None:
        self._network.up = self._network.down = Toxics(black_hole=True)

    def go_online(self) -> None:
        self._network.up, self._network.down = Toxics(), Toxics()
        self._network.cut()  # a router that has restarted knows no old connection

    # --- the ways to speak

    def _wake(self, music: bool = False) -> Iterator[Turn]:
        turn = self._wake_once(music)
        if turn.result == NO_WORD:  # the daemon was behind: its time for a follow-up was not over
            self.await_idle()
            turn = self._wake_once(music)
        yield turn._replace(result="lost", detail=f"twice {NO_WORD}") if turn.result == NO_WORD else turn

    def _wake_once(self, music: bool) -> Turn:
        at = self._call(music=music)
        turn = self._outcome(at, ("played",))
        if turn.result == "as intended" and self.events.wait(at, 0.0, event="wake") is None:
            return turn._replace(result=NO_WORD)
        return turn

    def _call(self, music: bool = False) -> float:
        """Say the wake word and a question when the time for a follow-up is over; return when that began."""
        time.sleep(FOLLOW_UP_SECONDS + BEHIND_SECONDS)
        at = time.monotonic()
        self._speak(f"{WORD} {next(self._questions)}", music=music)
        return at

    def _follow_up(self) -> Iterator[Turn]:
        yield (first := next(self._wake()))
        if first.result != "as intended":
            return
        played_at = self.events.wait(0.0, 0.0, event="utterance", source="reply", state="played")
        time.sleep(self._random.uniform(0.1, FOLLOW_UP_SECONDS / 3))
        at = time.monotonic()
        self._speak(next(self._questions))
        turn = self._outcome(at, ("played",))
        is_late = played_at is not None and at + LEAD_SECONDS > played_at[0] + FOLLOW_UP_SECONDS
        if turn.result == "lost" and is_late:
            turn = Turn("", "recorded", None, "the script spoke after the time for a follow-up")
        yield turn

    def _during_reply(self, interrupt: Callable[[str], Iterator[Turn]], intended: Sequence[str]) -> Iterator[Turn]:
        """Ask, and interrupt the reply when it is audible; yield the end of both."""
        at = self._call()
        reply = self._await_reply(at)
        if reply is None:
            yield self._outcome(at, ("played",))
            return
        self.ducked += not self.is_music_loud()
        turns = [*interrupt(reply)]
        yield self._outcome(at, intended, reply)
        yield from turns

    def _barge_in(self) -> Iterator[Turn]:
        def ask(reply: str) -> Iterator[Turn]:
            at = time.monotonic()
            self._speak(next(self._questions))
            yield self._outcome(at, ("played",), other_than=reply)

        return self._during_reply(ask, ("cancelled",))

    def _stop_word(self) -> Iterator[Turn]:
        def stop(reply: str) -> Iterator[Turn]:
            at = time.monotonic()
            self._speak("Stop.", next(self._stop_voices))
            heard = self.events.wait(at, ANSWER_SECONDS, event="heard")
            if heard is None:
                yield Turn("", "lost", None, str([event["event"] for event in self.events.since(at)]))
            elif self._await_reply(at, other_than=reply, seconds=1.0) is None:
                yield Turn("", "as intended", None)
            else:
                turn = self._outcome(at, (), other_than=reply)
                yield turn._replace(detail=f"answered as a question, {heard[1]['text']}")

        return self._during_reply(stop, ("cancelled",))

    def _hush(self) -> Iterator[Turn]:
        def hush(reply: str) -> Iterator[Turn]:
            self._client.hush()
            yield from ()

        return self._during_reply(hush, ("cancelled",))

    def _button(self) -> Iterator[Turn]:
        def press(reply: str) -> Iterator[Turn]:
            self._press()
            self.events.wait(0.0, ANSWER_SECONDS, event="utterance", id=reply, state="cancelled")
            self.await_idle()
            at = time.monotonic()
            self._press()
            self.events.wait(at, ANSWER_SECONDS, event="state", state="listening")
            at = time.monotonic()
            self._speak(next(self._questions))
            yield self._outcome(at, ("played",), other_than=reply)

        return self._during_reply(press, ("cancelled",))

    def _press(self) -> None:
        self._fifo.write_text("press\n")

    def _listen(self) -> Iterator[Turn]:
        def listen(reply: str) -> Iterator[Turn]:
            self._client.listen()
            self.events.wait(0.0, ANSWER_SECONDS, event="utterance", id=reply, state="cancelled")
            at = time.monotonic()
            self._speak(next(self._questions))
            yield self._outcome(at, ("played",), other_than=reply)

        return self._during_reply(listen, ("cancelled",))

    def _important(self) -> Iterator[Turn]:
        def announce(reply: str) -> Iterator[Turn]:
            self._client.say("The doorbell rings.", priority="important").wait(ANSWER_SECONDS)
            yield from ()

        return self._during_reply(announce, ("played",))

    # --- what happens

    def _speak(self, text: str, voice: str = "", *, music: bool = False) -> None:
        samples = array("h", spoken(text, voice or next(self._voices)))
        pcm = bytes(SPEECH.bytes_of(LEAD_SECONDS)) + samples.tobytes()
        if music:
            pcm = mixed(pcm, self._music)
        self._question_ends_at = time.monotonic() + SPEECH.seconds_of(len(samples) * 2) + LEAD_SECONDS
        self._card.inject(pcm, SPEECH)

    def _await_reply(self, at: float, *, other_than: str = "", seconds: float = ANSWER_SECONDS) -> str | None:
        """Return the id of the reply when it is audible."""
        started = self.events.wait_for(lambda event: _is_started_reply(event, other_than), at, seconds)
        return None if started is None else str(started[1]["id"])

    def _outcome(self, at: float, intended: Sequence[str], reply: str = "", *, other_than: str = "") -> Turn:
        """Wait for the recorded end of the reply.

        Args:
            at: When the question began.
            intended: The states in which the reply should end.
            reply: The id of the reply if it has started.
            other_than: The id of an earlier reply.
        """

        def is_end(event: dict[str, Any]) -> bool:
            is_reply = event["event"] == "utterance" and event.get("source") == "reply" and "reason" in event
            return is_reply and (event["id"] == reply if reply else event["id"] != other_than)

        ends_at = self._question_ends_at
        started = self.events.wait_for(lambda event: _is_started_reply(event, other_than), at, ANSWER_SECONDS)
        end = self.events.wait_for(is_end, at, ANSWER_SECONDS if started else 0.0)
        if end is not None:
            state, reason = end[1]["state"], end[1]["reason"]
            seconds = None if started is None or reply else started[0] - ends_at
            return Turn(
                "", "as intended" if state in intended else "recorded", seconds, f"the reply was {state} {reason}"
            )
        since = self.events.since(at)
        if started is None and (records := [event for event in since if event["event"] in RECORDS]):
            return Turn("", "recorded", None, str(records[-1]))
        return Turn("", "lost", None, str([event["event"] for event in since]))


def _is_started_reply(event: dict[str, Any], other_than: str = "") -> bool:
    is_started = event["event"] == "utterance" and event["state"] == "started"
    return is_started and "-reply-" in str(event["id"]) and event["id"] != other_than


def mixed(pcm: bytes, music: Sequence[float]) -> bytes:
    """Return the audio with quiet music, which goes on for two seconds after it: 16 kHz mono s16le."""
    samples = array("h", pcm + bytes(SPEECH.bytes_of(2.0)))
    for at, each in enumerate(samples):
        samples[at] = max(-32768, min(32767, each + round(MUSIC_SHARE * music[at % len(music)])))
    return samples.tobytes()


def growth(samples: Sequence[Size]) -> tuple[Size, Size]:
    """Return the medians of the first and of the last quarter, without the first tenth, which imports.

    Args:
        samples: The resources of a process when it was idle, in the order of time.
    """
    kept = samples[len(samples) // 10 :]
    quarter = max(1, len(kept) // 4)
    first, last = kept[:quarter], kept[-quarter:]
    return _median(first), _median(last)


def _median(sizes: Sequence[Size]) -> Size:
    return Size(*(statistics.median(each) for each in zip(*sizes, strict=True)))


def run(minutes: float) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = VirtualCard(folder)
        for part in ("network", "home"):
            (folder / part).mkdir()
        os.mkfifo(folder / "button")
        sound_server = SoundServer(folder / "pulse")
        try:
            sound_server.play("music")
            with (
                LocalServerProcess(folder / "network") as remote,
                LocalServerProcess(folder / "home", "--recognition", "none") as home,
                Proxy(remote.port) as network,
            ):
                config = (
                    f"wake: {{engine: micro, follow_up_seconds: {FOLLOW_UP_SECONDS}}}\n"
                    "conversation: {mode: assistant, listen_while_speaking: true}\nserver: {start: false}\n"
                    "button: {gpio: 17}\nother_audio: {action: duck, volume: 25}\n"
                    "microphone: {device: mic}\nspeaker: {device: speaker}\n"
                    f"transcription: {{url: 'ws://127.0.0.1:{network.port}/', answer_seconds: 8}}\n"
                    "synthesis:\n  services: [neuphonic, local]\n  first_audio_seconds: 3\n"
                    f"  neuphonic: {{url: 'ws://127.0.0.1:{network.port}/speak/en'}}\n"
                    f"  local: {{url: '{home.ws}'}}\n{RULES}"
                )
                variables = {
                    "PULSE_SERVER": sound_server.env["PULSE_SERVER"],
                    **card.env,
                    "VOICE_AGENT_SYNTHESIS__NEUPHONIC__API_KEY": "any",
                    "GPIOZERO_PIN_FACTORY": "mock",
                    "BUTTON_FIFO": str(folder / "button"),
                }
                module = "scripts.benchmarks._button_daemon"
                with daemon(folder, Ready(folder), config, variables, module) as running:
                    events = Events(folder / "control.sock")
                    try:
                        house = House(folder, card, events, network, sound_server)
                        return _live(house, running, remote.process.pid, network, minutes)
                    except Exception as error:
                        raise SystemExit(f"household: {error!r}; {running.log()[-4000:]}") from error
                    finally:
                        events.close()
        finally:
            sound_server.close()


def _live(house: House, running: Daemon, server: int, network: Proxy, minutes: float) -> Result:
    seconds = minutes * 60
    slot = MINUTES * 60 / TURNS
    outage = seconds * OUTAGE_SHARE
    draw, first = random.Random(7), [*KINDS]
    turns: list[Turn] = []
    sizes: dict[str, list[Size]] = {"daemon": [], "server": []}
    recoveries: dict[str, float | None] = {}
    faults = [
        (UNPLUGGED_AT * seconds, "unplugged", house.unplug, outage / 2, house.plug_in),
        (OFFLINE_AT * seconds, "offline", house.go_offline, outage, house.go_online),
    ]
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds * MAX_EXTENSION and len(turns) < minutes / MINUTES * TURNS:
        if faults and elapsed >= faults[0][0]:
            _, kind, begin, lasts, end = faults.pop(0)
            turns.append(house.during_fault(kind, begin, lasts, end))
            recoveries[kind] = _recover(house, turns)
            continue
        kind = first.pop(0) if first else draw.choices(KINDS, WEIGHTS)[0]
        logged = len(running.log())
        try:
            these = house.live(kind)
        except ClientError as error:
            these = [Turn(kind, "lost", None, repr(error))]
        these = [_with_log(turn, running.log()[logged:]) for turn in these]
        turns += these
        for process, pid in (("daemon", running.pid), ("server", server)):
            sizes[process].append(size(pid))
        network.discard_finished()
        for turn in these:
            detail = "" if turn.result == "as intended" else f", {turn.detail}"
            progress(f"household: {elapsed / 60:.1f} min, turn {len(turns)}, {kind}, {turn.result}{detail}")
        time.sleep(max(0.0, len(turns) * slot - (time.monotonic() - began)))
    elapsed_minutes = (time.monotonic() - began) / 60
    return _report(turns, sizes, recoveries, elapsed_minutes, minutes, house)


def _with_log(turn: Turn, log: str) -> Turn:
    """Return the turn; one without events is recorded where the log reports lost audio, and else has its log."""
    if turn.result != "lost":
        return turn
    if gaps := [line for line in log.splitlines() if " gap: " in line]:
        return turn._replace(result="recorded", detail=gaps[0])
    return turn._replace(detail=f"{turn.detail} {log[-1000:]!r}")


def _recover(house: House, turns: list[Turn]) -> float | None:
    """Ask until the daemon answers; return the seconds since the end of the fault, ``None`` if it stays deaf."""
    began = time.monotonic()
    while time.monotonic() - began < BACK_SECONDS:
        turns += house.live("wake")
        if turns[-1].result == "as intended":
            return time.monotonic() - began
    return None


def _report(
    turns: Sequence[Turn],
    sizes: dict[str, list[Size]],
    recoveries: dict[str, float | None],
    elapsed_minutes: float,
    minutes: float,
    house: House,
) -> Result:
    is_restored = house.await_music()
    wanted = minutes / MINUTES * TURNS
    kinds: dict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        kinds[turn.kind].append(turn)
    rows: list[tuple[Any, ...]] = []
    for kind, its_turns in kinds.items():
        results = [sum(turn.result == result for turn in its_turns) for result in ("as intended", "recorded", "lost")]
        seconds = [turn.seconds for turn in its_turns if turn.seconds is not None]
        rows.append(
            (kind, len(its_turns), *results, *((statistics.median(seconds), max(seconds)) if seconds else (None, None)))
        )
    rows.append(("all", len(turns), *(sum(row[column] for row in rows) for column in (2, 3, 4)), None, None))
    grown = {process: growth(samples) for process, samples in sizes.items()}
    resources = [
        (f"{process}, {name} quarter", *its_size)
        for process, pair in grown.items()
        for name, its_size in zip(("first", "last"), pair, strict=True)
    ]
    first, last = grown["daemon"]
    lost = sum(turn.result == "lost" for turn in turns)
    notes = [f"{turn.kind}, {turn.result}: {turn.detail}" for turn in turns if turn.result != "as intended"]
    back = {kind: BACK_SECONDS + 1 if seconds is None else seconds for kind, seconds in recoveries.items()}
    return Result(
        [
            Table(
                ("turns",),
                (
                    Column("number", 0),
                    Column("as intended", 0),
                    Column("recorded", 0),
                    Column("lost", 0),
                    Column("end of speech to reply, s, median"),
                    Column("worst"),
                ),
                rows,
            ),
            Table(("after the fault",), (Column("answers again within, s", 1),), [*recoveries.items()]),
            Table(("process",), (Column("memory, MiB", 1), Column("threads", 0), Column("descriptors", 0)), resources),
        ],
        [
            at_most(
                f"{wanted:g} turns", 0, {f"missing in {elapsed_minutes:.1f} minutes": max(0.0, wanted - len(turns))}
            ),
            at_most("no turn is lost without a record", 0, {"turns": lost}),
            at_most("the music is quiet during replies", 0, {"replies without": float(not house.ducked)}),
            at_most("the music is loud at the end", 0, {"not restored": float(not is_restored)}),
            at_most(f"answers at most {BACK_SECONDS:g} s after a fault", BACK_SECONDS, back or {"no fault": 0.0}),
            at_most(f"memory grows by at most {MAX_MIB:g} MiB", MAX_MIB, {"daemon": last.mib - first.mib}),
            at_most("at most one thread more", MAX_OBJECTS, {"daemon": last.threads - first.threads}),
            at_most("at most one descriptor more", MAX_OBJECTS, {"daemon": last.descriptors - first.descriptors}),
        ],
        notes,
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench household", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"length of the run ({MINUTES:g})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    return run(options.minutes).show(as_json=options.json)
