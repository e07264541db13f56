from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.actions import (
    Action,
    AppendText,
    Ask,
    CancelReply,
    CorrectReply,
    DiscardUtterance,
    Duck,
    Finish,
    Listen,
    OpenGate,
    PlayFillerSound,
    PlayWakeSound,
    Prepare,
    Record,
    ReportPlayedText,
    ResumeUtterance,
    StartUtterance,
    StopPlayback,
    SuspendUtterance,
)
from agent.pipeline.announcement_queue import MAX_QUEUED, MAX_QUEUED_CHARACTERS
from agent.pipeline.conversation import Conversation
from agent.pipeline.events import (
    Announce,
    Cancel,
    DeviceBack,
    DeviceLost,
    DeviceTimedOut,
    EchoChanged,
    Event,
    Expired,
    Heard,
    Hush,
    ListenNow,
    ListenTimedOut,
    Partial,
    PlayedText,
    Reply,
    ReplyDelayed,
    ReplyEnded,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSuspected,
    StopWord,
    TextComplete,
    TextPiece,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
    WakePaused,
    WakeYielded,
    Woken,
    WordTimedOut,
)
from agent.pipeline.interruptions import BUSY, INTERRUPTED, SPOKEN_OVER
from agent.pipeline.state import LISTEN_SECONDS, SPEAKING_SECONDS, State
from agent.pipeline.utterance import TIMER, Urgency, Utterance


def feed(conversation: Conversation, *events: Event) -> list[Action]:
    return [action for event in events for action in conversation.handle(event)]


def test_turn_runs_from_speech_to_playback_and_back_to_idle() -> None:
    conversation = Conversation()
    assert feed(conversation, SpeechStarted()) == []
    assert conversation.state is State.LISTENING
    assert feed(conversation, SpeechEnded(0.7)) == []
    assert conversation.state is State.THINKING
    assert feed(conversation, Heard("what time is it")) == [Ask(1, "what time is it")]
    utterance = Utterance("reply-1", None, turn=1)
    assert feed(conversation, Reply(1, "Late.")) == [
        Listen(False),
        StartUtterance(utterance),
        AppendText("reply-1", "Late.\n\n"),
    ]
    assert feed(conversation, Reply(1, "Good night.")) == [AppendText("reply-1", "Good night.\n\n")]
    assert feed(conversation, ReplyEnded(1)) == [Finish("reply-1")]
    assert conversation.state is State.SPEAKING
    assert feed(conversation, UtterancePlayed("reply-1", 1.5)) == [Record(utterance, "played", "", 1.5), Listen(True)]
    assert conversation.state is State.IDLE and not conversation.is_busy


def test_reply_is_prepared_at_a_pause_and_asked_at_the_end() -> None:
    conversation = Conversation()
    assert feed(conversation, SpeechStarted(), SpeechPaused("what time is it")) == [Prepare(1, "what time is it")]
    assert conversation.state is State.LISTENING
    assert feed(conversation, SpeechEnded(0.7), Heard("what time is it")) == [Ask(1, "what time is it")]
    assert feed(conversation, SpeechResumed()) == []


@pytest.mark.parametrize("end", [(SpeechResumed(),), (SpeechEnded(0.7), Heard("")), (Hush("a test"),)])
def test_prepared_reply_is_discarded_without_a_question(end: tuple[Event, ...]) -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechPaused("turn on"))
    assert feed(conversation, *end) == [CancelReply(1)]
    assert feed(conversation, SpeechResumed()) == []


def test_no_reply_is_prepared_while_another_one_is_open_or_for_speech_that_does_not_count() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("first"), SpeechStarted())
    assert feed(conversation, SpeechPaused("second")) == []
    conversation = Conversation(mode="captions")
    assert feed(conversation, SpeechStarted(), SpeechPaused("words")) == []
    conversation = Conversation()
    feed(conversation, SpeechStarted(), Hush("a test"))
    assert feed(conversation, SpeechPaused("hushed")) == []
    conversation = Conversation(follow_up_seconds=6.0)
    assert feed(conversation, SpeechStarted(), SpeechPaused("thanks")) == []


def test_reply_is_prepared_for_the_whole_question_that_is_continued() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), Heard("turn on"), ReplyEnded(1), SpeechStarted(0.8))
    assert feed(conversation, SpeechPaused("the light")) == [Prepare(2, "turn on the light")]
    assert feed(conversation, SpeechEnded(0.3), Heard("the light")) == [Ask(2, "turn on the light")]


def test_empty_transcript_asks_no_reply() -> None:
    conversation = Conversation()
    assert feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("")) == []
    assert conversation.state is State.IDLE


def test_empty_reply_ends_the_turn() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("silence"))
    assert feed(conversation, ReplyEnded(1)) == []
    assert conversation.state is State.IDLE


def test_noise_while_thinking_keeps_the_reply() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("what time is it"))
    assert feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("")) == []
    assert AppendText("reply-1", "Noon.\n\n") in feed(conversation, Reply(1, "Noon."))


def test_second_question_replaces_the_first() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("what time is it"))
    assert feed(conversation, Heard("no, what day is it")) == [CancelReply(1), Ask(2, "no, what day is it")]
    assert feed(conversation, Reply(1, "Noon."), ReplyEnded(1)) == []
    assert AppendText("reply-2", "Monday.\n\n") in feed(conversation, Reply(2, "Monday."))


def test_speech_is_ignored_while_speaking() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("hello"), Reply(1, "Hello."))
    assert feed(conversation, SpeechStarted()) == []
    assert conversation.state is State.SPEAKING


def test_barge_in_stops_playback_when_listening_while_speaking() -> None:
    conversation = Conversation(listen_while_speaking=True)
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("hello"))
    utterance = Utterance("reply-1", None, turn=1)
    assert feed(conversation, Reply(1, "Hello.")) == [StartUtterance(utterance), AppendText("reply-1", "Hello.\n\n")]
    assert feed(conversation, SpeechStarted()) == [CancelReply(1), StopPlayback("user speech")]
    assert conversation.state is State.LISTENING
    assert feed(conversation, UtteranceCancelled("reply-1", "user speech", 0.4)) == [
        ReportPlayedText("reply-1", 0.4),
        Record(utterance, "cancelled", "by user speech", 0.4),
    ]
    assert conversation.state is State.LISTENING
    assert feed(conversation, SpeechEnded(0.7), Heard("stop")) == [Ask(2, "stop")]


def test_announcements_are_queued_by_priority() -> None:
    conversation = Conversation(mode="announce")
    first, second, urgent = (
        Utterance("a", "one", source="control"),
        Utterance("b", "two", source="control"),
        Utterance("c", "fire", source="control", priority=9),
    )
    assert feed(conversation, Announce(first)) == [Listen(False), StartUtterance(first)]
    assert feed(conversation, Announce(second), Announce(urgent)) == []
    assert feed(conversation, UtterancePlayed("a", 1.0)) == [
        Record(first, "played", "", 1.0),
        Listen(False),
        StartUtterance(urgent),
    ]
    assert feed(conversation, UtteranceFailed("c", "no service")) == [
        Record(urgent, "failed", "no service", 0.0),
        Listen(False),
        StartUtterance(second),
    ]
    assert feed(conversation, UtterancePlayed("b", 1.0)) == [Record(second, "played", "", 1.0), Listen(True)]


def test_text_pieces_are_appended_to_the_current_announcement() -> None:
    conversation = Conversation(mode="announce")
    written = Utterance("a", None, source="control")
    assert feed(conversation, Announce(written)) == [Listen(False), StartUtterance(written)]
    assert feed(conversation, TextPiece("a", "One."), TextPiece("unknown", "x"), TextPiece("a", " Two.")) == [
        AppendText("a", "One."),
        AppendText("a", " Two."),
    ]
    assert feed(conversation, TextComplete("unknown"), TextComplete("a")) == [Finish("a")]
    assert feed(conversation, UtterancePlayed("a", 1.0)) == [Record(written, "played", "", 1.0), Listen(True)]
    assert feed(conversation, TextPiece("a", "too late"), TextComplete("a")) == []


def test_text_pieces_of_a_queued_announcement_are_kept() -> None:
    conversation = Conversation(mode="announce")
    first, whole, half, bare = (
        Utterance("a", "one"),
        Utterance("b", None),
        Utterance("c", None),
        Utterance("d", None),
    )
    assert feed(conversation, *map(Announce, (first, whole, half, bare)))[1:] == [StartUtterance(first)]
    assert (
        feed(conversation, TextPiece("b", "One. "), TextPiece("c", "Half"), TextPiece("b", "Two."), TextComplete("b"))
        == []
    )
    assert feed(conversation, UtterancePlayed("a", 1.0))[1:] == [
        Listen(False),
        StartUtterance(whole),
        AppendText("b", "One. Two."),
        Finish("b"),
    ]
    assert feed(conversation, UtterancePlayed("b", 1.0))[1:] == [
        Listen(False),
        StartUtterance(half),
        AppendText("c", "Half"),
    ]
    assert feed(conversation, TextPiece("c", " more."), TextComplete("c")) == [AppendText("c", " more."), Finish("c")]
    assert feed(conversation, UtterancePlayed("c", 1.0))[1:] == [Listen(False), StartUtterance(bare)]


def test_text_pieces_after_hush_are_ignored() -> None:
    conversation = Conversation(mode="announce")
    feed(conversation, Announce(Utterance("a", None)), Announce(Utterance("b", None)), TextPiece("b", "x"))
    feed(conversation, Hush("a button"), UtteranceCancelled("a", "a button"))
    assert feed(conversation, TextPiece("a", "x"), TextPiece("b", "x"), TextComplete("a"), TextComplete("b")) == []
    assert not conversation.is_busy


def test_hush_cancels_the_current_and_the_queued_utterances() -> None:
    conversation = Conversation(mode="announce")
    first, second = Utterance("a", "one"), Utterance("b", "two")
    feed(conversation, Announce(first), Announce(second))
    assert feed(conversation, Hush("a button")) == [
        StopPlayback("a button"),
        Record(second, "cancelled", "by a button"),
    ]
    assert feed(conversation, UtteranceCancelled("a", "a button", 0.2)) == [
        Record(first, "cancelled", "by a button", 0.2),
        Listen(True),
    ]


def test_captions_mode_asks_no_reply() -> None:
    conversation = Conversation(mode="captions")
    assert feed(conversation, Heard("good evening")) == []
    assert conversation.state is State.IDLE


def test_close_records_all_open_utterances() -> None:
    conversation = Conversation(mode="announce")
    first, second = Utterance("a", "one"), Utterance("b", "two")
    feed(conversation, Announce(first), Announce(second))
    assert conversation.close("SIGTERM") == [
        Record(first, "cancelled", "by SIGTERM"),
        Record(second, "cancelled", "by SIGTERM"),
    ]


def test_losing_the_microphone_while_listening_ends_the_segment() -> None:
    conversation = Conversation()
    alarm = Utterance("a", "The oven is on.", source="control")
    feed(conversation, SpeechStarted(), Announce(alarm))
    assert feed(conversation, DeviceLost("microphone", "pulled out")) == [Listen(False), Listen(True)]
    assert conversation.state is State.THINKING
    assert feed(conversation, SpeechEnded(0.1), Heard("")) == [Listen(False), StartUtterance(alarm)]


def test_transcript_from_before_the_microphone_loss_is_answered() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), DeviceLost("microphone", "pulled out"), SpeechEnded(0.1))
    assert feed(conversation, Heard("what time is it")) == [Ask(1, "what time is it")]


def test_speech_start_after_the_microphone_loss_is_ended() -> None:
    conversation = Conversation()
    assert feed(conversation, DeviceLost("microphone", "pulled out")) == []
    assert feed(conversation, SpeechStarted()) == [Listen(False), Listen(True)]
    feed(conversation, SpeechEnded(0.1), Heard(""))
    assert conversation.state is State.IDLE
    feed(conversation, DeviceBack("microphone", 3.0))
    assert feed(conversation, SpeechStarted()) == []
    assert conversation.state is State.LISTENING


def test_hush_discards_an_awaited_transcript() -> None:
    for began in ([SpeechStarted(), SpeechEnded(0.7)], [SpeechStarted()]):
        conversation = Conversation()
        feed(conversation, *began)
        assert feed(conversation, Hush("a button")) == []
        assert conversation.state is State.IDLE
        assert feed(conversation, SpeechEnded(0.7), Heard("what time is it")) == []
        assert conversation.state is State.IDLE
        assert feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("hello")) == [Ask(1, "hello")]


def test_announcement_after_hush_waits_until_the_user_is_silent() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), Hush("a button"))
    alarm = Utterance("a", "The oven is on.", source="control")
    assert feed(conversation, Announce(alarm)) == []
    assert feed(conversation, SpeechEnded(0.7)) == [Listen(False), StartUtterance(alarm)]


def test_second_segment_during_the_reply_interrupts_it() -> None:
    conversation = Conversation(listen_while_speaking=True)
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), SpeechStarted(), Heard("what time is it"))
    feed(conversation, Reply(1, "It is"))
    assert feed(conversation, SpeechEnded(0.7)) == []
    assert feed(conversation, Heard("in Tokyo")) == [CancelReply(1), StopPlayback("user speech"), Ask(2, "in Tokyo")]
    assert feed(conversation, Reply(1, " noon.")) == []
    utterance = Utterance("reply-1", None, turn=1)
    assert feed(conversation, UtteranceCancelled("reply-1", "user speech", 0.3)) == [
        ReportPlayedText("reply-1", 0.3),
        Record(utterance, "cancelled", "by user speech", 0.3),
    ]
    assert AppendText("reply-2", "Evening.\n\n") in feed(conversation, Reply(2, "Evening."))


def test_words_started_before_the_pause_count_and_noise_does_not() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("what time is it"), SpeechStarted(), Reply(1, "It is"))
    assert feed(conversation, SpeechEnded(0.0), Heard("")) == []
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("what time is it"), SpeechStarted(), Reply(1, "It is"))
    assert feed(conversation, SpeechEnded(0.0), Heard("no wait")) == [
        CancelReply(1),
        StopPlayback("user speech"),
        Listen(True),
        Ask(2, "no wait"),
    ]


def test_fragment_captured_during_the_pause_interrupts_nothing() -> None:
    conversation = Conversation()
    feed(conversation, Announce(Utterance("a", "The oven is on.")))
    assert feed(conversation, SpeechStarted(), SpeechEnded(0.0), Heard("the")) == []
    assert conversation.state is State.SPEAKING


def test_announcement_waits_while_the_user_speaks() -> None:
    conversation = Conversation()
    alarm = Utterance("a", "The oven is on.", source="control")
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Announce(alarm), SpeechStarted())
    assert feed(conversation, Heard("")) == []
    assert conversation.state is State.LISTENING
    assert feed(conversation, SpeechEnded(0.7)) == []
    assert feed(conversation, Heard("what time is it")) == [Ask(1, "what time is it")]
    assert feed(conversation, ReplyEnded(1)) == [Listen(False), StartUtterance(alarm)]


def test_speaker_timeout_fails_the_utterance_with_what_was_played_and_resumes_listening() -> None:
    conversation = Conversation()
    first, second = Utterance("a", "one", source="control"), Utterance("b", "two", source="control")
    feed(conversation, Announce(first), Announce(second), DeviceLost("speaker", "pulled out"))
    assert feed(conversation, DeviceTimedOut("speaker", 30.0)) == [StopPlayback("no speaker")]
    assert feed(conversation, UtteranceCancelled("a", "no speaker", 1.25)) == [
        Record(first, "failed", "no speaker for 30 s", 1.25),
        Listen(False),
        StartUtterance(second),
    ]
    feed(conversation, DeviceTimedOut("speaker", 60.0))
    assert feed(conversation, DeviceTimedOut("speaker", 90.0))[1:] == [
        Record(second, "failed", "no speaker for 90 s", 0.0),  # the speaker does not report
        Listen(True),
    ]
    assert conversation.state is State.IDLE


def test_text_in_pieces_fails_when_it_exceeds_the_queue() -> None:
    conversation = Conversation(mode="announce")
    feed(conversation, Announce(Utterance("a", "One.")), Announce(waiting := Utterance("b", None)))
    assert feed(conversation, TextPiece("b", "Two. ")) == []
    (record,) = feed(conversation, TextPiece("b", "x" * MAX_QUEUED_CHARACTERS))
    assert isinstance(record, Record) and (record.utterance, record.state) == (waiting, "failed")
    assert feed(conversation, TextPiece("b", "Three."), TextComplete("b")) == [] and conversation.queue_length == 0


def important(name: str, text: str | None = "Fire.") -> Utterance:
    return Utterance(name, text, urgency=Urgency.IMPORTANT)


def notification(name: str) -> Utterance:
    return Utterance(name, "New mail.", urgency=Urgency.NOTIFICATION)


def message(name: str, rank: int = 0) -> Utterance:
    return Utterance(name, "Dinner.", priority=rank)


def test_important_interrupts_a_message_which_then_continues() -> None:
    conversation = Conversation(mode="announce")
    first, alarm = message("a"), important("b")
    feed(conversation, Announce(first))
    assert feed(conversation, Announce(alarm)) == [
        SuspendUtterance("a", INTERRUPTED),
        Listen(False),
        StartUtterance(alarm),
    ]
    assert feed(conversation, UtteranceCancelled("a", INTERRUPTED, 1.5)) == []
    assert feed(conversation, UtterancePlayed("b", 1.0)) == [
        Record(alarm, "played", "", 1.0),
        Listen(False),
        ResumeUtterance(first, 1.5),
    ]
    assert feed(conversation, UtterancePlayed("a", 2.0)) == [Record(first, "played", "", 3.5), Listen(True)]


def test_important_ones_are_spoken_in_order_before_the_interrupted_one() -> None:
    conversation = Conversation(mode="announce")
    first, waiting = message("a"), message("m", rank=100)
    alarms = [important("x"), important("y"), important("z")]
    feed(conversation, Announce(first), Announce(waiting), *map(Announce, alarms))
    actions = feed(conversation, UtteranceCancelled("a", INTERRUPTED, 1.0))
    for name in "xyzam":
        actions += feed(conversation, UtterancePlayed(name, 1.0))
    assert [each.utterance.id for each in actions if isinstance(each, Record)] == ["x", "y", "z", "a", "m"]


def test_interrupted_one_waits_for_the_report_of_its_position() -> None:
    conversation = Conversation(mode="announce")
    first, alarm = message("a"), important("b")
    feed(conversation, Announce(first), Announce(alarm))
    assert feed(conversation, UtteranceFailed("b", "no service")) == [Record(alarm, "failed", "no service")]
    assert conversation.state is State.SPEAKING
    assert feed(conversation, UtteranceCancelled("a", INTERRUPTED, 0.5)) == [
        Listen(False),
        ResumeUtterance(first, 0.5),
    ]


def test_utterance_that_ended_before_its_interruption_does_not_continue() -> None:
    conversation = Conversation(mode="announce")
    first, alarm = message("a"), important("b")
    feed(conversation, Announce(first), Announce(alarm))
    assert feed(conversation, UtterancePlayed("a", 2.0)) == [
        Record(first, "played", "", 2.0),
        DiscardUtterance("a"),
    ]
    assert feed(conversation, UtterancePlayed("b", 1.0)) == [Record(alarm, "played", "", 1.0), Listen(True)]


def test_hush_ends_important_suspended_and_queued_ones() -> None:
    conversation = Conversation(mode="announce")
    first, alarm, waiting = message("a"), important("b"), message("c")
    feed(conversation, Announce(first), Announce(alarm), Announce(waiting))
    feed(conversation, UtteranceCancelled("a", INTERRUPTED, 0.5))
    assert feed(conversation, Hush("a button")) == [
        StopPlayback("a button"),
        DiscardUtterance("a"),
        Record(first, "cancelled", "by a button", 0.5),
        Record(waiting, "cancelled", "by a button"),
    ]
    assert feed(conversation, UtteranceCancelled("b", "a button", 0.25)) == [
        Record(alarm, "cancelled", "by a button", 0.25),
        Listen(True),
    ]


def test_hush_before_the_report_of_an_interruption_records_the_seconds_once() -> None:
    conversation = Conversation(mode="announce")
    first = message("a")
    feed(conversation, Announce(first), Announce(important("b")))
    assert feed(conversation, Hush("a button")) == [StopPlayback("a button"), DiscardUtterance("a")]
    assert feed(conversation, UtteranceCancelled("a", INTERRUPTED, 0.5)) == [
        Record(first, "cancelled", "by a button", 0.5)
    ]


def test_notification_is_dropped_unless_everything_is_silent() -> None:
    for before in ([Announce(message("a"))], [Announce(notification("a"))], [SpeechStarted()], [Heard("hello")]):
        conversation = Conversation()
        feed(conversation, *before)
        assert feed(conversation, Announce(notification("n"))) == [Record(notification("n"), "dropped", BUSY)]
    assert StartUtterance(notification("n")) in feed(Conversation(), Announce(notification("n")))


def test_message_ends_a_running_notification() -> None:
    conversation = Conversation(mode="announce")
    feed(conversation, Announce(notification("n")))
    assert feed(conversation, Announce(message("m")), Announce(message("o"))) == [StopPlayback("a message")]
    assert feed(conversation, UtteranceCancelled("n", "a message", 0.5)) == [
        Record(notification("n"), "cancelled", "by a message", 0.5),
        Listen(False),
        StartUtterance(message("m")),
    ]


def test_message_ends_a_suspended_notification() -> None:
    conversation = Conversation(mode="announce")
    feed(conversation, Announce(notification("n")), Announce(important("i")))
    feed(conversation, UtteranceCancelled("n", INTERRUPTED, 0.5))
    assert feed(conversation, Announce(message("m"))) == [
        DiscardUtterance("n"),
        Record(notification("n"), "cancelled", "by a message", 0.5),
    ]


def test_speech_of_the_user_does_not_interrupt_an_important_one() -> None:
    conversation = Conversation(listen_while_speaking=True)
    feed(conversation, Announce(important("i")))
    assert feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("be quiet")) == []
    assert conversation.state is State.SPEAKING


def test_important_one_does_not_wait_for_the_user_or_a_reply() -> None:
    for before in ([SpeechStarted()], [SpeechStarted(), SpeechEnded(0.7)], [Heard("what time is it")]):
        conversation = Conversation()
        feed(conversation, *before)
        assert feed(conversation, Announce(important("i"))) == [Listen(False), StartUtterance(important("i"))]


def test_timer_rings_while_the_queue_is_full() -> None:
    conversation = Conversation()
    feed(conversation, Announce(important("i")), *(Announce(message(f"m{number}")) for number in range(MAX_QUEUED)))
    timer = Utterance("t", "Tea.", source=TIMER, urgency=Urgency.IMPORTANT)
    assert feed(conversation, Announce(timer)) == []
    assert StartUtterance(timer) in feed(conversation, UtterancePlayed("i", 1.0))


def test_reply_waits_for_an_important_one() -> None:
    conversation = Conversation()
    feed(conversation, Heard("what time is it"), Announce(important("i")))
    assert feed(conversation, Reply(1, "It is"), Reply(1, "noon."), ReplyEnded(1)) == []
    assert feed(conversation, UtterancePlayed("i", 1.0))[2:] == [
        StartUtterance(Utterance("reply-1", None, turn=1)),
        AppendText("reply-1", "It is\n\nnoon.\n\n"),
        Finish("reply-1"),
    ]


def test_reply_that_has_no_text_yet_is_awaited_after_an_important_one() -> None:
    conversation = Conversation()
    feed(conversation, Heard("what time is it"), Announce(important("i")))
    assert feed(conversation, UtterancePlayed("i", 1.0)) == [Record(important("i"), "played", "", 1.0), Listen(True)]
    assert conversation.state is State.THINKING
    assert AppendText("reply-1", "Noon.\n\n") in feed(conversation, Reply(1, "Noon."))


def test_reply_that_waited_for_a_transcript_is_spoken_when_it_has_no_words() -> None:
    """An important announcement delayed the reply, and a sound is not transcribed yet when it ends."""
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), SpeechStarted(), Heard("what time is it"))
    feed(conversation, Announce(important("i")), SpeechEnded(0.3), Reply(1, "Noon."), UtterancePlayed("i", 1.0))
    assert conversation.state is State.THINKING
    assert feed(conversation, Heard("")) == [
        Listen(False),
        StartUtterance(Utterance("reply-1", None, turn=1)),
        AppendText("reply-1", "Noon.\n\n"),
    ]
    assert feed(conversation, ReplyEnded(1)) == [Finish("reply-1")]


def test_interrupted_reply_that_waited_for_a_transcript_continues_when_it_has_no_words() -> None:
    conversation = Conversation(listen_while_speaking=True)
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), SpeechStarted(), Heard("what time is it"), Reply(1, "Noon."))
    feed(conversation, Announce(important("i")), SpeechEnded(0.3), UtteranceCancelled("reply-1", INTERRUPTED, 0.5))
    feed(conversation, UtterancePlayed("i", 1.0))
    assert conversation.state is State.THINKING
    assert ResumeUtterance(Utterance("reply-1", None, turn=1), 0.5) in feed(conversation, Heard(""))


def test_messages_of_higher_rank_precede_a_reply_that_waited_for_a_transcript() -> None:
    conversation = Conversation()
    first = Utterance("m", "Dinner.", priority=7)
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), SpeechStarted(), Heard("what time is it"), Announce(first))
    feed(conversation, Reply(1, "Noon."), SpeechEnded(0.3))
    assert StartUtterance(first) in feed(conversation, Heard(""), ReplyEnded(1))
    assert Finish("reply-1") in feed(conversation, UtterancePlayed("m", 1.0))
    feed(conversation, UtterancePlayed("reply-1", 1.0))
    assert conversation.state is State.IDLE


def test_interrupted_reply_gets_its_further_text_and_continues() -> None:
    conversation = Conversation()
    reply = Utterance("reply-1", None, turn=1)
    feed(conversation, Heard("what time is it"), Reply(1, "It is"), Announce(important("i")))
    assert feed(conversation, Reply(1, "noon."), ReplyEnded(1)) == [
        AppendText("reply-1", "noon.\n\n"),
        Finish("reply-1"),
    ]
    feed(conversation, UtteranceCancelled("reply-1", INTERRUPTED, 0.5))
    assert feed(conversation, UtterancePlayed("i", 1.0))[2:] == [ResumeUtterance(reply, 0.5)]
    assert feed(conversation, UtterancePlayed("reply-1", 1.0))[0] == Record(reply, "played", "", 1.5)


def test_question_during_an_important_one_cancels_the_interrupted_reply() -> None:
    conversation = Conversation()
    feed(conversation, Heard("what time is it"), SpeechStarted(), Reply(1, "It is"), Announce(important("i")))
    feed(conversation, UtteranceCancelled("reply-1", INTERRUPTED, 0.5))
    assert feed(conversation, SpeechEnded(0.0), Heard("no wait")) == [
        CancelReply(1),
        DiscardUtterance("reply-1"),
        Record(Utterance("reply-1", None, turn=1), "cancelled", "by user speech", 0.5),
        Ask(2, "no wait"),
    ]


def test_reply_ranks_as_a_message_of_rank_zero() -> None:
    conversation = Conversation()
    feed(conversation, Heard("hello"), Announce(message("high", 1)), Announce(message("low", 0)))
    actions = feed(conversation, Reply(1, "Hello."), ReplyEnded(1))
    for name in ("high", "reply-1", "low"):
        actions += feed(conversation, UtterancePlayed(name, 1.0))
    assert [each.utterance.id for each in actions if isinstance(each, Record)] == ["high", "reply-1", "low"]


def test_cancel_ends_one_utterance() -> None:
    conversation = Conversation(mode="announce")
    first, second, third = message("a"), message("b"), message("c")
    feed(conversation, *map(Announce, (first, second, third)))
    assert feed(conversation, Cancel("b", "the page")) == [Record(second, "cancelled", "by the page")]
    assert feed(conversation, Cancel("b", "the page"), Cancel("unknown", "the page")) == []
    assert feed(conversation, Cancel("a", "the page"), Cancel("a", "the page")) == [StopPlayback("the page")]
    assert feed(conversation, UtteranceCancelled("a", "the page", 0.5)) == [
        Record(first, "cancelled", "by the page", 0.5),
        Listen(False),
        StartUtterance(third),
    ]


def test_cancel_ends_a_suspended_utterance_and_a_streamed_one() -> None:
    conversation = Conversation(mode="announce")
    streamed = Utterance("a", None)
    feed(conversation, Announce(streamed), Announce(important("b")))
    assert feed(conversation, Cancel("a", "the page"), TextPiece("a", "late")) == [DiscardUtterance("a")]
    assert feed(conversation, UtterancePlayed("b", 1.0)) == [Record(important("b"), "played", "", 1.0), Listen(True)]
    assert feed(conversation, UtteranceCancelled("a", INTERRUPTED, 0.5)) == [
        Record(streamed, "cancelled", "by the page", 0.5)
    ]


def test_cancel_of_a_reply_cancels_its_text() -> None:
    conversation = Conversation()
    feed(conversation, Heard("what time is it"), Reply(1, "It is"))
    assert feed(conversation, Cancel("reply-1", "the page")) == [CancelReply(1), StopPlayback("the page")]


def test_utterance_that_is_not_audible_in_time_expires() -> None:
    conversation = Conversation(mode="announce")
    first, second = message("a"), message("b")
    feed(conversation, Announce(first), Announce(second))
    reason = "not audible within 5 s"
    assert feed(conversation, Expired("b", 5.0)) == [Record(second, "expired", reason)]
    assert feed(conversation, Expired("a", 5.0)) == [StopPlayback(reason)]
    assert feed(conversation, UtteranceCancelled("a", reason)) == [Record(first, "expired", reason), Listen(True)]


def test_listen_request_stops_a_message_and_waits_for_the_user() -> None:
    conversation = Conversation()
    feed(conversation, Announce(message("a")), Announce(message("b")))
    assert feed(conversation, ListenNow("a button")) == [
        StopPlayback("a button, which asked to listen"),
        Listen(True),
    ]
    feed(conversation, UtteranceCancelled("a", "a button, which asked to listen", 0.5))
    assert conversation.state is State.LISTENING
    assert feed(conversation, ListenTimedOut()) == [Listen(False), StartUtterance(message("b"))]
    assert feed(Conversation(), ListenNow("a button"), SpeechStarted(), SpeechEnded(0.7), ListenTimedOut()) == []


def test_listen_request_does_not_stop_an_important_one() -> None:
    conversation = Conversation()
    feed(conversation, Announce(important("i")))
    assert feed(conversation, ListenNow("a button")) == []


def event_lists() -> st.SearchStrategy[list[Event | Urgency]]:
    names = st.integers(0, 6).map(lambda number: f"u{number}")
    turns = st.integers(0, 4)
    return st.lists(
        st.one_of(
            st.just(SpeechStarted()),
            st.just(SpeechEnded(0.5)),
            st.sampled_from(["", "hello", "what time is it"]).map(Heard),
            turns.map(lambda turn: Reply(turn, "yes")),
            turns.map(ReplyEnded),
            names.map(lambda name: UtterancePlayed(name, 1.0)),
            turns.map(lambda turn: UtterancePlayed(f"reply-{turn}", 1.0)),
            turns.map(lambda turn: UtteranceCancelled(f"reply-{turn}", "x")),
            names.map(lambda name: UtteranceFailed(name, "x")),
            st.just(Hush("x")),
            st.sampled_from(["microphone", "speaker"]).flatmap(
                lambda device: st.sampled_from(
                    [DeviceLost(device, "x"), DeviceBack(device, 1.0), DeviceTimedOut(device, 30.0)]
                )
            ),
            names.map(lambda name: TextPiece(name, "text")),
            names.map(TextComplete),
            names.map(lambda name: UtteranceCancelled(name, INTERRUPTED, 0.5)),
            turns.map(lambda turn: UtteranceCancelled(f"reply-{turn}", INTERRUPTED, 0.5)),
            names.map(lambda name: Cancel(name, "x")),
            turns.map(lambda turn: Cancel(f"reply-{turn}", "x")),
            names.map(lambda name: Expired(name, 1.0)),
            st.sampled_from([ListenNow("x"), ListenTimedOut()]),
            st.sampled_from(Urgency),  # stands for the next announcement, whose id is new each time
        ),
        max_size=40,
    )


@given(event_lists(), st.sampled_from(["assistant", "announce", "captions"]), st.booleans())
def test_each_accepted_utterance_ends_in_exactly_one_record(
    events: list[Event | Urgency], mode: str, listen_while_speaking: bool
) -> None:
    conversation = Conversation(mode=mode, listen_while_speaking=listen_while_speaking)
    accepted: list[str] = []
    actions: list[Action] = []
    for event in events:
        if isinstance(event, Urgency):
            text = "text" if len(accepted) % 2 else None
            event = Announce(Utterance(f"u{len(accepted)}", text, urgency=event))
            accepted.append(event.utterance.id)
        actions += conversation.handle(event)
    actions += conversation.close("the end")
    replies = [
        action.utterance.id
        for action in actions
        if isinstance(action, StartUtterance | Record) and action.utterance.turn  # one may wait and never start
    ]
    accepted += dict.fromkeys(replies)
    recorded = [action.utterance.id for action in actions if isinstance(action, Record)]
    assert sorted(recorded) == sorted(accepted)
    assert not conversation.is_busy or conversation.state is not State.IDLE


@given(event_lists(), st.sampled_from(["assistant", "announce", "captions"]), st.booleans())
def test_conversation_returns_to_idle_when_every_stage_reports(
    events: list[Event | Urgency], mode: str, listen_while_speaking: bool
) -> None:
    conversation = Conversation(mode=mode, listen_while_speaking=listen_while_speaking)
    began = heard = announced = 0
    paused = False
    actions: list[Action] = []
    for event in [*events, DeviceLost("microphone", "x")]:
        if isinstance(event, Urgency):
            announced += 1
            event = Announce(Utterance(f"u{announced}", "text", urgency=event))
        began += isinstance(event, SpeechStarted)
        heard = min(began, heard + isinstance(event, Heard))
        actions += conversation.handle(event)
    for _ in range(began - heard):
        actions += conversation.handle(Heard(""))
    for _ in range(2 * announced + 2):
        actions += conversation.handle(ReplyEnded(conversation.turn))
        for speak in [action for action in actions if isinstance(action, StartUtterance)]:
            actions += conversation.handle(UtteranceFailed(speak.utterance.id, "x"))
    for action in actions:
        if isinstance(action, Listen):
            paused = not action.open
    assert conversation.state is State.IDLE and not conversation.is_busy and not paused


def test_speech_soon_after_a_question_without_a_reply_continues_it() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), Heard("what time is it"))
    feed(conversation, SpeechStarted(1.2), SpeechEnded(0.3))
    assert feed(conversation, Heard("in Tokyo")) == [CancelReply(1), Ask(2, "what time is it in Tokyo")]
    feed(conversation, SpeechStarted(1.5), SpeechEnded(0.3))
    assert feed(conversation, Heard("please")) == [CancelReply(2), Ask(3, "what time is it in Tokyo please")]


def test_later_speech_is_a_question_of_its_own() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), Heard("what time is it"))
    assert feed(conversation, SpeechStarted(1.6), SpeechEnded(0.3), Heard("hello")) == [CancelReply(1), Ask(2, "hello")]


def test_speech_after_the_reply_started_or_a_hush_continues_nothing() -> None:
    conversation = Conversation(listen_while_speaking=True)
    feed(conversation, SpeechStarted(), SpeechEnded(0.3), Heard("what time is it"), Reply(1, "Late."))
    assert feed(conversation, SpeechStarted(1.0), SpeechEnded(0.3), Heard("stop"))[-1] == Ask(2, "stop")
    feed(conversation, UtteranceCancelled("reply-1", "user speech"), Hush("control"))
    assert feed(conversation, SpeechStarted(1.0), SpeechEnded(0.3), Heard("hello")) == [Ask(3, "hello")]


def test_wake_word_awaits_the_user_until_the_time_is_over() -> None:
    conversation = Conversation(follow_up_seconds=6.0)
    assert feed(conversation, Woken("alexa")) == []
    assert conversation.state is State.LISTENING
    feed(conversation, ListenTimedOut())
    assert conversation.state is State.IDLE


def test_a_louder_device_answers_instead_before_and_while_the_user_speaks() -> None:
    for spoken in ((), (SpeechStarted(),)):
        conversation = Conversation(follow_up_seconds=6.0)
        feed(conversation, Woken("alexa"), *spoken)
        assert feed(conversation, WakeYielded("kitchen"))[0] == OpenGate(0.0)
        assert conversation.state is State.IDLE
        if spoken:
            late = feed(conversation, SpeechEnded(0.3), Heard("hello"))
            assert not any(isinstance(action, Ask) for action in late) and conversation.state is State.IDLE
        feed(conversation, Woken("alexa"), SpeechStarted(), SpeechEnded(0.3))
        assert Ask(1, "hello") in feed(conversation, Heard("hello"))


def test_speech_that_starts_before_the_gate_is_shut_is_no_question() -> None:
    conversation = Conversation(follow_up_seconds=6.0)
    feed(conversation, Woken("alexa"), WakeYielded("kitchen"))
    late = feed(conversation, SpeechStarted(), SpeechEnded(0.3), Heard("what time is it"))
    assert not any(isinstance(action, Ask) for action in late) and conversation.state is State.IDLE
    for opened in (Woken("alexa"), ListenNow("control")):
        feed(conversation, Woken("alexa"), WakeYielded("kitchen"), opened, SpeechStarted(), SpeechEnded(0.3))
        assert any(isinstance(action, Ask) for action in feed(conversation, Heard("hello")))
        feed(conversation, Hush("control"))


def test_a_louder_device_does_not_end_a_reply() -> None:
    conversation = Conversation(follow_up_seconds=6.0)
    feed(conversation, Woken("alexa"), SpeechStarted(), SpeechEnded(0.3), Heard("hello"))
    assert feed(conversation, WakeYielded("kitchen")) == [] and conversation.state is State.THINKING


def test_reply_opens_the_gate_for_a_follow_up() -> None:
    conversation = Conversation(follow_up_seconds=6.0)
    actions = feed(conversation, Woken("alexa"), SpeechStarted(), SpeechEnded(0.3), Heard("hello"), Reply(1, "Hi."))
    assert OpenGate(6.0) not in actions
    actions = feed(conversation, ReplyEnded(1), UtterancePlayed("reply-1", 1.0))
    assert actions[-2:] == [OpenGate(6.0), Listen(True)]


def test_announcement_opens_no_gate() -> None:
    conversation = Conversation(follow_up_seconds=6.0)
    actions = feed(conversation, Announce(Utterance("a", "Hello.")), UtterancePlayed("a", 1.0))
    assert not any(isinstance(action, OpenGate) for action in actions)


def test_speech_interrupts_without_a_wake_word_only_while_the_device_speaks() -> None:
    for end in (UtterancePlayed("a", 1.0), UtteranceCancelled("a", "control", 1.0), UtteranceFailed("a", "lost", 0.0)):
        conversation = Conversation(follow_up_seconds=6.0, listen_while_speaking=True)
        assert OpenGate(SPEAKING_SECONDS) in feed(conversation, Announce(Utterance("a", "Hello.")))
        assert OpenGate(0.0) in feed(conversation, end)
    conversation = Conversation(follow_up_seconds=6.0, listen_while_speaking=True)
    feed(conversation, Announce(Utterance("a", "Hello.")), SpeechStarted())
    ended = feed(conversation, UtteranceCancelled("a", "user speech", 1.0))
    assert not any(isinstance(action, OpenGate) for action in ended)


def test_request_to_listen_opens_the_gate() -> None:
    assert feed(Conversation(follow_up_seconds=6.0), ListenNow("control")) == [OpenGate(LISTEN_SECONDS)]
    assert feed(Conversation(), ListenNow("control")) == []


def test_a_hush_while_the_user_is_awaited_closes_the_gate() -> None:
    for opened in (ListenNow("the button"), Woken("alexa")):
        conversation = Conversation(follow_up_seconds=6.0)
        feed(conversation, opened)
        assert feed(conversation, Hush("the button")) == [OpenGate(0.0)]
        assert conversation.state is State.IDLE
        assert feed(conversation, Hush("the button")) == []


def test_thanks_ends_the_conversation_where_a_wake_word_is_needed() -> None:
    for text in ("Thanks.", "No, thank you!", "danke"):
        conversation = Conversation(follow_up_seconds=6.0)
        assert feed(conversation, SpeechStarted(), SpeechEnded(0.3), Heard(text)) == []
        assert conversation.state is State.IDLE
    assert feed(Conversation(), SpeechStarted(), SpeechEnded(0.3), Heard("Thanks.")) == [Ask(1, "Thanks.")]


def test_stop_word_cancels_an_important_announcement_and_the_queue() -> None:
    conversation = Conversation(listen_while_speaking=True)
    important, queued = Utterance("a", "Fire.", urgency=Urgency.IMPORTANT), Utterance("b", "Hello.")
    feed(conversation, Announce(important), Announce(queued), SpeechStarted())
    reason = 'the stop word "stop"'
    assert feed(conversation, StopWord("stop")) == [StopPlayback(reason), Record(queued, "cancelled", f"by {reason}")]
    assert feed(conversation, Heard("stop"), UtteranceCancelled("a", reason, 1.0))[0].state == "cancelled"  # type: ignore[union-attr]
    assert feed(conversation, SpeechEnded(0.3)) == [] and conversation.state is State.IDLE


def test_stop_word_after_a_wake_word_that_interrupted_asks_nothing() -> None:
    conversation = speaking("word")
    feed(conversation, Woken("alexa"), UtteranceCancelled("reply-1", 'the wake word "alexa"', 1.0), SpeechStarted())
    feed(conversation, StopWord("stop"))
    assert not any(isinstance(action, Ask) for action in feed(conversation, SpeechEnded(0.3), Heard("Stop.")))
    assert conversation.state is State.IDLE


def test_stop_word_has_no_effect_while_the_device_is_silent() -> None:
    assert feed(Conversation(), SpeechStarted(), StopWord("stop")) == []


# --- interruption with an echo canceller


def speaking(mode: str = "speech", urgency: Urgency = Urgency.MESSAGE) -> Conversation:
    """Return a conversation that speaks: the reply to a first turn, or an announcement ``a`` of another urgency."""
    conversation = Conversation()
    feed(conversation, EchoChanged(mode, ""))
    if urgency is Urgency.MESSAGE:
        feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("what time is it"), Reply(1, "It is noon."))
    else:
        feed(conversation, Announce(Utterance("a", "Fire.", urgency=urgency)))
    assert conversation.state is State.SPEAKING
    return conversation


REPLY = Utterance("reply-1", None, turn=1)
SUSPENDED = UtteranceCancelled("reply-1", SPOKEN_OVER, 1.5)


def test_suspected_speech_ducks_the_reply_and_its_end_restores_it() -> None:
    conversation = speaking()
    assert feed(conversation, SpeechSuspected(True)) == [Duck(True)]
    assert feed(conversation, SpeechSuspected(False)) == [Duck(False)]


def test_speech_suspends_the_reply_and_a_word_ends_it() -> None:
    conversation = speaking()
    assert feed(conversation, SpeechStarted()) == [SuspendUtterance("reply-1", SPOKEN_OVER)]
    assert conversation.state is State.LISTENING
    assert feed(conversation, SUSPENDED) == [ReportPlayedText("reply-1", 1.5)]
    assert feed(conversation, PlayedText("reply-1", 1, "It is")) == []
    assert feed(conversation, Partial("and")) == [
        CancelReply(1),
        DiscardUtterance("reply-1"),
        CorrectReply(1, "It is"),
        Record(REPLY, "cancelled", "by user speech", 1.5),
    ]
    assert feed(conversation, SpeechEnded(0.7), Heard("and the date")) == [Ask(2, "and the date")]


def test_reply_goes_on_if_no_word_follows() -> None:
    conversation = speaking()
    feed(conversation, SpeechStarted(), SUSPENDED)
    assert feed(conversation, WordTimedOut()) == [ResumeUtterance(REPLY, 1.5)]
    assert conversation.state is State.SPEAKING
    assert feed(conversation, SpeechEnded(0.7), Heard("")) == []
    assert AppendText("reply-1", "More.\n\n") in feed(conversation, Reply(1, "More."))


def test_word_that_comes_late_ends_the_reply_that_went_on() -> None:
    conversation = speaking()
    feed(conversation, SpeechStarted(), SUSPENDED, WordTimedOut())
    assert feed(conversation, Partial("wait")) == [CancelReply(1), StopPlayback("user speech")]
    assert conversation.state is State.LISTENING


def test_empty_transcript_continues_the_reply_at_once() -> None:
    conversation = speaking()
    feed(conversation, SpeechStarted(), SUSPENDED, SpeechEnded(0.7))
    assert feed(conversation, Heard("")) == [ResumeUtterance(REPLY, 1.5)]
    assert feed(conversation, WordTimedOut()) == []


NOTIFICATION = Utterance("n", "Rain.", source="control", urgency=Urgency.NOTIFICATION)
MESSAGE = Utterance("b", "Hello.", source="control")


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([UtterancePlayed("n", 2.0), SpeechEnded(0.7)], id="played"),
        pytest.param(
            [UtteranceCancelled("n", SPOKEN_OVER, 1.0), SpeechEnded(0.7), Cancel("n", "control")], id="cancelled"
        ),
        pytest.param([UtteranceCancelled("n", SPOKEN_OVER, 1.0), SpeechEnded(0.7), Announce(MESSAGE)], id="replaced"),
    ],
)
def test_noise_over_an_utterance_that_has_ended_meanwhile_keeps_no_other_one_waiting(events: list[Event]) -> None:
    conversation = Conversation(listen_while_speaking=True)
    feed(conversation, EchoChanged("speech", ""), Announce(NOTIFICATION), SpeechStarted())
    actions = feed(conversation, *events, Heard(""), Announce(MESSAGE._replace(id="c")))
    assert any(isinstance(action, StartUtterance) for action in actions)
    assert conversation.state is State.SPEAKING


def test_interruption_cancels_a_reply_that_waits_and_is_still_written() -> None:
    conversation = Conversation()
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("what time is it"))
    feed(conversation, Announce(Utterance("a", "Hello.", source="control", priority=7)), Reply(1, "It is"))
    assert feed(conversation, ListenNow("button"))[:2] == [
        CancelReply(1),
        Record(REPLY, "cancelled", "by button, which asked to listen"),
    ]
    feed(conversation, UtteranceCancelled("a", "button", 1.0), ReplyEnded(1), ListenTimedOut())
    assert conversation.state is State.IDLE


def test_question_without_a_partial_corrects_the_reply_before_it_is_asked() -> None:
    conversation = speaking()
    feed(conversation, SpeechStarted(), SUSPENDED, PlayedText("reply-1", 1, "It is"), SpeechEnded(0.7))
    actions = feed(conversation, Heard("what day is it"))
    assert actions.index(CorrectReply(1, "It is")) < actions.index(Ask(2, "what day is it"))
    assert Record(REPLY, "cancelled", "by user speech", 1.5) in actions


def test_stop_word_after_an_interruption_is_no_question() -> None:
    conversation = speaking()
    feed(conversation, SpeechStarted(), SUSPENDED, Partial("stop"))
    feed(conversation, StopWord("stop"))
    assert feed(conversation, SpeechEnded(0.7), Heard("stop")) == []
    assert conversation.state is State.IDLE


def test_speech_does_not_interrupt_where_only_words_may() -> None:
    conversation = speaking("word")
    assert feed(conversation, SpeechSuspected(True), SpeechStarted(), Partial("hello there"), SpeechEnded(0.7)) == []
    assert feed(conversation, Heard("hello there")) == []
    assert feed(conversation, SpeechStarted(), Partial("stop"), StopWord("stop")) == [
        CancelReply(1),
        StopPlayback('the stop word "stop"'),
    ]


def test_wake_word_interrupts_where_only_words_may() -> None:
    conversation = speaking("word")
    assert feed(conversation, Woken("alexa")) == [CancelReply(1), StopPlayback('the wake word "alexa"')]
    assert conversation.state is State.LISTENING


def test_speech_and_wake_word_never_interrupt_an_important_announcement() -> None:
    conversation = speaking(urgency=Urgency.IMPORTANT)
    ignored = (
        SpeechSuspected(True),
        SpeechStarted(),
        Partial("hello"),
        SpeechEnded(0.7),
        Heard("hello"),
        Woken("alexa"),
    )
    assert feed(conversation, *ignored) == []
    assert conversation.state is State.SPEAKING
    assert feed(conversation, StopWord("stop")) == [StopPlayback('the stop word "stop"')]


def test_microphone_is_shut_while_speaking_until_the_canceller_works() -> None:
    conversation = Conversation()
    feed(conversation, EchoChanged("half-duplex", "the delay is unknown"))
    first = Utterance("a", "one")
    assert feed(conversation, Announce(first)) == [Listen(False), StartUtterance(first)]
    assert feed(conversation, EchoChanged("speech", "")) == [Listen(True)]
    assert feed(conversation, EchoChanged("half-duplex", "the drift is too large")) == [Listen(False)]
    assert feed(conversation, UtterancePlayed("a", 1.0)) == [Record(first, "played", "", 1.0), Listen(True)]


def test_volume_is_restored_when_the_microphone_is_shut_during_suspected_speech() -> None:
    conversation = speaking()
    feed(conversation, SpeechSuspected(True))
    assert feed(conversation, EchoChanged("half-duplex", "the drift is too large")) == [Duck(False), Listen(False)]
    assert feed(conversation, EchoChanged("speech", "")) == [Listen(True)]


def test_volume_is_restored_when_the_microphone_is_lost_during_suspected_speech() -> None:
    conversation = speaking()
    feed(conversation, SpeechSuspected(True))
    assert feed(conversation, DeviceLost("microphone", "unplugged")) == [Duck(False)]
    assert feed(conversation, SpeechSuspected(True)) == []  # in a late frame from before the loss
    assert feed(conversation, DeviceBack("microphone", 1.0), SpeechSuspected(True)) == [Duck(True)]


def test_important_announcement_interrupts_a_suspended_reply_which_then_goes_on() -> None:
    conversation = speaking()
    alarm = important("b")
    feed(conversation, SpeechStarted(), SUSPENDED)
    assert feed(conversation, Announce(alarm)) == [StartUtterance(alarm)]
    assert feed(conversation, WordTimedOut(), SpeechEnded(0.7), Heard("")) == []
    assert feed(conversation, UtterancePlayed("b", 1.0))[1:] == [ResumeUtterance(REPLY, 1.5)]


def test_hush_ends_a_suspended_reply() -> None:
    conversation = speaking()
    feed(conversation, SpeechStarted(), SUSPENDED)
    assert Record(REPLY, "cancelled", "by a button", 1.5) in feed(conversation, Hush("a button"))
    assert feed(conversation, WordTimedOut()) == []


def test_sound_is_played_while_the_reply_to_this_turn_is_awaited() -> None:
    conversation = Conversation()
    assert feed(conversation, ReplyDelayed(1)) == []
    feed(conversation, SpeechStarted(), SpeechEnded(0.7), Heard("hello"))
    assert feed(conversation, ReplyDelayed(1)) == [PlayFillerSound()]
    assert feed(conversation, ReplyDelayed(2)) == []
    assert feed(conversation, SpeechStarted(), ReplyDelayed(1)) == []
    feed(conversation, SpeechEnded(0.7), Heard(""), Reply(1, "Hi."))
    assert feed(conversation, ReplyDelayed(1)) == []


def test_pause_after_the_wake_word_plays_the_sound() -> None:
    conversation = Conversation(follow_up_seconds=6.0)
    assert feed(conversation, Woken("alexa"), WakePaused()) == [PlayWakeSound()]
    assert feed(conversation, SpeechStarted(), WakePaused()) == []
