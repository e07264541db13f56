"""Carries out the recognized requests and returns the replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Hush, Mute, Volume
from agent.pipeline.responders.intents.language import Language
from agent.pipeline.responders.intents.recognizer import Intent
from agent.pipeline.responders.rules import local_now
from agent.pipeline.timers import ALARM_FORMAT, MAX_TIMER_SECONDS, Timer, TimerError, TimerState

SOURCE = "a spoken request"
VOLUME_STEP = 10
SNOOZE_SECONDS = 300.0

Slots = Mapping[str, Any]


class Commands:
    """Carries out requests. Not thread-safe; owned by the responder thread.

    Args:
        control: The device.
        language: The language of the replies.
        code: The ISO 639-1 code of the language.
        now: Returns the local time.
    """

    def __init__(
        self, control: DeviceControl, language: Language, code: str, now: Callable[[], datetime] = local_now
    ) -> None:
        self._control, self._language, self._code, self._now = control, language, code, now
        self._timers = control.timers

    def run(self, intent: Intent) -> str:
        """Carry out a request; return the reply, which may be empty."""
        try:
            return RULES[intent.name](self, intent.slots)
        except TimerError as error:
            return self._language.reply(str(error), hours=round(MAX_TIMER_SECONDS / 3600))

    # --- sound

    def _stop(self, slots: Slots) -> str:
        self._timers.stop_ringing()
        self._control.report(Hush(SOURCE))
        return ""

    def _set_volume(self, slots: Slots) -> str:
        return self._change_volume(int(slots["volume"]))

    def _volume_up(self, slots: Slots) -> str:
        return self._change_volume(self._control.volume() + VOLUME_STEP)

    def _volume_down(self, slots: Slots) -> str:
        return self._change_volume(self._control.volume() - VOLUME_STEP)

    def _get_volume(self, slots: Slots) -> str:
        return self._language.reply("volume", percent=self._control.volume())

    def _change_volume(self, percent: int) -> str:
        percent = min(max(0, percent), 100)
        self._control.report(Volume(percent, SOURCE))
        return self._language.reply("volume", percent=percent)

    def _mute(self, slots: Slots) -> str:
        self._control.report(Mute(True, SOURCE))
        return ""

    def _unmute(self, slots: Slots) -> str:
        self._control.report(Mute(False, SOURCE))
        return self._get_volume(slots)

    # --- timers

    def _start_timer(self, slots: Slots) -> str:
        timer = self._timers.start(_seconds(slots), str(slots.get("name", "")).strip(), self._code)
        self._control.save_timers()
        return self._about("timer_started", timer, timer.seconds)

    def _list_timers(self, slots: Slots) -> str:
        timers = self._select(slots)
        if not timers:
            return self._no_timer(slots)
        if len(timers) == 1:
            return self._about("timer_left", timers[0], self._timers.remaining(timers[0]))
        return self._language.reply("timer_list", count=len(timers), list=self._items(timers))

    def _cancel_timer(self, slots: Slots) -> str:
        return self._with_timer(slots, self._cancel_one)

    def _cancel_one(self, timer: Timer) -> str:
        self._timers.cancel((timer.number,))
        return self._about("timer_cancelled", timer, 0.0)

    def _cancel_all_timers(self, slots: Slots) -> str:
        numbers = tuple(each.number for each in self._timers.all if not each.is_alarm)
        return self._saved("timers_cancelled") if self._timers.cancel(numbers) else self._language.reply("no_timer")

    def _increase_timer(self, slots: Slots) -> str:
        return self._with_timer(slots, lambda timer: self._changed(self._timers.extend(timer.number, _seconds(slots))))

    def _decrease_timer(self, slots: Slots) -> str:
        return self._with_timer(slots, lambda timer: self._changed(self._timers.extend(timer.number, -_seconds(slots))))

    def _pause_timer(self, slots: Slots) -> str:
        return self._with_timer(slots, lambda timer: self._changed(self._timers.pause(timer.number), "timer_paused"))

    def _resume_timer(self, slots: Slots) -> str:
        return self._with_timer(slots, lambda timer: self._changed(self._timers.resume(timer.number)))

    def _changed(self, timer: Timer | None, reply: str = "timer_left") -> str:
        if timer is None:
            return self._language.reply("no_timer")
        duration = self._language.duration(self._timers.remaining(timer))
        return self._language.reply(reply, duration=duration)

    def _with_timer(self, slots: Slots, act: Callable[[Timer], str]) -> str:
        """Call ``act`` with the timer that the request means; return its reply, or a question if there are several."""
        timers = self._select(slots)
        if not timers:
            return self._no_timer(slots)
        if len(timers) > 1:
            return self._language.reply("timer_which", count=len(timers), list=self._items(timers))
        reply = act(timers[0])
        self._control.save_timers()
        return reply

    def _select(self, slots: Slots) -> list[Timer]:
        """Return the timers that a request may mean: by name, or by the length with which the timer was started."""
        timers = [each for each in self._timers.all if not each.is_alarm]
        name = str(slots.get("name", "")).strip().casefold()
        length = _seconds(
            {key.removeprefix("start_"): value for key, value in slots.items() if key.startswith("start_")}
        )
        if name:
            return [each for each in timers if each.name.casefold() == name]
        return [each for each in timers if each.seconds == length] if length else timers

    def _no_timer(self, slots: Slots) -> str:
        name = str(slots.get("name", "")).strip()
        return self._language.reply("no_timer_named" if name else "no_timer", name=name)

    def _items(self, timers: list[Timer]) -> str:
        return self._language.list([self._about("timer_item", each, self._timers.remaining(each)) for each in timers])

    def _about(self, reply: str, timer: Timer, seconds: float) -> str:
        named = f"{reply}_named" if timer.name else reply
        return self._language.reply(named, name=timer.name, duration=self._language.duration(seconds))

    def _saved(self, reply: str) -> str:
        self._control.save_timers()
        return self._language.reply(reply)

    # --- alarms

    def _set_alarm(self, slots: Slots) -> str:
        moment = _moment(slots, self._now(), has_12_hours=self._language.has_12_hours)
        if moment is None:
            return self._language.reply("not_a_time")
        self._timers.set_alarm(moment.strftime(ALARM_FORMAT), str(slots.get("name", "")).strip(), self._code)
        reply = "alarm_set" if self._control.is_clock_set() else "alarm_set_unsure"
        self._control.save_timers()
        return self._language.reply(reply, **self._time_and_day(moment))

    def _list_alarms(self, slots: Slots) -> str:
        alarms = self._alarms()
        if not alarms:
            return self._language.reply("no_alarm")
        reply = "alarm_one" if len(alarms) == 1 else "alarm_list"
        return self._language.reply(reply, count=len(alarms), list=self._alarm_items(alarms))

    def _cancel_alarm(self, slots: Slots) -> str:
        alarms = self._alarms()
        if name := str(slots.get("name", "")).strip().casefold():
            alarms = [each for each in alarms if each.name.casefold() == name]
        elif (moment := _moment(slots, self._now(), has_12_hours=self._language.has_12_hours)) is not None:
            times = [moment.strftime("%H:%M")]
            if _is_ambiguous(slots):
                times.append((moment + timedelta(hours=12)).strftime("%H:%M"))
            found = [[each for each in alarms if each.alarm[-5:] == time] for time in times]
            # Languages with 24 hours: "seven" means the evening only if there is no alarm at seven in the morning.
            alarms = sum(found, []) if self._language.has_12_hours else next(filter(None, found), [])
        if not alarms:
            return self._language.reply("no_alarm")
        if not slots and any(each.state is TimerState.RINGING for each in alarms):
            return self._stop(slots)
        if len(alarms) > 1:
            return self._language.reply("alarm_which", count=len(alarms), list=self._alarm_items(alarms))
        self._timers.cancel((alarms[0].number,))
        return self._saved("alarm_cancelled")

    def _cancel_all_alarms(self, slots: Slots) -> str:
        numbers = tuple(each.number for each in self._alarms())
        return self._saved("alarms_cancelled") if self._timers.cancel(numbers) else self._language.reply("no_alarm")

    def _alarms(self) -> list[Timer]:
        return [each for each in self._timers.all if each.is_alarm]

    def _alarm_items(self, alarms: list[Timer]) -> str:
        items = []
        for each in alarms:
            moment = datetime.strptime(each.alarm, ALARM_FORMAT)
            if each.snoozed:
                moment = datetime.fromtimestamp(each.ends_at)
            reply = "alarm_item_named" if each.name else "alarm_item"
            items.append(self._language.reply(reply, name=each.name, **self._time_and_day(moment)))
        return self._language.list(items)

    def _time_and_day(self, moment: datetime) -> dict[str, str]:
        days = (moment.date() - self._now().date()).days
        names = {0: "today", 1: "tomorrow"}
        day = self._language.reply(names[days]) if days in names else self._language.spoken_date(moment)
        return {"time": self._language.spoken_time(moment), "day": day}

    def _snooze(self, slots: Slots) -> str:
        seconds = _seconds(slots) or SNOOZE_SECONDS
        if not self._timers.snooze(seconds):
            return self._list_timers({})
        self._control.save_timers()
        return self._language.reply("snoozed", duration=self._language.duration(seconds))

    # --- information

    def _get_time(self, slots: Slots) -> str:
        return self._language.reply("time", time=self._language.spoken_time(self._now()))

    def _get_date(self, slots: Slots) -> str:
        return self._language.reply("date", date=self._language.spoken_date(self._now()))

    def _help(self, slots: Slots) -> str:
        return self._language.reply("help", examples=self._language.examples)


RULES: Mapping[str, Callable[[Commands, Slots], str]] = {
    "Stop": Commands._stop,
    "Pause": Commands._stop,
    "SetVolume": Commands._set_volume,
    "VolumeUp": Commands._volume_up,
    "VolumeDown": Commands._volume_down,
    "GetVolume": Commands._get_volume,
    "Mute": Commands._mute,
    "Unmute": Commands._unmute,
    "StartTimer": Commands._start_timer,
    "ListTimers": Commands._list_timers,
    "CancelTimer": Commands._cancel_timer,
    "CancelAllTimers": Commands._cancel_all_timers,
    "IncreaseTimer": Commands._increase_timer,
    "DecreaseTimer": Commands._decrease_timer,
    "PauseTimer": Commands._pause_timer,
    "ResumeTimer": Commands._resume_timer,
    "SetAlarm": Commands._set_alarm,
    "ListAlarms": Commands._list_alarms,
    "CancelAlarm": Commands._cancel_alarm,
    "CancelAllAlarms": Commands._cancel_all_alarms,
    "Snooze": Commands._snooze,
    "GetTime": Commands._get_time,
    "GetDate": Commands._get_date,
    "Help": Commands._help,
}
"""The methods that carry out the requests, by intent name. ``IntentsResponder`` carries out ``Repeat`` itself."""


def ring_text(language: Language, timer: Timer, *, is_missed: bool) -> str:
    """Return the sentence that announces the end of a timer, or of an alarm."""
    kind = "alarm" if timer.is_alarm else "timer"
    reply = f"{kind}_{'missed' if is_missed else 'rings'}{'_named' if timer.name else ''}"
    if timer.is_alarm:
        moment = datetime.strptime(timer.alarm, ALARM_FORMAT) if is_missed else local_now()
    else:
        moment = datetime.fromtimestamp(timer.ends_at)
    return language.reply(reply, name=timer.name, time=language.spoken_time(moment))


def _seconds(slots: Slots) -> float:
    return sum(float(slots.get(name, 0)) * unit for name, unit in (("hours", 3600), ("minutes", 60), ("seconds", 1)))


def _moment(slots: Slots, now: datetime, *, has_12_hours: bool) -> datetime | None:
    """Return the next moment of the time of day in ``slots``; ``None`` if the slots contain no time of day."""
    if "fixed" in slots:
        minutes = int(slots["fixed"])
    elif "hour" in slots:
        minutes = int(slots["hour"]) % 24 * 60 + int(slots.get("minute", slots.get("past", 0)))
        minutes = (minutes - int(slots.get("before", 0))) % (24 * 60)
    else:
        return None
    half_day = slots.get("half_day")
    if half_day == "night":  # 12:00 to 4:59 "at night" is after midnight
        half_day = "am" if minutes % (12 * 60) < 5 * 60 else "pm"
    if half_day == "pm" and minutes < 12 * 60:
        minutes += 12 * 60
    elif half_day == "am" and minutes >= 12 * 60:
        minutes -= 12 * 60
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=int(slots.get("day", 0)))
    if int(slots.get("day", 0)) > 0:
        return midnight + timedelta(minutes=minutes)
    step = 12 * 60 if has_12_hours and _is_ambiguous(slots) else 24 * 60
    while (moment := midnight + timedelta(minutes=minutes)) <= now:
        minutes += step
    return moment


def _is_ambiguous(slots: Slots) -> bool:
    """Return whether a time of day is ambiguous, such as "half past one", which may be AM or PM.

    Noon, midnight and 14 o'clock are not ambiguous.
    """
    has_half = int(slots["hour"]) in range(1, 13) if "hour" in slots else int(slots["fixed"]) % (12 * 60) > 0
    return "half_day" not in slots and has_half
