"""The table of the API methods, with the name, the parameters and the handler of each method."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.frontends.api.caller import Caller
from agent.frontends.api.described import EVENTS
from agent.frontends.api.details import DetailReaders
from agent.frontends.api.errors import (
    FORBIDDEN,
    ID_CONFLICT,
    SHUTTING_DOWN,
    UNAVAILABLE,
    UNKNOWN_UTTERANCE,
    WRONG_MODE,
    failure,
)
from agent.frontends.api.hub import Hub
from agent.frontends.api.json_rpc import METHOD_NOT_FOUND, Request, RpcError
from agent.frontends.api.parameters import Parameter, check_all, invalid
from agent.frontends.api.timer_methods import cancel_timer, list_timers, set_timer
from agent.pipeline.events import Cancel, ListenNow, MicrophoneMute, Mute, Reload, Volume
from agent.pipeline.history import Claim, HistoryRecord
from agent.pipeline.settings import CHIMES, NO_CHIME
from agent.pipeline.status import TimerStatus
from agent.pipeline.timers import MAX_NAME_CHARACTERS, MAX_TIMER_SECONDS
from agent.pipeline.utterance import Delivery, Urgency, Utterance
from agent.system.named_tuple import NamedTuple
from agent.system.text import MAX_TEXT_CHARACTERS, escape, validate_piece, validate_text

if TYPE_CHECKING:
    from agent.frontends.api.phrase_access import PhraseAccess

MAX_PRIORITY = 100
MAX_PERCENT = 100
MAX_HISTORY = 1000
MAX_PAGE_BYTES = 48 * 1024
"""Size of a response above which ``history`` adds no further record."""
MAX_EXCERPT_CHARACTERS = 500
"""Maximum length of a text in the response of ``history``; a longer text is cut."""
MAX_TTL_SECONDS = 7 * 24 * 3600

Params = Mapping[str, Any]
Respond = Callable[[dict[str, object] | RpcError], None]
Handler = Callable[[Hub, Caller, Params, Respond], dict[str, object] | None]
"""Executes a request with valid parameters. Returns the result, or ``None`` if the response is passed to ``respond``:
during the call, or later by another thread. Raises ``RpcError``, or ``UsageError`` for a parameter that cannot be
used."""


class Method(NamedTuple):
    """One method. Immutable.

    Args:
        handle: Executes a request.
        help: One line about the method, for the documentation.
        result: One line about its result, for the documentation.
        parameters: Its parameters by name.
        is_read_only: Whether a caller without ``may_control`` may use it. Such a method changes nothing.
        is_allowed_in_shutdown: Whether it is allowed during the shutdown: it continues or ends an earlier request.
    """

    handle: Handler
    help: str
    result: str
    parameters: Mapping[str, Parameter] = {}
    is_read_only: bool = False
    is_allowed_in_shutdown: bool = False


class Methods(dict[str, Method]):
    """The methods by name. Not thread-safe; complete before the first request."""

    def run(self, hub: Hub, caller: Caller, request: Request, respond: Respond) -> dict[str, object] | None:
        """Check a request and execute it, as ``Handler``.

        Raises:
            RpcError: The method is unknown, not allowed for the caller, not allowed during the shutdown, or has failed.
            UsageError: A parameter cannot be used.
        """
        method = self.get(request.method)
        if method is None:
            name = escape(request.method, 60)
            raise RpcError(METHOD_NOT_FOUND, f"there is no method {name!r}; the methods: {', '.join(self)}")
        if not method.is_read_only and not caller.may_control:
            raise failure(FORBIDDEN, f"{request.method} needs the token of the daemon")
        if not (hub.is_accepting or method.is_read_only or method.is_allowed_in_shutdown):
            raise failure(SHUTTING_DOWN, "the daemon is shutting down")
        check_all(request.method, method.parameters, request.params)
        return method.handle(hub, caller, request.params, respond)


# --- speaking


def _say(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    utterance = _utterance(hub, caller, params, validate_text(params["text"]))
    warnings, wait = _delays(hub), _waits(caller, params)

    def announce() -> bool:
        hub.announce(
            utterance,
            caller.connection,
            lambda durable: respond({"id": utterance.id, "durable": durable, **warnings}),
            wait=wait,
        )
        return True

    _claim(hub, caller, params, utterance, announce, respond)


def _begin(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    utterance = _utterance(hub, caller, params, None)

    def begin() -> bool:
        try:
            hub.begin_text(utterance, caller.connection, wait=_waits(caller, params))
        except RpcError as error:
            hub.release(utterance.id)
            respond(error)
            return False
        respond({"id": utterance.id, **_delays(hub)})
        return True

    _claim(hub, caller, params, utterance, begin, respond)


def _claim(
    hub: Hub,
    caller: Caller,
    params: Params,
    utterance: Utterance,
    announce: Callable[[], bool],
    respond: Respond,
) -> None:
    """Announce an utterance, unless the client chose its id and the history already has that id.

    ``announce`` announces the utterance and responds. It returns ``False`` if it refuses the text.
    """
    if "id" not in params:
        announce()
        return

    def claimed(claim: Claim) -> bool:
        if claim.record is None:
            return announce()
        if claim.is_conflict:
            respond(failure(ID_CONFLICT, f"another text with the id {utterance.id} is in the history"))
        else:
            respond({"id": utterance.id, "record": _record(claim.record, caller)})
        return not claim.is_conflict

    hub.claim(utterance, caller.connection, claimed, wait=_waits(caller, params))


def _append(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    hub.append_text(params["id"], validate_piece(params["text"]))
    return {"id": params["id"]}


def _end(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    if not hub.end_text(params["id"]):
        raise failure(UNKNOWN_UTTERANCE, f"no text with the id {params['id']} is open")
    return {"id": params["id"]}


def _cancel(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object] | None:
    utterance = params["id"]
    is_text = hub.has_text(utterance)
    if not hub.cancel_text(utterance, caller.source):
        hub.report(Cancel(utterance, caller.source))
    saying = hub.status.saying
    if is_text or hub.history is None or (saying is not None and saying.utterance == utterance):
        return {"id": utterance}

    def answer(records: list[HistoryRecord]) -> None:
        if any(record.id == utterance for record in records):
            respond({"id": utterance})
        else:
            respond(failure(UNKNOWN_UTTERANCE, f"no utterance has the id {utterance}"))

    hub.history.read_history(MAX_HISTORY, answer)
    return None


def _hush(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    hub.hush(caller)
    return {}


def _utterance(hub: Hub, caller: Caller, params: Params, text: str | None) -> Utterance:
    _require_speech(hub)
    priority = params.get("priority", 0)
    delivery = Delivery(
        ttl_seconds=params.get("ttl_seconds"),
        chime=params.get("chime"),
        volume=params.get("volume"),
        service=params.get("service"),
        voice=params.get("voice"),
        keep=params.get("keep", True),
        repeat_after_restart=params.get("repeat_after_restart", False),
    )
    if (problem := hub.delivery_problem(delivery)) is not None:
        raise invalid(problem)
    return Utterance(
        params.get("id") or hub.next_id(caller.source),
        text,
        priority=priority if isinstance(priority, int) else 0,
        source=caller.source,
        urgency=Urgency.MESSAGE if isinstance(priority, int) else Urgency(priority),
        delivery=delivery,
    )


def _waits(caller: Caller, params: Params) -> bool:
    if params.get("wait", False) and caller.connection is None:
        raise invalid("wait needs a lasting connection: read the events instead")
    return bool(params.get("wait", False))


def _delays(hub: Hub) -> dict[str, object]:
    """Return the problems that may delay a text, and the reasons why the user would not hear it."""
    fields: dict[str, object] = {}
    if hub.status.problems:
        fields["troubles"] = list(hub.status.problems)
    if "speaker" in hub.status.muted:
        fields["warnings"] = ["the speaker is muted, the text is not heard: voice-agent unmute speaker"]
    elif hub.status.volume == 0:
        fields["warnings"] = ["the volume is 0, the text is not heard: voice-agent volume 50"]
    return fields


# --- control


def _listen(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    _require_listening(hub)
    if hub.status.mode == "captions":
        raise failure(WRONG_MODE, "this daemon listens all the time: conversation.mode is captions")
    if "microphone" in hub.status.muted:
        raise failure(UNAVAILABLE, "the microphone is muted: voice-agent unmute microphone")
    hub.report(ListenNow(caller.source))
    return {}


def _set_mute(muted: bool) -> Handler:
    def handle(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
        if params.get("device", "speaker") == "speaker":
            _require_speech(hub)
            hub.report(Mute(muted, caller.source))
        else:
            _require_listening(hub)
            hub.report(MicrophoneMute(muted, caller.source))
        return _storage_warnings(hub)

    return handle


def _volume(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    _require_speech(hub)
    hub.report(Volume(params["percent"], caller.source))
    return {"percent": params["percent"], **_storage_warnings(hub)}


def _reload(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    hub.report(Reload())
    return {}


def _storage_warnings(hub: Hub) -> dict[str, object]:
    problem = hub.storage_problem()
    return {"warnings": [f"the value is lost at the next start: {problem}"]} if problem else {}


def _require_speech(hub: Hub) -> None:
    if hub.status.mode == "captions":
        raise failure(WRONG_MODE, "this daemon only listens: conversation.mode is captions")


def _require_listening(hub: Hub) -> None:
    if not hub.status.listens:
        raise failure(WRONG_MODE, "this daemon only speaks: conversation.mode is announce")


# --- reading


def _status(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    status = hub.status
    saying = None
    if status.saying is not None:
        saying = status.saying._asdict()
        if not caller.may_read_texts:
            saying["text"] = ""
    return {
        "status": status.summary,
        "state": status.state,
        "visible_state": status.visible_state,
        "mode": status.mode,
        "saying": saying,
        "queue": status.queue,
        "volume": status.volume,
        "muted": list(status.muted),
        "services": [service._asdict() for service in status.services],
        "devices": {
            name: {"device": device, "state": state, "reason": reason} for name, device, state, reason in status.devices
        },
        **({} if status.echo is None else {"echo": status.echo._asdict()}),
        "can_speak": status.can_speak,
        "can_listen": status.can_listen,
        "timers": [_timer(timer, caller) for timer in status.timers],
        "troubles": list(status.problems),
        "near_misses": hub.near_misses,
        "uptime_seconds": round(time.monotonic() - hub.started_at, 1),
        "version": __version__,
    }


def _timer(timer: TimerStatus, caller: Caller) -> dict[str, object]:
    return timer._asdict() | ({} if caller.may_read_texts else {"name": ""})


def _history(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object] | None:
    if hub.history is None:
        return {"records": [], "more": False}
    offset, limit = params.get("offset", 0), params.get("limit", MAX_HISTORY)

    def answer(records: list[HistoryRecord]) -> None:
        page: list[dict[str, object]] = []
        size = 0
        for record in records[offset:]:
            page.append(_record(record, caller))
            size += len(json.dumps(page[-1]))
            if size > MAX_PAGE_BYTES:
                break
        respond({"records": page, "more": offset + len(page) < len(records)})

    hub.history.read_history(min(offset + limit, MAX_HISTORY), answer)
    return None


def _record(record: HistoryRecord, caller: Caller) -> dict[str, object]:
    text = record.text if caller.may_read_texts else None
    if text is not None and len(text) > MAX_EXCERPT_CHARACTERS:
        text = f"{text[:MAX_EXCERPT_CHARACTERS]} ..."
    return {**record._asdict(), "services": list(record.services), "text": text}


def _subscribe(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    connection = caller.connection
    if connection is None:
        raise invalid("subscribe needs a lasting connection: GET /events")
    if params.get("texts", False) and not caller.may_read_texts:
        raise failure(FORBIDDEN, "this caller may not read texts")
    names = frozenset(params.get("events", EVENTS))
    subscription = hub.subscribe(caller, names, connection.wake, texts=params.get("texts", False))
    previous, connection.subscription = connection.subscription, subscription
    if previous is not None:
        hub.unsubscribe(previous)
    return {"events": [name for name in EVENTS if name in names]}


def _unsubscribe(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    connection = caller.connection
    if connection is not None and connection.subscription is not None:
        hub.unsubscribe(connection.subscription)
        connection.subscription = None
    return {}


# --- details for the web page


def _queue(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    return {"utterances": _details(hub).queue(caller.may_read_texts)}


def _turns(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    return {"turns": _details(hub).turns(caller.may_read_texts)}


def _levels(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    return {"levels": dict(_details(hub).levels())}


def _log(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    return {"lines": _details(hub).log()}


def _metrics(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    return {"text": _details(hub).metrics()}


def _config(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    reader = _details(hub).config
    reader.start(lambda: {"entries": reader.read()}, respond)


def _checks(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    reader = _details(hub).checks
    reader.start(lambda: {"findings": reader.read()}, respond)


def _details(hub: Hub) -> DetailReaders:
    if hub.details is None:
        raise failure(UNAVAILABLE, "the daemon keeps these details only while the page is on: set web.listen")
    return hub.details


# --- phrases; phrase_methods is imported late, because a daemon without phrases does not need its imports


def _list_phrases(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    from agent.frontends.api.phrase_methods import DEFAULT_LISTED, list_phrases

    access, limit = _phrases(hub), params.get("limit", DEFAULT_LISTED)
    access.start(lambda: list_phrases(access.cache(), limit, texts=caller.may_read_texts), respond)


def _remove_phrases(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    from agent.frontends.api.phrase_methods import remove_phrases

    access = _phrases(hub)
    access.start(lambda: remove_phrases(access.cache(), params["phrases"]), respond)


def _clear_phrases(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    from agent.frontends.api.phrase_methods import clear_phrases

    access = _phrases(hub)
    access.start(lambda: clear_phrases(access.cache()), respond)


def _verify_phrases(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    from agent.frontends.api.phrase_methods import verify_phrases

    access = _phrases(hub)
    access.start(lambda: verify_phrases(access.cache()), respond)


def _warm_phrases(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    _require_speech(hub)
    texts = [validate_text(text) for text in params["texts"]]
    access = _phrases(hub)
    access.start(lambda: access.warm(texts, params.get("service")), respond)


def _phrases(hub: Hub) -> PhraseAccess:
    if hub.phrases is None:
        raise failure(UNAVAILABLE, "the daemon keeps no phrases: set synthesis.phrases.enabled and restart it")
    return hub.phrases


# --- the table

_ID = (r"[A-Za-z0-9._:/-]+", "letters, digits and . _ : / -")
_VOICE = (r"[^\x00-\x1f\x7f]+", "printable characters")

_DELIVERY = {
    "priority": Parameter(
        ("string", "integer"),
        "`important` interrupts, `message` waits, `notification` is dropped while another text is spoken or waits; a"
        " number is the rank of a message",
        low=-MAX_PRIORITY,
        high=MAX_PRIORITY,
        choices=tuple(urgency.value for urgency in Urgency),
    ),
    "ttl_seconds": Parameter(
        ("number",), "longest time until the text is audible; then it expires", low=0, high=MAX_TTL_SECONDS
    ),
    "id": Parameter(
        ("string",), "id of the utterance, instead of one that the daemon chooses", low=1, high=100, pattern=_ID
    ),
    "chime": Parameter(("string",), "sound before the text; default `conversation.chime`", choices=(NO_CHIME, *CHIMES)),
    "volume": Parameter(("integer",), "volume in percent, instead of that of the speaker", low=0, high=MAX_PERCENT),
    "service": Parameter(("string",), "one of the configured speech services; it is tried first", low=1, high=40),
    "voice": Parameter(("string",), "voice of the service", low=1, high=200, pattern=_VOICE),
    "keep": Parameter(("boolean",), "whether the audio may be kept as a phrase; default true"),
    "repeat_after_restart": Parameter(
        ("boolean",), "speak the text again if the daemon was killed while it spoke it; default false"
    ),
    "wait": Parameter(("boolean",), "send the notification `ended` to this connection; default false"),
}
_TEXT = Parameter(("string",), "the text", required=True, high=MAX_TEXT_CHARACTERS)
_OPEN = {"id": Parameter(("string",), "id of the utterance", required=True, low=1, high=100, pattern=_ID)}
_PERCENT = {"percent": Parameter(("integer",), "the volume", required=True, low=0, high=MAX_PERCENT)}
_DEVICE = {"device": Parameter(("string",), "default `speaker`", choices=("speaker", "microphone"))}
_ACCEPTED = "`id`; `troubles` if something delays the speech; `warnings` if it is not heard"

METHODS = Methods(
    {
        "say": Method(_say, "speak a text", f"{_ACCEPTED}; `durable`", {"text": _TEXT, **_DELIVERY}),
        "say.begin": Method(_begin, "begin a text that arrives in pieces", _ACCEPTED, _DELIVERY),
        "say.append": Method(
            _append, "append a piece to the text", "`id`", {**_OPEN, "text": _TEXT}, is_allowed_in_shutdown=True
        ),
        "say.end": Method(_end, "end the text", "`id`", _OPEN, is_allowed_in_shutdown=True),
        "cancel": Method(
            _cancel, "cancel one utterance, current or queued", "`id`", _OPEN, is_allowed_in_shutdown=True
        ),
        "hush": Method(_hush, "cancel the current and all queued utterances", "empty", is_allowed_in_shutdown=True),
        "listen": Method(_listen, "cancel the speech and start a turn of the user", "empty"),
        "mute": Method(_set_mute(True), "mute the speaker or close the microphone", "`warnings`", _DEVICE),
        "unmute": Method(_set_mute(False), "unmute the speaker or open the microphone", "`warnings`", _DEVICE),
        "volume": Method(_volume, "set the playback volume", "`percent`, `warnings`", _PERCENT),
        "status": Method(_status, "report the status", "see below", is_read_only=True),
        "history": Method(
            _history,
            "report the last utterances, newest first, also those that are queued or being spoken",
            "`records`; `more`: whether the size of the response cut them: continue with a higher `offset`",
            {
                "limit": Parameter(
                    ("integer",), f"highest number of records; default {MAX_HISTORY}", low=1, high=MAX_HISTORY
                ),
                "offset": Parameter(
                    ("integer",), "number of newer records to omit; default 0", low=0, high=MAX_HISTORY
                ),
            },
            is_read_only=True,
        ),
        "subscribe": Method(
            _subscribe,
            "send the notification `event` for each event to this connection",
            "`events`",
            {
                "events": Parameter(("array",), "names of the events; default all", choices=tuple(EVENTS)),
                "texts": Parameter(
                    ("boolean",), "include transcripts and the texts of utterances; default `logging.transcripts`"
                ),
            },
            is_read_only=True,
        ),
        "unsubscribe": Method(_unsubscribe, "send no more events", "empty", is_read_only=True),
        "queue": Method(_queue, "list the announcements that have not ended", "`utterances`"),
        "turns": Method(_turns, "list the last turns with the moments of each", "`turns`, the last one first"),
        "levels": Method(
            _levels, "return the level of each sound device in dBFS", "`levels` by device", is_read_only=True
        ),
        "log": Method(_log, "return the last lines of the log", "`lines`"),
        "metrics": Method(
            _metrics, "return the metrics of `GET /metrics`", "`text`, for Prometheus", is_read_only=True
        ),
        "config": Method(_config, "return the configuration with the origin of each value", "`entries`"),
        "checks": Method(_checks, "run the checks of `doctor` that open no sound device", "`findings`"),
        "phrases.list": Method(
            _list_phrases,
            "list the speech that is kept on disk, the most recently used first",
            "`phrases` (texts up to 100 characters), `count` of all, `bytes`, `capacity_bytes`",
            {"limit": Parameter(("integer",), "number of phrases; default 100", low=1, high=1000)},
        ),
        "phrases.warm": Method(
            _warm_phrases,
            "speak texts silently, so that they are kept; the answer follows at the end",
            "`service`, the numbers `kept`, `present` and `failed`, `seconds`, `errors`",
            {
                "texts": Parameter(("array",), "the texts", required=True),
                "service": Parameter(("string",), "one of the configured services; default the first", low=1, high=40),
            },
        ),
        "phrases.remove": Method(
            _remove_phrases,
            "delete phrases",
            "the number `removed`",
            {"phrases": Parameter(("array",), "texts, or ids of at least 6 characters", required=True)},
        ),
        "phrases.clear": Method(_clear_phrases, "delete all phrases", "the number `removed`"),
        "phrases.verify": Method(
            _verify_phrases, "read all phrases and delete damaged ones", "`checked`, `removed` with `id` and `reason`"
        ),
        "timers.list": Method(
            list_timers,
            "list the timers and alarms, the next one first",
            "`timers` with `number`, `name`, `is_alarm`, `state`, `seconds`, `remaining_seconds`, `ends_at`",
            is_read_only=True,
        ),
        "timers.set": Method(
            set_timer,
            "start a timer; the answer follows when it is on the disk",
            "`timer` as in `timers.list`, `durable`",
            {
                "seconds": Parameter(("number",), "the length", required=True, low=1, high=MAX_TIMER_SECONDS),
                "name": Parameter(("string",), "the name that is spoken", high=MAX_NAME_CHARACTERS),
            },
        ),
        "timers.cancel": Method(
            cancel_timer,
            "cancel a timer or an alarm, ringing or not",
            "`number`, `durable`",
            {"timer": Parameter(("string",), "its number or its name", required=True, low=1, high=100)},
        ),
        "reload": Method(_reload, "read the configuration again, as SIGHUP", "empty; errors are in `status`"),
    }
)
