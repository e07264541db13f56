from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.chat_service import calls, chat_service

from agent.pipeline.events import Announce, Volume
from agent.pipeline.responders.openai import OpenAIResponder
from agent.pipeline.responders.tools import session
from agent.pipeline.responders.tools.settings import CommandTool, WebhookTool

Make = Callable[..., OpenAIResponder]
OBJECT = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


def spoken(responder: OpenAIResponder, text: str = "hello", turn: int = 1) -> str:
    return "".join(responder.reply(text, turn)).strip()


def program(path: Path, body: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return (str(path),)


def command(tmp_path: Path, body: str, name: str = "lamp", **more: Any) -> CommandTool:
    argv = program(tmp_path / f"{name}.sh", body)
    return CommandTool(name, "Does it.", OBJECT, argv, **more)


def test_built_in_tools_act_on_the_device(make: Make, device: Any) -> None:
    asked = calls(
        ("set_timer", {"seconds": 90, "name": "tea"}), ("set_volume", {"percent": 30}), ("announce", {"text": "Hi"})
    )
    with chat_service(asked, "The timer runs.") as chat:
        responder = make(chat, builtin=("timers", "volume", "announce", "status"))
        assert spoken(responder) == "The timer runs."
        names = [each["function"]["name"] for each in chat.requests[0]["tools"]]
        assert {"set_timer", "set_volume", "announce", "get_status"} <= {*names}
        assert [json.loads(each) for each in chat.results()][:2] == [
            {"number": 1, "name": "tea", "state": "running", "seconds_left": 90},
            {"volume": 30},
        ]
    assert [timer.name for timer in device.timers.all] == ["tea"]
    volume, announce = sorted(device.events, key=lambda event: type(event).__name__, reverse=True)
    assert isinstance(volume, Volume) and volume.percent == 30
    assert isinstance(announce, Announce) and announce.utterance.text == "Hi"


def test_alarms_are_set_listed_and_cancelled(make: Make, device: Any) -> None:
    steps = [
        calls(("set_alarm", {"time": "2999-01-02 7:05"}), ("set_alarm", {"time": "soon"})),
        calls(("list_timers", {})),
        calls(("cancel_timer", {"number": 1}), ("cancel_timer", {"number": 9})),
    ]
    with chat_service(*steps, "Done.") as chat:
        spoken(make(chat, builtin=("timers",)))
        assert chat.results() == [
            '{"number": 1, "name": "", "state": "running", "alarm": "2999-01-02 07:05"}',
            "error: time is not YYYY-MM-DD HH:MM",
            '[{"number": 1, "name": "", "state": "running", "alarm": "2999-01-02 07:05"}]',
            '{"cancelled": 1}',
            "error: there is no timer with this number; list_timers tells the numbers",
        ]
    assert device.timers.all == ()


def test_alarm_before_the_clock_is_set_warns_the_model(make: Make, device: Any) -> None:
    device.control.is_clock_set = lambda: False
    with chat_service(calls(("set_alarm", {"time": "2999-01-02 7:05"})), "Done.") as chat:
        spoken(make(chat, builtin=("timers",)))
        assert "clock" in json.loads(chat.results()[0])["warning"]


def test_texts_of_the_model_that_no_encoding_has_do_not_reach_the_device(make: Make, device: Any) -> None:
    asked = calls(("announce", {"text": "Hi \ud800"}), ("set_timer", {"seconds": 90, "name": "\ud800"}))
    with chat_service(asked, calls(("set_timer", {"seconds": 90, "name": "green\x1b  tea\0"})), "Done.") as chat:
        spoken(make(chat, builtin=("timers", "announce")))
        assert ["is not UTF-8" in each for each in chat.results()] == [True, True, False]
    assert device.events == []
    assert [timer.name for timer in device.timers.all] == ["green tea"]


def test_program_gets_the_arguments_on_stdin_and_never_as_arguments(make: Make, tmp_path: Path) -> None:
    hostile = '$(touch /tmp/x); --help "\n`id`'
    lamp = command(tmp_path, f'printf "%s %s" $# "$(cat)"; touch {tmp_path}/ran')
    with chat_service(calls(("lamp", {"word": hostile})), "It is on.") as chat:
        assert spoken(make(chat, commands=(lamp,))) == "It is on."
        count, _, stdin = chat.results()[0].partition(" ")
    assert count == "0" and json.loads(stdin) == {"word": hostile}


def test_environment_of_a_program_has_no_secret(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_AGENT_RESPONDER__OPENAI__API_KEY", "sk-0123456789")
    with chat_service(calls(("lamp", {"word": "x"})), "Yes.") as chat:
        spoken(make(chat, commands=(command(tmp_path, "env"),)))
        assert "sk-0123456789" not in chat.results()[0] and "PATH=" in chat.results()[0]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("rm -rf /", "{}", "there is no such tool"),
        ("lamp; reboot", '{"word": "x"}', "there is no such tool"),
        ("/bin/sh", '{"word": "x"}', "there is no such tool"),
        ("lamp\0", '{"word": "x"}', "there is no such tool"),
        ("", "{}", "there is no such tool"),
        ("__class__", "{}", "there is no such tool"),
        ("set_volume", '{"percent": 5}', "there is no such tool"),  # a built-in one that is not configured
        ("home__lamp", '{"word": "x"}', "there is no such tool"),
        ("lamp", '{"word": 5}', "word is not of the type string"),
        ("lamp", "{}", "word is missing"),
        ("lamp", "", "word is missing"),
        ("lamp", '["/bin/sh"]', "no object"),
        ("lamp", '{"word": ', "it is not JSON"),
        ("lamp", "[" * 5000, "it is not JSON"),
    ],
)
def test_nothing_that_the_model_says_runs_what_is_not_configured(
    name: str, arguments: str, expected: str, make: Make, tmp_path: Path
) -> None:
    lamp = command(tmp_path, f"touch {tmp_path}/ran")
    with chat_service(calls((name, arguments)), "I cannot.") as chat:
        assert spoken(make(chat, commands=(lamp,))) == "I cannot."
        assert expected in chat.results()[0]
    assert not (tmp_path / "ran").exists()


def test_several_calls_run_in_parallel_and_keep_their_order(make: Make, tmp_path: Path) -> None:
    # Each program waits for the other one: they end only if both run at once.
    one = command(tmp_path, f"mkfifo {tmp_path}/p; echo a > {tmp_path}/p; echo one", "one")
    two = command(tmp_path, f"until [ -p {tmp_path}/p ]; do :; done; cat {tmp_path}/p; echo two", "two")
    both = calls(("one", {"word": "x"}), ("two", {"word": "y"}), text="One moment.")
    with chat_service(both, "Both are done.") as chat:
        assert spoken(make(chat, commands=(one, two))) == "One moment.\n\nBoth are done."
        assert chat.results() == ["one", "a\ntwo"]
        assistant = next(each for each in chat.requests[1]["messages"] if each["role"] == "assistant")
        assert assistant["content"] == "One moment."
        assert [each["id"] for each in assistant["tool_calls"]] == ["call-1", "call-2"]


def test_failures_of_a_program_go_to_the_model(make: Make, tmp_path: Path) -> None:
    bad = command(tmp_path, "echo 'no bulb' >&2; exit 3", "bad")
    slow = command(tmp_path, "exec sleep 60", "slow", timeout_seconds=0.2)
    noisy = command(tmp_path, "exec yes", "noisy")
    long = command(tmp_path, "head -c 20000 /dev/zero | tr '\\0' x", "long")
    gone = CommandTool("gone", "Does it.", OBJECT, (str(tmp_path / "nothing"),))
    names = ("bad", "slow", "noisy", "long", "gone")
    with chat_service(calls(*((name, {"word": "x"}) for name in names)), "Sorry.") as chat:
        spoken(make(chat, commands=(bad, slow, noisy, long, gone)))
        failed, timed_out, printed, cut, missing = chat.results()
    assert "exit code 3" in failed and "no bulb" in failed
    assert "did not finish within 0.2 s" in timed_out
    assert "printed more than" in printed
    assert len(cut) < 8100 and cut.endswith("(the rest is cut off)")
    assert "cannot be started" in missing


def test_output_that_is_cut_in_a_character_is_marked(make: Make, tmp_path: Path) -> None:
    with chat_service(calls(("lamp", {"word": "x"})), "Yes.") as chat:
        spoken(make(chat, commands=(command(tmp_path, "printf 'gr\\303\\274n\\303'"),)))
        assert chat.results() == ["grün\ufffd"]


def test_model_that_calls_for_ever_is_stopped_and_its_failure_is_spoken(make: Make, tmp_path: Path) -> None:
    bad = command(tmp_path, "exit 1")
    with chat_service(calls(("lamp", {"word": "x"}))) as chat:
        assert spoken(make(chat, commands=(bad,))) == "That did not work."
        assert len(chat.requests) == session.MAX_ROUNDS + 1
        assert [each.get("tool_choice") for each in chat.requests] == [None] * session.MAX_ROUNDS + ["none"]


def test_silent_model_is_replaced_by_a_sentence(make: Make, device: Any) -> None:
    with chat_service(calls(("set_volume", {"percent": 20})), "") as chat:
        assert spoken(make(chat, builtin=("volume",))) == "Done."


def test_failure_after_an_announced_call_is_spoken(make: Make, tmp_path: Path) -> None:
    announced = {**calls(("lamp", {"word": "x"})), "text": "I will switch it on."}
    with chat_service(announced, "") as chat:
        lamp = command(tmp_path, "exit 1")
        assert spoken(make(chat, commands=(lamp,))).split("\n\n") == ["I will switch it on.", "That did not work."]


def test_too_many_calls_at_once_are_refused(make: Make, device: Any) -> None:
    many = calls(*[("set_volume", {"percent": 1})] * (session.MAX_CALLS + 3))
    with chat_service(many, "Yes.") as chat:
        spoken(make(chat, builtin=("volume",)))
        assert sum("at once" in each for each in chat.results()) == 3
        ids = [each["tool_call_id"] for each in chat.requests[1]["messages"] if each["role"] == "tool"]
        assert len(set(ids)) == session.MAX_CALLS + 3
    assert len(device.events) == session.MAX_CALLS


def test_the_time_for_all_tools_of_a_turn_is_limited(make: Make, tmp_path: Path) -> None:
    slow = command(tmp_path, "exec sleep 60")
    with chat_service(calls(("lamp", {"word": "x"})), "It took too long.") as chat:
        responder = make(chat, commands=(slow,))
        responder._session._max_seconds = 0.3  # type: ignore[union-attr]
        assert spoken(responder) == "It took too long."
        assert "did not finish in time" in chat.results()[0]


def test_closing_the_reply_kills_the_program(make: Make, tmp_path: Path) -> None:
    slow = command(tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60")
    with chat_service(calls(("lamp", {"word": "x"})), "Yes.") as chat:
        reply = make(chat, commands=(slow,)).reply("hello", 1)
        for _ in range(400):
            next(reply)
            if (tmp_path / "pid").exists():
                break
        pid = int((tmp_path / "pid").read_text())
        with open(os.pidfd_open(pid), "rb") as process:
            reply.close()
            ended, _, _ = select.select([process], [], [], 20)
        assert ended
        assert len(chat.requests) == 1


def test_webhook_gets_the_arguments_and_its_text_is_the_result(make: Make, service: Any) -> None:
    service.script = lambda handler: handler.reply(200, "application/json", b'{"light": "on"}')
    hook = WebhookTool("light", "Switches a light.", OBJECT, f"{service.url}/light")
    with chat_service(calls(("light", {"word": "on"})), "It is on.") as chat:
        assert spoken(make(chat, webhooks=(hook,))) == "It is on."
        assert chat.results() == ['{"light": "on"}']
    path, headers, body = service.requests[0]
    assert (path, json.loads(body)) == ("/light", {"word": "on"}) and "authorization" not in headers


def test_failures_of_a_webhook_go_to_the_model(make: Make, service: Any) -> None:
    service.script = lambda handler: handler.reply(500, "text/plain", b"broken")
    hook = WebhookTool("light", "Switches a light.", OBJECT, service.url)
    gone = WebhookTool("gone", "Switches a light.", OBJECT, "http://127.0.0.1:9")
    with chat_service(calls(("light", {"word": "on"}), ("gone", {"word": "on"})), "No.") as chat:
        spoken(make(chat, webhooks=(hook, gone)))
        broken, unreachable = chat.results()
    assert "internal failure of the service (500)" in broken and "cannot be reached" in unreachable


class TestConfirmation:
    QUESTION = "Shall I open the left gate?"

    @pytest.fixture
    def gate(self, tmp_path: Path) -> CommandTool:
        question = "Shall I open the {word} gate?"
        return command(tmp_path, f"touch {tmp_path}/ran; echo open", "gate", confirm=True, question=question)

    @pytest.mark.parametrize("answer", ["Yes.", "Yes, please.", "Ja, bitte!", "Oui", "Sí", "हाँ", "OK do it"])
    def test_yes_runs_the_tool(self, answer: str, make: Make, gate: CommandTool, tmp_path: Path) -> None:
        with chat_service(calls(("gate", {"word": "left"})), "It is open.") as chat:
            responder = make(chat, commands=(gate,))
            assert spoken(responder, "open the gate", 4) == self.QUESTION
            assert not (tmp_path / "ran").exists()
            assert spoken(responder, answer, 5) == "It is open."
            assert chat.results() == ["open"]
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("answer", "result"),
        [
            ("No.", "the user said no"),
            ("nein danke", "the user said no"),
            ("Yes, but not now.", "the user did not agree"),
            ("What time is it?", "the user did not agree"),
            ("Yesterday I said yes to the garage", "the user did not agree"),
        ],
    )
    def test_anything_else_means_no(
        self, answer: str, result: str, make: Make, gate: CommandTool, tmp_path: Path
    ) -> None:
        with chat_service(calls(("gate", {"word": "left"})), "All right.") as chat:
            responder = make(chat, commands=(gate,))
            spoken(responder, "open the gate", 4)
            assert spoken(responder, answer, 5) == "All right."
            assert result in chat.results()[0]
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("answer", ["No, what is the weather tomorrow?", "Pon una alarma para las siete."])
    def test_a_request_instead_of_yes_reaches_the_model(self, answer: str, make: Make, gate: CommandTool) -> None:
        with chat_service(calls(("gate", {"word": "left"})), "It rains.") as chat:
            responder = make(chat, commands=(gate,))
            spoken(responder, "open the gate", 4)
            spoken(responder, answer, 5)
            assert chat.requests[-1]["messages"][-1] == {"role": "user", "content": answer}

    def test_a_question_without_one_of_its_arguments_is_the_default_one(self, make: Make, tmp_path: Path) -> None:
        question = "Shall I open the {word} gate for {minutes} minutes?"
        gate = command(tmp_path, "exit 0", "gate", confirm=True, question=question)
        gate = gate._replace(parameters={**OBJECT, "properties": {"word": {}, "minutes": {}}})
        with chat_service(calls(("gate", {"word": "left"}))) as chat:
            assert spoken(make(chat, commands=(gate,))) == "Gate, word left. Shall I do that?"

    @pytest.mark.parametrize("event", ["hush", "interrupted", "another turn", "timeout"])
    def test_a_late_or_interrupted_yes_means_no(
        self, event: str, make: Make, gate: CommandTool, tmp_path: Path, device: Any
    ) -> None:
        with chat_service(calls(("gate", {"word": "left"})), "All right.") as chat:
            responder = make(chat, commands=(gate,))
            spoken(responder, "open the gate", 4)
            if event == "hush":
                device.control.hushes += 1
            elif event == "interrupted":
                responder.correct(4, "Shall I")
            elif event == "timeout":
                responder._session._confirm_seconds = -1.0  # type: ignore[union-attr]
            else:
                responder.correct(4, None)
            turn = 6 if event == "another turn" else 5
            assert spoken(responder, "Yes.", turn) == "All right."
            assert "did not agree" in chat.results()[0]
        assert not (tmp_path / "ran").exists()

    def test_the_default_question_names_the_tool_and_its_arguments(self, make: Make, tmp_path: Path) -> None:
        tool = command(tmp_path, "exit 0", "open_garage", confirm=True)
        with chat_service(calls(("open_garage", {"word": "left"})), "Yes.") as chat:
            assert spoken(make(chat, commands=(tool,))) == "Open garage, word left. Shall I do that?"

    def test_other_tools_of_the_round_run_at_once(self, make: Make, gate: CommandTool, device: Any) -> None:
        asked = calls(("gate", {"word": "left"}), ("set_volume", {"percent": 9}))
        with chat_service(asked, "Done so.") as chat:
            responder = make(chat, commands=(gate,), builtin=("volume",))
            assert spoken(responder, "x", 1) == self.QUESTION
            assert len(device.events) == 1
            assert spoken(responder, "yes", 2) == "Done so."
            assert chat.results() == ['{"volume": 9}', "open"]

    def test_the_question_can_be_encoded(self, make: Make, gate: CommandTool) -> None:
        with chat_service(calls(("gate", {"word": "left \ud800"})), "Done.") as chat:
            assert spoken(make(chat, commands=(gate,))).encode()


def test_threads_of_the_tools_end(make: Make, device: Any) -> None:
    with chat_service(calls(("set_volume", {"percent": 20})), "Yes.") as chat:
        spoken(make(chat, builtin=("volume",)))
    assert not [each for each in threading.enumerate() if each.name.startswith("tool ")]
