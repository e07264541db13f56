"""Who may speak now: every rule of the table, and that each accepted utterance ends in exactly one record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.conversation import (
    Action,
    AppendText,
    Ask,
    CancelReply,
    Conversation,
    Finish,
    Listen,
    Record,
    StartUtterance,
    State,
    StopPlayback,
)
from agent.pipeline.events import (
    Announce,
    Cancelled,
    Complete,
    DeviceBack,
    DeviceLost,
    DeviceTimedOut,
    Event,
    Heard,
    Hush,
    Piece,
    Reply,
    ReplyEnded,
    SpeechBegan,
    SpeechEnded,
    Utterance,
    UtteranceFailed,
    UtterancePlayed,
)


def talk(conversation: Conversation, *events: Event) -> list[Action]:
    return [action for event in events for action in conversation.handle(event)]


def test_a_turn_goes_from_the_first_word_heard_to_the_last_word_said() -> None:
    conversation = Conversation()
    assert talk(conversation, SpeechBegan()) == []
    assert conversation.state is State.LISTENING
    assert talk(conversation, SpeechEnded(0.7)) == []
    assert conversation.state is State.THINKING
    assert talk(conversation, Heard("what time is it")) == [Ask(1, "what time is it")]
    utterance = Utterance("reply-1", None, turn=1)
    assert talk(conversation, Reply(1, "Late.")) == [
        Listen(False),
        StartUtterance(utterance),
        AppendText("reply-1", "Late.\n"),
    ]
    assert talk(conversation, Reply(1, "Good night.")) == [AppendText("reply-1", "Good night.\n")]
    assert talk(conversation, ReplyEnded(1)) == [Finish("reply-1")]
    assert conversation.state is State.SPEAKING
    assert talk(conversation, UtterancePlayed("reply-1", 1.5)) == [Record(utterance, "played", "", 1.5), Listen(True)]
    assert conversation.state is State.IDLE and not conversation.busy


def test_nothing_understood_asks_nobody() -> None:
    conversation = Conversation()
    assert talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("")) == []
    assert conversation.state is State.IDLE


def test_an_answer_without_a_word_ends_the_turn() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("silence"))
    assert talk(conversation, ReplyEnded(1)) == []
    assert conversation.state is State.IDLE


def test_a_slammed_door_does_not_cost_the_answer() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("what time is it"))
    assert talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("")) == []
    assert AppendText("reply-1", "Noon.\n") in talk(conversation, Reply(1, "Noon."))


def test_a_second_question_takes_the_place_of_the_first() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("what time is it"))
    assert talk(conversation, Heard("no, what day is it")) == [CancelReply(1), Ask(2, "no, what day is it")]
    assert talk(conversation, Reply(1, "Noon."), ReplyEnded(1)) == []
    assert AppendText("reply-2", "Monday.\n") in talk(conversation, Reply(2, "Monday."))


def test_the_answer_is_not_heard_as_a_question() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("hello"), Reply(1, "Hello."))
    assert talk(conversation, SpeechBegan()) == []
    assert conversation.state is State.SPEAKING


def test_with_an_open_ear_somebody_who_speaks_silences_the_device() -> None:
    conversation = Conversation(listen_while_speaking=True)
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("hello"))
    utterance = Utterance("reply-1", None, turn=1)
    assert talk(conversation, Reply(1, "Hello.")) == [StartUtterance(utterance), AppendText("reply-1", "Hello.\n")]
    assert talk(conversation, SpeechBegan()) == [CancelReply(1), StopPlayback("somebody spoke")]
    assert conversation.state is State.LISTENING
    [record] = talk(conversation, Cancelled("reply-1", "somebody spoke", 0.4))
    assert record == Record(utterance, "cancelled", "by somebody spoke", 0.4)
    assert conversation.state is State.LISTENING
    assert talk(conversation, SpeechEnded(0.7), Heard("stop")) == [Ask(2, "stop")]


def test_announcements_wait_for_their_turn_and_the_important_comes_first() -> None:
    conversation = Conversation(mode="announce")
    first, second, urgent = (
        Utterance("a", "one", source="control"),
        Utterance("b", "two", source="control"),
        Utterance("c", "fire", source="control", priority=9),
    )
    assert talk(conversation, Announce(first)) == [Listen(False), StartUtterance(first)]
    assert talk(conversation, Announce(second), Announce(urgent)) == []
    assert talk(conversation, UtterancePlayed("a", 1.0)) == [
        Record(first, "played", "", 1.0),
        Listen(False),
        StartUtterance(urgent),
    ]
    assert talk(conversation, UtteranceFailed("c", "no service")) == [
        Record(urgent, "failed", "no service", 0.0),
        Listen(False),
        StartUtterance(second),
    ]
    assert talk(conversation, UtterancePlayed("b", 1.0)) == [Record(second, "played", "", 1.0), Listen(True)]


def test_an_announcement_may_come_piece_by_piece() -> None:
    conversation = Conversation(mode="announce")
    written = Utterance("a", None, source="control")
    assert talk(conversation, Announce(written)) == [Listen(False), StartUtterance(written)]
    assert talk(conversation, Piece("a", "One."), Piece("nobody's", "x"), Piece("a", " Two.")) == [
        AppendText("a", "One."),
        AppendText("a", " Two."),
    ]
    assert talk(conversation, Complete("nobody's"), Complete("a")) == [Finish("a")]
    assert talk(conversation, UtterancePlayed("a", 1.0)) == [Record(written, "played", "", 1.0), Listen(True)]
    assert talk(conversation, Piece("a", "too late"), Complete("a")) == []


def test_what_is_written_of_an_announcement_while_it_waits_is_said_when_its_turn_comes() -> None:
    conversation = Conversation(mode="announce")
    first, whole, half, bare = (
        Utterance("a", "one"),
        Utterance("b", None),
        Utterance("c", None),
        Utterance("d", None),
    )
    assert talk(conversation, *map(Announce, (first, whole, half, bare)))[1:] == [StartUtterance(first)]
    assert talk(conversation, Piece("b", "One. "), Piece("c", "Half"), Piece("b", "Two."), Complete("b")) == []
    assert talk(conversation, UtterancePlayed("a", 1.0))[1:] == [
        Listen(False),
        StartUtterance(whole),
        AppendText("b", "One. Two."),
        Finish("b"),
    ]
    assert talk(conversation, UtterancePlayed("b", 1.0))[1:] == [
        Listen(False),
        StartUtterance(half),
        AppendText("c", "Half"),
    ]
    assert talk(conversation, Piece("c", " more."), Complete("c")) == [AppendText("c", " more."), Finish("c")]
    assert talk(conversation, UtterancePlayed("c", 1.0))[1:] == [Listen(False), StartUtterance(bare)]


def test_what_is_written_of_an_announcement_that_was_hushed_goes_nowhere() -> None:
    conversation = Conversation(mode="announce")
    talk(conversation, Announce(Utterance("a", None)), Announce(Utterance("b", None)), Piece("b", "x"))
    talk(conversation, Hush("a button"), Cancelled("a", "a button"))
    assert talk(conversation, Piece("a", "x"), Piece("b", "x"), Complete("a"), Complete("b")) == []
    assert not conversation.busy


def test_hush_cuts_what_is_said_and_forgets_what_waits() -> None:
    conversation = Conversation(mode="announce")
    first, second = Utterance("a", "one"), Utterance("b", "two")
    talk(conversation, Announce(first), Announce(second))
    assert talk(conversation, Hush("a button")) == [
        StopPlayback("a button"),
        Record(second, "cancelled", "by a button"),
    ]
    assert talk(conversation, Cancelled("a", "a button", 0.2)) == [
        Record(first, "cancelled", "by a button", 0.2),
        Listen(True),
    ]


def test_captions_answer_nobody() -> None:
    conversation = Conversation(mode="captions")
    assert talk(conversation, Heard("good evening")) == []
    assert conversation.state is State.IDLE


def test_what_has_not_ended_at_the_end_is_recorded_too() -> None:
    conversation = Conversation(mode="announce")
    first, second = Utterance("a", "one"), Utterance("b", "two")
    talk(conversation, Announce(first), Announce(second))
    assert conversation.leave("SIGTERM") == [
        Record(first, "cancelled", "by SIGTERM"),
        Record(second, "cancelled", "by SIGTERM"),
    ]


def test_a_microphone_that_is_lost_in_mid_speech_ends_the_stretch_and_what_waits_is_said() -> None:
    """Somebody speaks, and the microphone is pulled out: no frame will ever end that stretch. The device listened until
    it was back, lined up every announcement and said none."""
    conversation = Conversation()
    alarm = Utterance("a", "The oven is on.", source="control")
    talk(conversation, SpeechBegan(), Announce(alarm))
    assert talk(conversation, DeviceLost("microphone", "pulled out")) == [Listen(False), Listen(True)]
    assert conversation.state is State.THINKING
    assert talk(conversation, SpeechEnded(0.1), Heard("")) == [Listen(False), StartUtterance(alarm)]


def test_what_was_understood_before_the_microphone_was_lost_is_answered() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), DeviceLost("microphone", "pulled out"), SpeechEnded(0.1))
    assert talk(conversation, Heard("what time is it")) == [Ask(1, "what time is it")]


def test_speech_that_begins_after_its_microphone_was_lost_is_ended_too() -> None:
    """Its last frames were still on their way to the ears when the loss was told: the stretch had no end again."""
    conversation = Conversation()
    assert talk(conversation, DeviceLost("microphone", "pulled out")) == []
    assert talk(conversation, SpeechBegan()) == [Listen(False), Listen(True)]
    talk(conversation, SpeechEnded(0.1), Heard(""))
    assert conversation.state is State.IDLE
    talk(conversation, DeviceBack("microphone", 3.0))
    assert talk(conversation, SpeechBegan()) == []
    assert conversation.state is State.LISTENING


def test_hush_before_the_transcript_means_that_nothing_is_said() -> None:
    """A question is asked, somebody presses the button before its transcript is there, and then the device answered
    after all."""
    for began in ([SpeechBegan(), SpeechEnded(0.7)], [SpeechBegan()]):
        conversation = Conversation()
        talk(conversation, *began)
        assert talk(conversation, Hush("a button")) == []
        assert conversation.state is State.IDLE
        assert talk(conversation, SpeechEnded(0.7), Heard("what time is it")) == []
        assert conversation.state is State.IDLE
        assert talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("hello")) == [Ask(1, "hello")]


def test_after_a_hush_an_announcement_still_waits_until_nobody_speaks() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), Hush("a button"))
    alarm = Utterance("a", "The oven is on.", source="control")
    assert talk(conversation, Announce(alarm)) == []
    assert talk(conversation, SpeechEnded(0.7)) == [Listen(False), StartUtterance(alarm)]


def test_who_goes_on_speaking_while_the_answer_is_on_its_way_is_heard() -> None:
    """With an ear that stays open somebody begins a second sentence before the answer has begun. That was talked over,
    and thrown away when its transcript came."""
    conversation = Conversation(listen_while_speaking=True)
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), SpeechBegan(), Heard("what time is it"))
    talk(conversation, Reply(1, "It is"))
    assert talk(conversation, SpeechEnded(0.7)) == []
    assert talk(conversation, Heard("in Tokyo")) == [CancelReply(1), StopPlayback("somebody spoke"), Ask(2, "in Tokyo")]
    assert talk(conversation, Reply(1, " noon.")) == []
    utterance = Utterance("reply-1", None, turn=1)
    assert talk(conversation, Cancelled("reply-1", "somebody spoke", 0.3)) == [
        Record(utterance, "cancelled", "by somebody spoke", 0.3)
    ]
    assert AppendText("reply-2", "Evening.\n") in talk(conversation, Reply(2, "Evening."))


def test_with_an_ear_that_is_shut_words_that_were_begun_before_it_count_too_and_a_slammed_door_does_not() -> None:
    conversation = Conversation()
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("what time is it"), SpeechBegan(), Reply(1, "It is"))
    assert talk(conversation, SpeechEnded(0.0), Heard("")) == []
    conversation = Conversation()
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Heard("what time is it"), SpeechBegan(), Reply(1, "It is"))
    assert talk(conversation, SpeechEnded(0.0), Heard("no wait")) == [
        CancelReply(1),
        StopPlayback("somebody spoke"),
        Listen(True),
        Ask(2, "no wait"),
    ]


def test_a_shred_that_was_heard_as_the_ear_was_being_shut_cuts_nothing() -> None:
    conversation = Conversation()
    talk(conversation, Announce(Utterance("a", "The oven is on.")))
    assert talk(conversation, SpeechBegan(), SpeechEnded(0.0), Heard("the")) == []
    assert conversation.state is State.SPEAKING


def test_an_announcement_does_not_begin_over_somebody_who_speaks() -> None:
    """A cough, then a question; an announcement waits. The cough's empty transcript came while the question was being
    asked, and the announcement was said over it."""
    conversation = Conversation()
    alarm = Utterance("a", "The oven is on.", source="control")
    talk(conversation, SpeechBegan(), SpeechEnded(0.7), Announce(alarm), SpeechBegan())
    assert talk(conversation, Heard("")) == []
    assert conversation.state is State.LISTENING
    assert talk(conversation, SpeechEnded(0.7)) == []
    assert talk(conversation, Heard("what time is it")) == [Ask(1, "what time is it")]
    assert talk(conversation, ReplyEnded(1)) == [Listen(False), StartUtterance(alarm)]


def test_what_no_speaker_can_say_has_failed_after_a_while_and_the_device_listens_again() -> None:
    """The speaker is pulled out and stays away: the device was speaking, and deaf, until somebody brought it back."""
    conversation = Conversation()
    first, second = Utterance("a", "one", source="control"), Utterance("b", "two", source="control")
    talk(conversation, Announce(first), Announce(second), DeviceLost("speaker", "pulled out"))
    assert talk(conversation, DeviceTimedOut("speaker", 30.0)) == [
        StopPlayback("no speaker"),
        Record(first, "failed", "no speaker for 30 s", 0.0),
        Listen(False),
        StartUtterance(second),
    ]
    assert talk(conversation, Cancelled("a", "no speaker")) == []
    assert talk(conversation, DeviceTimedOut("speaker", 60.0))[1:] == [
        Record(second, "failed", "no speaker for 60 s", 0.0),
        Listen(True),
    ]
    assert conversation.state is State.IDLE


def happenings() -> st.SearchStrategy[list[Event]]:
    names = st.integers(0, 6).map(lambda number: f"u{number}")
    turns = st.integers(0, 4)
    return st.lists(
        st.one_of(
            st.just(SpeechBegan()),
            st.just(SpeechEnded(0.5)),
            st.sampled_from(["", "hello", "what time is it"]).map(Heard),
            turns.map(lambda turn: Reply(turn, "yes")),
            turns.map(ReplyEnded),
            names.map(lambda name: UtterancePlayed(name, 1.0)),
            turns.map(lambda turn: UtterancePlayed(f"reply-{turn}", 1.0)),
            turns.map(lambda turn: Cancelled(f"reply-{turn}", "x")),
            names.map(lambda name: UtteranceFailed(name, "x")),
            st.just(Hush("x")),
            st.sampled_from(["microphone", "speaker"]).flatmap(
                lambda which: st.sampled_from(
                    [DeviceLost(which, "x"), DeviceBack(which, 1.0), DeviceTimedOut(which, 30.0)]
                )
            ),
            names.map(lambda name: Piece(name, "text")),
            names.map(Complete),
            st.just(None),  # stands for the next announcement, whose id is new each time
        ),
        max_size=40,
    )


@given(happenings(), st.sampled_from(["assistant", "announce", "captions"]), st.booleans())
def test_whatever_happens_each_accepted_utterance_ends_in_exactly_one_record(
    events: list[Event | None], mode: str, open_ear: bool
) -> None:
    conversation = Conversation(mode=mode, listen_while_speaking=open_ear)
    accepted: list[str] = []
    actions: list[Action] = []
    for event in events:
        if event is None:
            event = Announce(Utterance(f"u{len(accepted)}", "text" if len(accepted) % 2 else None))
            accepted.append(event.utterance.id)
        actions += conversation.handle(event)
    actions += conversation.leave("the end")
    accepted += [
        action.utterance.id for action in actions if isinstance(action, StartUtterance) and action.utterance.turn
    ]
    recorded = [action.utterance.id for action in actions if isinstance(action, Record)]
    assert sorted(recorded) == sorted(accepted)
    assert not conversation.busy or conversation.state is not State.IDLE


@given(happenings(), st.sampled_from(["assistant", "announce", "captions"]), st.booleans())
def test_whatever_happens_it_comes_to_rest_when_each_part_has_done_its_own(
    events: list[Event | None], mode: str, open_ear: bool
) -> None:
    """Every stretch is transcribed, every answer ends, every utterance too: no state is left only by luck."""
    conversation = Conversation(mode=mode, listen_while_speaking=open_ear)
    began = heard = announced = 0
    shut = False
    actions: list[Action] = []
    for event in [*events, DeviceLost("microphone", "x")]:
        if event is None:
            announced += 1
            event = Announce(Utterance(f"u{announced}", "text"))
        began += isinstance(event, SpeechBegan)
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
            shut = not action.open
    assert conversation.state is State.IDLE and not conversation.busy and not shut
