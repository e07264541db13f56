"""Hidden reasoning, independent of where the text was cut."""

from __future__ import annotations

import pytest

from agent.pipeline.text.reasoning import ReasoningFilter, visible_text


def passed(text: str, size: int) -> str:
    reasoning = ReasoningFilter()
    return "".join(reasoning.feed(text[at : at + size]) for at in range(0, len(text), size)) + reasoning.flush()


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("<think>No. <b>Not</b> this.</think>Yes.", "Yes."),
        ("Before <THINK>no</Think> after", "Before  after"),
        ("<think>no</think>A<think>no</think>B", "AB"),
        ("<reasoning>no</reasoning><seed:think>no</seed:think>Yes", "Yes"),
        ("[THINK]no[/THINK]Yes [1] [A]", "Yes [1] [A]"),
        ("<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final<|message|>Yes<|return|>", "Yes"),
        ("<|channel|>analysis<|message|>no<|channel|>final<|message|>Yes", "Yes"),
        ("<|begin_of_thought|>no<|end_of_thought|>Yes", "Yes"),
        ('<tool_call>{"a": "<b>"}</tool_call>Yes', "Yes"),
        ('[TOOL_CALLS] [{"name": "f"}]', ""),
        ("<think>never ends", ""),
        ("5 < 6, a <b> and <thinking about> it <", "5 < 6, a <b> and <thinking about> it <"),
        ("Yes<|im_end|>", "Yes"),
        ("<|START_THINKING|>no<|END_THINKING|><|START_RESPONSE|>Yes<|END_RESPONSE|>", "Yes"),
        ("<analysis>no</analysis><answer>Yes</answer>", "Yes"),
        ("<|thinking|>no<|/thinking|>Yes", "Yes"),
        ("<start_of_turn>model\nYes<end_of_turn><eos>", "\nYes"),
        ("Yes<｜end▁of▁sentence｜>", "Yes"),
        ("<｜tool▁calls▁begin｜>f<｜tool▁calls▁end｜>Yes", "Yes"),
        ("<function=f>{}</function>Yes<function_calls><invoke name='f'></function_calls>", "Yes"),
    ],
)
def test_hidden_text_is_removed(text: str, visible: str, size: int) -> None:
    assert passed(text, size) == visible


def test_text_before_a_closing_tag_alone_is_hidden() -> None:
    assert visible_text("Hm. Let me see.</think>Yes.") == "Yes."


def test_visible_text_is_passed_on_at_once() -> None:
    reasoning = ReasoningFilter()
    assert reasoning.feed("Hello ") == "Hello "
    assert reasoning.feed("there. <thi") == "there. "
    assert reasoning.feed("ef>") == "<thief>"
