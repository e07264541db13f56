from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Event, Hush, Mute, Volume
from agent.pipeline.responders.intents.commands import SOURCE, Commands, ring_text
from agent.pipeline.responders.intents.language import find_language
from agent.pipeline.responders.intents.recognizer import Intent, recognizer_for
from agent.pipeline.timers import Clock, Timer, Timers

NOON = datetime(2026, 11, 29, 12, 0)


class Device:
    """A device whose clock the test moves, and the events of its requests."""

    def __init__(self, code: str = "en") -> None:
        self.now = NOON
        self.is_clock_set = True
        self.events: list[Event] = []
        clock = Clock(lambda: self.now.timestamp(), lambda: self.now.timestamp(), lambda: self.is_clock_set)
        self.timers = Timers(clock)
        self.saves: list[tuple[Timer, ...]] = []

        def save(timers: tuple[Timer, ...], done: Callable[[bool], None]) -> None:
            self.saves.append(timers)
            done(True)

        control = DeviceControl(self.events.append, self.timers, save, lambda: 95, lambda: self.is_clock_set)
        self._commands = Commands(control, find_language(code), code, lambda: self.now)
        self._recognizer = recognizer_for(code)

    def say(self, text: str) -> str:
        intent = self._recognizer.recognize(text)
        assert intent is not None, text
        return self._commands.run(intent)


def test_timers_are_started_listed_changed_and_cancelled_by_name() -> None:
    device = Device()
    assert device.say("set a timer for one hour and thirty minutes") == "1 hour and 30 minutes, starting now."
    assert device.say("set a tea timer for three minutes") == "tea: 3 minutes, starting now."
    device.now += timedelta(minutes=1)
    assert device.say("what timers do I have") == "There are 2 timers: tea: 2 minutes and 1 hour and 29 minutes."
    assert device.say("how long is left on the tea timer") == "2 minutes left for tea."
    assert device.say("add five minutes to the tea timer") == "7 minutes left."
    assert device.say("cancel the timer").startswith("Which timer? There are 2: ")
    assert device.say("cancel the coffee timer") == "There is no timer coffee."
    assert device.say("cancel the tea timer") == "The timer tea is cancelled."
    assert device.say("pause the timer") == "Paused, 1 hour and 29 minutes left."
    device.now += timedelta(hours=5)
    assert device.say("resume the timer") == "1 hour and 29 minutes left."
    assert device.say("cancel all timers") == "All timers are cancelled."
    assert device.say("cancel all timers") == "There is no timer."


def test_reply_to_a_new_timer_waits_for_the_disk() -> None:
    device = Device()
    device.say("set a timer for ten minutes")
    assert [timer.seconds for timer in device.saves[-1]] == [600.0]


@pytest.mark.parametrize(
    ("text", "alarm", "reply"),
    [
        ("wake me at seven", "2026-11-29 19:00", "The alarm is set for 7 PM, today."),
        ("wake me at 7 am", "2026-11-30 07:00", "The alarm is set for 7 AM, tomorrow."),
        ("set an alarm for half past six tomorrow", "2026-11-30 06:30", "The alarm is set for 6:30 AM, tomorrow."),
        ("set an alarm for a quarter to one", "2026-11-29 12:45", "The alarm is set for 12:45 PM, today."),
        ("set an alarm for midnight", "2026-11-30 00:00", "The alarm is set for 12 AM, tomorrow."),
        ("set an alarm for 12 pm", "2026-11-30 12:00", "The alarm is set for 12 PM, tomorrow."),
        ("wake me at two at night", "2026-11-30 02:00", "The alarm is set for 2 AM, tomorrow."),
        ("wake me at nine tonight", "2026-11-29 21:00", "The alarm is set for 9 PM, today."),
        ("wake me at twelve at night", "2026-11-30 00:00", "The alarm is set for 12 AM, tomorrow."),
        ("set an alarm for 19:05", "2026-11-29 19:05", "The alarm is set for 7:05 PM, today."),
    ],
)
def test_alarm_rings_at_the_next_moment_that_was_meant(text: str, alarm: str, reply: str) -> None:
    device = Device()
    assert device.say(text) == reply
    assert [timer.alarm for timer in device.timers.all] == [alarm]


def test_alarm_of_a_24_hour_language_is_not_moved_by_half_a_day() -> None:
    device = Device("de")
    assert device.say("weck mich um sieben Uhr") == "Der Wecker klingelt morgen um 7 Uhr."


def test_alarms_are_listed_and_cancelled() -> None:
    device = Device()
    assert device.say("which alarms are set") == "There is no alarm."
    device.say("wake me at 7 am")
    assert device.say("which alarms are set") == "The alarm rings at 7 AM, tomorrow."
    device.say("set an alarm for 8 pm")
    assert device.say("cancel the alarm").startswith("Which alarm? There are 2: ")
    assert device.say("cancel the alarm for 8 pm") == "The alarm is cancelled."
    assert device.say("cancel all alarms") == "All alarms are cancelled."


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("साढ़े तीन घंटे का टाइमर लगाओ", 3.5 * 3600),
        ("सवा दो घंटे का टाइमर लगाओ", 2.25 * 3600),
        ("पौने दो घंटे का टाइमर लगाओ", 1.75 * 3600),
        ("ढाई घंटे का टाइमर लगाओ", 2.5 * 3600),
        ("सवा घंटे का टाइमर लगाओ", 1.25 * 3600),
        ("पौन घंटे का टाइमर लगाओ", 0.75 * 3600),
        ("साढ़े तीन मिनट का टाइमर लगाओ", 210),
        ("डेढ़ मिनट का टाइमर लगाओ", 90),
    ],
)
def test_hindi_fractions_of_a_duration_are_no_names(text: str, seconds: float) -> None:
    device = Device("hi")
    device.say(text)
    assert [(timer.seconds, timer.name) for timer in device.timers.all] == [(seconds, "")]


def test_adding_a_minute_starts_no_timer() -> None:
    device = Device()
    device.say("set a timer for ten minutes")
    assert device.say("add a minute to the timer") == "11 minutes left."
    assert len(device.timers.all) == 1


def test_alarm_of_the_other_half_of_the_day_is_not_cancelled() -> None:
    device = Device()
    device.say("wake me at 7 pm")
    assert device.say("cancel the 7 am alarm") == "There is no alarm."
    device.say("wake me at 7 am")
    assert device.say("cancel the 7 o'clock alarm").startswith("Which alarm? There are 2: ")
    assert device.say("cancel the 7 am alarm") == "The alarm is cancelled."
    assert [timer.alarm for timer in device.timers.all] == ["2026-11-29 19:00"]


def test_alarm_of_a_24_hour_language_is_cancelled_by_its_time() -> None:
    device = Device("de")
    device.say("weck mich um sieben Uhr")
    device.say("weck mich um 19 Uhr")
    assert device.say("lösche den Wecker um sieben Uhr") == "Der Wecker ist gelöscht."
    assert [timer.alarm for timer in device.timers.all] == ["2026-11-29 19:00"]
    assert device.say("lösche den Wecker um sieben Uhr") == "Der Wecker ist gelöscht."


def test_alarm_without_a_clock_says_so() -> None:
    device = Device()
    device.is_clock_set = False
    assert device.say("wake me at 7 am").endswith("My clock is not set yet.")


def test_turning_off_a_ringing_alarm_keeps_the_others() -> None:
    device = Device()
    device.say("set an alarm for 12:01 pm")
    device.say("wake me at 7 am")
    device.now += timedelta(minutes=1)
    assert len(device.timers.take_due()) == 1
    assert device.say("turn off the alarm") == ""
    assert [timer.alarm for timer in device.timers.all] == ["2026-11-30 07:00"]


def test_snoozed_alarm_is_listed_with_the_time_when_it_rings_again() -> None:
    device = Device()
    device.say("set an alarm for 12:01 pm")
    device.now += timedelta(minutes=1)
    assert len(device.timers.take_due()) == 1
    device.say("snooze for ten minutes")
    assert device.say("which alarms are set") == "The alarm rings at 12:11 PM, today."


def test_one_and_a_half_hours_of_the_clock_may_be_in_either_half_of_the_day() -> None:
    device = Device("hi")
    device.say("डेढ़ बजे का अलार्म लगाओ")
    assert [timer.alarm for timer in device.timers.all] == ["2026-11-29 13:30"]


def test_snooze_lets_a_ringing_timer_ring_again() -> None:
    device = Device()
    device.say("set a timer for one second")
    device.now += timedelta(seconds=1)
    assert len(device.timers.take_due()) == 1
    assert device.say("snooze for ten minutes") == "I ring again in 10 minutes."
    assert device.timers.seconds_to_next() == 600.0


@pytest.mark.parametrize(
    ("text", "event", "reply"),
    [
        ("louder", Volume(100, SOURCE), "The volume is 100 percent."),
        ("quieter", Volume(85, SOURCE), "The volume is 85 percent."),
        ("volume 40 percent", Volume(40, SOURCE), "The volume is 40 percent."),
        ("mute", Mute(True, SOURCE), ""),
        ("unmute", Mute(False, SOURCE), "The volume is 95 percent."),
        ("stop", Hush(SOURCE), ""),
        ("pause", Hush(SOURCE), ""),
    ],
)
def test_request_becomes_an_event(text: str, event: Event, reply: str) -> None:
    device = Device()
    assert device.say(text) == reply
    assert device.events == [event]


def test_too_many_and_too_long_timers_are_refused_in_speech() -> None:
    device = Device()
    assert device._commands.run(Intent("StartTimer", {})) == "That timer is too short."  # noqa: SLF001
    for _ in range(50):
        device.say("set a timer for ten minutes")
    assert device.say("set a timer for ten minutes") == "There are too many timers."


def test_time_and_date_are_spoken_in_the_language() -> None:
    assert Device().say("what time is it") == "It is 12 PM."
    assert Device("fr").say("quelle heure est-il") == "Il est 12 heures."
    device = Device("fr")
    device.now = NOON.replace(hour=1, minute=5)
    assert device.say("quelle heure est-il") == "Il est 1 heure 05."
    device = Device("de")
    assert device.say("wie spät ist es") == "Es ist 12 Uhr."
    device.now = NOON.replace(hour=7, minute=5)
    assert device.say("wie spät ist es") == "Es ist 7 Uhr 05."
    assert Device("de").say("welcher Tag ist heute") == "Heute ist Sonntag, der 29. November."


def test_one_o_clock_is_singular_in_spanish() -> None:
    device = Device("es")
    assert device.say("qué hora es") == "Son las 12:00."
    assert device.say("pon una alarma a las 11 30") == "La alarma sonará hoy a las 23:30."
    assert device.say("pon una alarma a las 1") == "La alarma sonará hoy a las 13:00."
    device.now = NOON.replace(hour=1, minute=5)
    assert device.say("qué hora es") == "Es la 1:05."
    alarm = Timer(1, alarm="2026-11-29 01:05")
    assert ring_text(find_language("es"), alarm, is_missed=True).startswith("Perdí la alarma de la 1:05,")
    timer = Timer(1, ends_at=device.now.timestamp())
    assert ring_text(find_language("es"), timer, is_missed=True).startswith("Un temporizador terminó a la 1:05,")


def test_missed_timer_names_when_it_ended() -> None:
    ended = datetime(2026, 11, 29, 15, 4).timestamp()
    timer = Timer(1, "tea", ends_at=ended)
    text = ring_text(find_language("en"), timer, is_missed=True)
    assert text == "The timer tea ended at 3:04 PM, while I was off."
    alarm = ring_text(find_language("en"), Timer(1, alarm="2026-11-29 07:00"), is_missed=True)
    assert alarm == "I missed the alarm at 7 AM, because I was off."
