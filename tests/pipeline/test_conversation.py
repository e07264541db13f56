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
    DeviceBack,
    DeviceLost,
    DeviceTimedOut,
    Event,
    Heard,
    Hush,
    Reply,
    ReplyEnded,
    SpeechEnded,
    SpeechStarted,
    TextComplete,
    TextPiece,
    Utterance,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)


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
    [record] = feed(conversation, UtteranceCancelled("reply-1", "user speech", 0.4))
    assert record == Record(utterance, "cancelled", "by user speech", 0.4)
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
        Record(utterance, "cancelled", "by user speech", 0.3)
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


def test_speaker_timeout_fails_the_utterance_and_resumes_listening() -> None:
    conversation = Conversation()
    first, second = Utterance("a", "one", source="control"), Utterance("b", "two", source="control")
    feed(conversation, Announce(first), Announce(second), DeviceLost("speaker", "pulled out"))
    assert feed(conversation, DeviceTimedOut("speaker", 30.0)) == [
        StopPlayback("no speaker"),
        Record(first, "failed", "no speaker for 30 s", 0.0),
        Listen(False),
        StartUtterance(second),
    ]
    assert feed(conversation, UtteranceCancelled("a", "no speaker")) == []
    assert feed(conversation, DeviceTimedOut("speaker", 60.0))[1:] == [
        Record(second, "failed", "no speaker for 60 s", 0.0),
        Listen(True),
    ]
    assert conversation.state is State.IDLE


def event_lists() -> st.SearchStrategy[list[Event]]:
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
            st.just(None),  # stands for the next announcement, whose id is new each time
        ),
        max_size=40,
    )


@given(event_lists(), st.sampled_from(["assistant", "announce", "captions"]), st.booleans())
def test_each_accepted_utterance_ends_in_exactly_one_record(
    events: list[Event | None], mode: str, listen_while_speaking: bool
) -> None:
    conversation = Conversation(mode=mode, listen_while_speaking=listen_while_speaking)
    accepted: list[str] = []
    actions: list[Action] = []
    for event in events:
        if event is None:
            event = Announce(Utterance(f"u{len(accepted)}", "text" if len(accepted) % 2 else None))
            accepted.append(event.utterance.id)
        actions += conversation.handle(event)
    actions += conversation.close("the end")
    accepted += [
        action.utterance.id for action in actions if isinstance(action, StartUtterance) and action.utterance.turn
    ]
    recorded = [action.utterance.id for action in actions if isinstance(action, Record)]
    assert sorted(recorded) == sorted(accepted)
    assert not conversation.is_busy or conversation.state is not State.IDLE


@given(event_lists(), st.sampled_from(["assistant", "announce", "captions"]), st.booleans())
def test_conversation_returns_to_idle_when_every_stage_reports(
    events: list[Event | None], mode: str, listen_while_speaking: bool
) -> None:
    conversation = Conversation(mode=mode, listen_while_speaking=listen_while_speaking)
    began = heard = announced = 0
    paused = False
    actions: list[Action] = []
    for event in [*events, DeviceLost("microphone", "x")]:
        if event is None:
            announced += 1
            event = Announce(Utterance(f"u{announced}", "text"))
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
