"""The control socket: what ``voice-agent say``, ``hush``, ``status`` and ``volume`` use to reach a running daemon."""

from __future__ import annotations

import itertools
import logging
import os
import select
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from agent import __version__
from agent.errors import ConfigError
from agent.frontends.control.peer import Caller, Draft, Pace, WaitPolicy
from agent.frontends.control.unix_socket import Peer, UnixListener
from agent.frontends.frontend import Frontend, News
from agent.pipeline.conversation import Record
from agent.pipeline.events import (
    Announce,
    Event,
    Hush,
    MicrophoneMute,
    Mute,
    TextComplete,
    TextPiece,
    Utterance,
    Volume,
)
from agent.pipeline.status import Status
from agent.system.text import MAX_TEXT_CHARACTERS
from agent.system.threads import Deadline, Mailbox

log = logging.getLogger(__name__)

MOST_CALLERS, MOST_WAITING = 8, 64  # who only waits until its text has been said does not keep anybody out
MOST_USERS_TOLD = 100
ROUND_SECONDS = 1.0
CALLS_PER_SECOND = 200.0
DEAF_SECONDS = 1.0
LAST_WORDS_SECONDS = 1.0


class _Signal(Enum):
    SHUT = auto()
    STOP = auto()
    ABORT = auto()


class Control(Frontend):
    """One thread, one poll loop, at most eight callers, not counting those whose text waits to be said; none of them
    can make another, or the sound, wait.

    ``path`` is where it listens. ``required``: whether a socket that cannot be made there is a mistake (``ConfigError``
    from ``open``) or only a warning, after which the daemon goes on without it. What is asked for is in
    ``agent.frontends.control.requests``; each line is answered by one, and each utterance by one more when it has
    ended.
    """

    def __init__(
        self, path: Path, report: Callable[[Event], None], *, required: bool = True, patience: WaitPolicy | None = None
    ) -> None:
        super().__init__("control", report)
        self._listener = UnixListener(path)
        self._required = required
        self._patience = patience or WaitPolicy()
        self._mailbox: Mailbox[News | _Signal] = Mailbox()
        self._callers: dict[int, Caller] = {}  # by file descriptor
        self._status: Status | None = None
        self._calls = Pace(CALLS_PER_SECOND)
        self._deaf = Deadline(0.0)  # until then nobody is accepted: there was no room in the process
        self._refused: set[int] = set()
        self._shut = False
        self._ending: _Signal | None = None
        run = os.urandom(6).hex()
        self._ids = (f"{run}-control-{number}" for number in itertools.count(1))

    # --- from the main thread

    def open(self) -> None:
        try:
            self._listener.open()
        except ConfigError as error:
            if self._required:
                raise
            log.warning("no control socket: %s", error)
        else:
            log.info("control socket: %s", self._listener.path)

    def tell(self, news: News) -> None:
        self._mailbox.put(news)

    def shut(self) -> None:
        if self.ident is None:
            self._listener.close()
        self._mailbox.put(_Signal.SHUT)

    def stop(self) -> None:
        self._mailbox.put(_Signal.STOP)

    def abort(self) -> None:
        self._mailbox.put(_Signal.ABORT)

    # --- the thread

    def run(self) -> None:
        try:
            while self._ending is None:
                self.heartbeat()
                self._round(ROUND_SECONDS)
            if self._ending is _Signal.STOP:
                self._last_words()
        finally:
            self._listener.close()
            for caller in self._callers.values():
                caller.close()
            self._callers.clear()
            self._mailbox.close()

    def _round(self, longest_seconds: float) -> None:
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        waits = [longest_seconds]
        if self._listens():
            poll.register(self._listener, select.POLLIN)
        elif not self._shut:
            waits.append(max(self._deaf.remaining() or 0.0, self._calls.wait_seconds()))
        for descriptor, caller in self._callers.items():
            if not caller.held_back or caller.unread:
                poll.register(descriptor, caller.interest())
            waits += [wait for wait in (caller.timeout(),) if wait is not None]
        ready = dict(poll.poll(max(0.0, min(waits)) * 1000 + 1))
        for letter in self._mailbox.take():
            self._read(letter)
        for descriptor, caller in list(self._callers.items()):
            self._serve(caller, ready.get(descriptor, 0))
        if self._listener.fileno() in ready:
            self._accept()

    def _read(self, letter: News | _Signal) -> None:
        match letter:
            case Status():
                self._status = letter
            case Record():
                self._tell_end(letter.utterance.id, letter.state, letter.reason, letter.seconds)
            case _Signal.SHUT:
                self._shut = True
                self._listener.close()
            case _Signal():
                self._ending = letter

    # --- who calls

    def _listens(self) -> bool:
        return self._listener.fileno() >= 0 and self._deaf.is_expired and self._calls.wait_seconds() == 0.0

    def _accept(self) -> None:
        while self._calls.take():
            try:
                connected = self._listener.accept()
            except OSError as error:
                log.warning("nobody can be let in at the control socket for %g s: %s", DEAF_SECONDS, error.strerror)
                self._deaf = Deadline(DEAF_SECONDS)
                return
            if connected is None:
                return
            caller = Caller(connected, self._patience)
            reason = self._reason_against(caller)
            if reason is not None:
                self._dismiss(caller, reason)
                continue
            self._callers[connected.fileno()] = caller

    def _reason_against(self, caller: Caller) -> str | None:
        try:
            peer = Peer.of(caller.socket)
        except OSError as error:
            return f"nobody knows who you are ({error.strerror})"
        if not self._listener.admits(peer):
            # Once for each user: who knocks all day does not fill the log.
            new = peer.uid not in self._refused and len(self._refused) < MOST_USERS_TOLD
            self._refused |= {peer.uid} if new else set()
            level = logging.WARNING if new else logging.DEBUG
            log.log(level, "the control socket refused process %d of user %d", peer.pid, peer.uid)
            return "you may not: only root, the daemon's own user and the members of the socket's group may"
        asking = sum(not each.awaited for each in self._callers.values())
        if asking >= MOST_CALLERS or len(self._callers) >= MOST_WAITING:
            return f"{len(self._callers)} programs are connected already: try again"
        return None

    def _dismiss(self, caller: Caller, reason: str) -> None:
        caller.say({"error": reason})
        self._leave(caller)

    def _leave(self, caller: Caller) -> None:
        """Whatever it had begun is complete: an utterance whose text never ends would keep the device busy for good."""
        self._complete(caller)
        if self._callers.get(caller.socket.fileno()) is caller:
            del self._callers[caller.socket.fileno()]
        caller.close()

    # --- what is asked

    def _serve(self, caller: Caller, ready: int) -> None:
        if ready & (select.POLLERR | select.POLLHUP | select.POLLNVAL) and not ready & select.POLLIN:
            caller.gone = True
        if ready & select.POLLOUT:
            caller.write()
        if ready & select.POLLIN:
            caller.read()
        while (line := caller.next()) is not None:
            self._answer(caller, line)
        if caller.over and not caller.held_back:
            self._complete(caller)
        done = caller.over and not caller.held_back and not caller.awaited and not caller.unread
        complaint = caller.complaint
        if caller.gone or done:
            self._leave(caller)
        elif complaint is not None:
            self._dismiss(caller, complaint)

    def _answer(self, caller: Caller, line: bytes) -> None:
        from agent.frontends.control import requests as asked  # nobody asks for anything before the daemon is ready

        request = asked.read_request(line)
        late = asked.StatusRequest | asked.HushRequest | asked.Refused | asked.PieceOfText | asked.CompleteText
        if self._shut and not isinstance(request, late):
            request = asked.Refused("the daemon is ending")
        match request:
            case asked.SayText(text, priority):
                if self._speaks(caller):
                    utterance = next(self._ids)
                    self._announce(caller, Utterance(utterance, text, priority=priority, source="control"))
                    caller.say(self._accepted(utterance))
            case asked.BeginText(priority):
                self._begin(caller, priority)
            case asked.PieceOfText(text):
                self._piece(caller, text)
            case asked.CompleteText():
                if caller.draft is None:
                    caller.say({"error": "no text has been begun"})
                else:
                    caller.say({"completed": caller.draft.utterance})
                    self._complete(caller)
            case asked.HushRequest():
                caller.say({"hush": True})
                self._hush(caller)
            case asked.StatusRequest():
                caller.say(self._status_line())
            case asked.SetVolume(percent) if self._speaks(caller):
                self.report(Volume(percent, "control"))
                caller.say({"volume": percent})
            case asked.SetMute(muted) if self._speaks(caller):
                self.report(Mute(muted, "control"))
                caller.say({"mute": muted})
            case asked.SetMicrophone(muted) if self._hears(caller):
                self.report(MicrophoneMute(muted, "control"))
                caller.say({"microphone": "mute" if muted else "unmute"})
            case asked.Refused(why):
                caller.say({"error": why})

    def _speaks(self, caller: Caller) -> bool:
        if self._status is not None and self._status.volume is None:
            caller.say({"error": "this daemon only listens: conversation.mode is captions"})
            return False
        return True

    def _hears(self, caller: Caller) -> bool:
        if self._status is not None and not self._status.listens:
            caller.say({"error": "this daemon only speaks: conversation.mode is announce"})
            return False
        return True

    def _announce(self, caller: Caller, utterance: Utterance) -> None:
        caller.awaited.add(utterance.id)
        self.report(Announce(utterance))

    def _begin(self, caller: Caller, priority: int) -> None:
        if caller.draft is not None:
            caller.say({"error": "another text has been begun and is not complete"})
        elif self._speaks(caller):
            caller.draft = Draft(next(self._ids), priority)
            caller.awaited.add(caller.draft.utterance)
            caller.say(self._accepted(caller.draft.utterance))

    def _accepted(self, utterance: str) -> dict[str, object]:
        """The answer to who has given us something to say, with what may make it late."""
        troubles = self._status.problems if self._status is not None else ()
        return {"utterance": utterance, **({"troubles": list(troubles)} if troubles else {})}

    def _piece(self, caller: Caller, text: str) -> None:
        """Pieces are not answered one by one. The first with words makes the text an utterance: until then there is
        nothing that could be said, and nothing that would keep the microphone shut."""
        draft = caller.draft
        if draft is None:
            caller.say({"error": "no text has been begun"})
            return
        draft.length += len(text)
        if draft.length > MAX_TEXT_CHARACTERS:
            caller.say({"error": f"more than {MAX_TEXT_CHARACTERS} characters came: what came first is said"})
            self._complete(caller)
            return
        if not draft.announced and text.strip():
            draft.announced = True
            self._announce(caller, Utterance(draft.utterance, None, priority=draft.priority, source="control"))
        if draft.announced and text:
            self.report(TextPiece(draft.utterance, text))

    def _hush(self, caller: Caller) -> None:
        draft, caller.draft = caller.draft, None  # what it would still write is not wanted either
        if draft is not None and not draft.announced:
            self._tell_end(draft.utterance, "cancelled", "by control", 0.0)
        self.report(Hush("control"))

    def _complete(self, caller: Caller) -> None:
        draft, caller.draft = caller.draft, None
        if draft is None:
            return
        if draft.announced:
            self.report(TextComplete(draft.utterance))
        else:
            self._tell_end(draft.utterance, "failed", "there is nothing to say: no words came", 0.0)

    # --- what is answered

    def _tell_end(self, utterance: str, state: str, why: str, seconds: float) -> None:
        for caller in self._callers.values():
            if utterance not in caller.awaited:
                continue
            caller.awaited.discard(utterance)
            if caller.draft is not None and caller.draft.utterance == utterance:
                caller.draft = None  # it ended before its text did
            caller.say({"utterance": utterance, "state": state, "why": why, "seconds": round(seconds, 3)})

    def _status_line(self) -> dict[str, object]:
        status = self._status or Status("starting", "idle")
        return {
            "status": status.summary,
            "state": status.state,
            "version": __version__,
            "troubles": list(status.problems),
            "volume": status.volume,
            "muted": list(status.muted),
        }

    def _last_words(self) -> None:
        """Whoever still waits is told, and given a moment to read it."""
        for caller in self._callers.values():
            for utterance in sorted(caller.awaited):
                self._tell_end(utterance, "cancelled", "by the end of the daemon", 0.0)
        patience = Deadline(LAST_WORDS_SECONDS)
        while not patience.is_expired and (unread := [caller for caller in self._callers.values() if caller.unread]):
            self.heartbeat()
            poll = select.poll()
            for caller in unread:
                poll.register(caller.socket, select.POLLOUT)
            poll.poll((patience.remaining() or 0.0) * 1000)
            for caller in unread:
                caller.write()
