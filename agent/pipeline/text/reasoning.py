"""Removes hidden parts of a language model's text: reasoning, tool calls and tokens of its prompt template."""

from __future__ import annotations

import re

_HIDDEN = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think|analysis|antthinking"
_CALLS = "tool_calls?|function_calls?"
_WRAPPERS = "answer|final|final_answer|output|response"
_OPEN = re.compile(
    rf"<(?P<tag>{_HIDDEN}|{_CALLS})(?:\s[^<>=]*+=[^<>]*+)?\s*>|(?P<mistral>\[THINK\])|(?P<calls>\[TOOL_CALLS\])|(?P<kimi>◁think▷)"
    r"|<(?P<function>function)=[^<>]*>|(?P<cohere><\|START_THINKING\|>)|(?P<deepseek><｜tool▁calls▁begin｜>)"
    r"|<\|(?P<bars>think|thinking)\|>|(?P<thought><\|begin_of_thought\|>)|(?P<channel><\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>)",
    re.IGNORECASE,
)
_ENDS = {
    "mistral": re.compile(r"\[/THINK\]", re.IGNORECASE),
    "calls": re.compile(r"\[/TOOL_CALLS\]", re.IGNORECASE),
    "kimi": re.compile("◁/think▷"),
    "function": re.compile(r"</function>", re.IGNORECASE),
    "cohere": re.compile(r"<\|END_THINKING\|>", re.IGNORECASE),
    "deepseek": re.compile("<｜tool▁calls▁end｜>"),
    "bars": re.compile(r"<\|/(?:think|thinking)\|>", re.IGNORECASE),
    "thought": re.compile(r"<\|end_of_thought\|>"),
    "channel": re.compile(r"<\|end\|>|(?=<\|channel\|>)"),
}
# A closing tag without an opening tag: for some models the prompt template already contains the opening tag. Then the
# text before the closing tag is reasoning.
_CLOSE = re.compile(rf"</(?:{_HIDDEN}|{_CALLS})\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>", re.IGNORECASE)
_TOKEN = re.compile(
    r"<\|start\|>(?:assistant)?|<\|channel\|>final|<\|/?[a-z_]+\|>|<｜[\w▁]+｜>|<start_of_turn>(?:model\b)?|<end_of_turn>"
    rf"|</?s>|<(?:bos|eos|pad|unk)>|</?(?:{_WRAPPERS})>|\[/?(?:INST|TOOL_CALLS)\]",
    re.IGNORECASE,
)
# An incomplete tag at the end of a piece.
_PARTIAL = re.compile(
    r"(?:</?(?:[a-z_:]{1,20}(?:\s[^<>]{0,80})?)?"
    r"|<\|(?:channel|start)\|>[^<]{0,40}(?:<(?:\|[a-z]{0,10}\|?)?)?"
    r"|<\|[^<>|]{0,40}\|?|<｜[\w▁]{0,40}｜?|<start_of_turn>[model]{0,4}|<function=[^<>]{0,80}"
    r"|\[/?[a-z_]{0,10}"
    r"|◁/?\w{0,5})\Z",
    re.IGNORECASE,
)


class ReasoningFilter:
    """Removes the hidden parts of a text.

    The result does not depend on how the text is divided into pieces, unless an opening tag is missing: text before the
    closing tag that earlier calls have returned cannot be removed.
    Not thread-safe; owned by the thread that feeds it.
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._end: re.Pattern[str] | None = None  # inside hidden text: the pattern of its end

    def feed(self, piece: str) -> str:
        """Append text; return the visible text that later text cannot change."""
        self._buffer += piece
        return self._visible(is_final=False)

    def flush(self) -> str:
        """Return the rest of the visible text, and start with a new text."""
        rest = self._visible(is_final=True)
        self._buffer, self._end = "", None
        return rest

    def _visible(self, *, is_final: bool) -> str:
        text, visible = self._buffer, ""
        while True:
            if self._end is not None:
                end = self._end.search(text)
                if end is None:
                    partial = _PARTIAL.search(text)
                    self._buffer = partial[0] if partial else ""
                    return visible
                text, self._end = text[end.end() :], None
            begin = _OPEN.search(text)
            if begin is None:
                break
            visible += _without_tokens(text[: begin.start()])
            text = text[begin.end() :]
            kind = begin.lastgroup or ""
            self._end = _ENDS.get(kind) or re.compile(rf"</{begin['tag']}\s*>", re.IGNORECASE)
        held = None if is_final else _PARTIAL.search(text)
        self._buffer = held[0] if held else ""
        return visible + _without_tokens(text[: held.start()] if held else text)


def visible_text(text: str) -> str:
    """Return the visible part of a complete text."""
    reasoning = ReasoningFilter()
    return reasoning.feed(text) + reasoning.flush()


def _without_tokens(text: str) -> str:
    ends = [close.end() for close in _CLOSE.finditer(text)]
    return _TOKEN.sub("", text[ends[-1] if ends else 0 :])
