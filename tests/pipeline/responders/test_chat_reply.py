"""What servers with the API of OpenAI send, and the exact text that is spoken."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from agent.config.secrets import Secret
from agent.errors import ServiceError
from agent.pipeline.responders.openai import OpenAIResponder, Settings
from agent.pipeline.responders.responder import Shortfall
from agent.pipeline.text.reply import ReplyText
from agent.services.settings import TextSettings

DONE = b"data: [DONE]\n\n"
BLUE = "The sky is blue."
EVENTS, JSON, PLAIN = "text/event-stream", "application/json", "text/plain"


def choice(delta: Any, finish: Any = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def event(document: Any, end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(document).encode() + end


def chunk(delta: Any, finish: Any = None, **more: Any) -> bytes:
    return event({"object": "chat.completion.chunk", "choices": [choice(delta, finish)], **more})


def text(*contents: str, finish: str = "stop") -> bytes:
    """A stream of text as OpenAI sends it."""
    return (
        chunk({"role": "assistant", "content": ""})
        + b"".join(chunk({"content": content}) for content in contents)
        + chunk({}, finish)
        + DONE
    )


def message(message: Any, finish: str = "stop") -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


class Row(NamedTuple):
    name: str
    body: bytes
    spoken: list[str]
    shortfall: str | None = None
    kind: str = EVENTS


FENCED = "Run this:\n\n```python\nprint('Hello. World')\n```\n\nThen it works."
TABLE = "Here it is.\n\n| City | Price |\n|------|-------|\n| Rome | 5 |\n\nChoose one."
TIPS = "Here are **three** tips:\n1. **Drink** water.\n2. *Sleep* well.\n- __Walk__ daily."

ROWS = [
    # Shapes of the stream.
    Row("plain text", text(BLUE), [BLUE]),
    Row("tokens", text("The", " sky", " is", " blue", ".", " It", " is."), [BLUE, "It is."]),
    Row("byte order mark", b"\xef\xbb\xbf" + text(BLUE), [BLUE]),
    Row("CRLF line ends", text(BLUE).replace(b"\n", b"\r\n"), [BLUE]),
    Row("CR line ends", text(BLUE).replace(b"\n", b"\r"), [BLUE]),
    Row("no space after the colon", text(BLUE).replace(b"data: ", b"data:"), [BLUE]),
    Row("comments", b": OPENROUTER PROCESSING\n\n" + text(BLUE) + b": end\n\n", [BLUE]),
    Row("pings of a proxy", b"event: ping\ndata: 12:00:00\n\n" + text(BLUE), [BLUE]),
    Row("event names, ids and retry", b"event: message\nid: 1\nretry: 10\n" + text(BLUE), [BLUE]),
    Row(
        "an object in several data lines",
        b'data: {"choices": [\ndata: {"delta": {"content":\ndata: "The sky is blue."}}]}\n\n' + DONE,
        [BLUE],
    ),
    Row("no empty lines between events", text(BLUE).replace(b"\n\n", b"\n"), [BLUE]),
    Row("no end of the last line", text(BLUE).rstrip(b"\n"), [BLUE]),
    Row("no DONE", text(BLUE).removesuffix(DONE), [BLUE]),
    Row("content type text/plain", text(BLUE), [BLUE], kind=PLAIN),
    Row("no content type", text(BLUE), [BLUE], kind=""),
    Row("event stream under the content type JSON", text(BLUE), [BLUE], kind=JSON),
    Row("one JSON object", message({"role": "assistant", "content": "One. Two."}), ["One.", "Two."], kind=JSON),
    Row("one JSON object as text/plain", message({"content": BLUE}), [BLUE], kind=PLAIN),
    Row("one JSON object as an event stream", message({"content": BLUE}), [BLUE]),
    # Shapes of an event.
    Row("role only, then null content", chunk({"role": "assistant", "content": None}) + text(BLUE), [BLUE]),
    Row("null delta", chunk(None) + text(BLUE), [BLUE]),
    Row("empty finish reason until the end", chunk({"content": "The sky"}, "") + text(" is blue."), [BLUE]),
    Row("Azure: no choices at first", event({"choices": [], "prompt_filter_results": []}) + text(BLUE), [BLUE]),
    Row("usage in the last event", text(BLUE).removesuffix(DONE) + event({"choices": [], "usage": {}}) + DONE, [BLUE]),
    Row("usage with null choices", event({"choices": None, "usage": {}}) + text(BLUE), [BLUE]),
    Row("content as a list of parts", chunk({"content": [{"type": "text", "text": BLUE}]}, "stop"), [BLUE]),
    Row(
        "Mistral: reasoning as a part",
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]})
        + chunk({"content": [{"type": "text", "text": BLUE}, {"type": "reference", "reference_ids": [1]}]}, "stop"),
        [BLUE],
    ),
    Row("content in parts of a JSON object", message({"content": [{"type": "text", "text": BLUE}]}), [BLUE], kind=JSON),
    Row(
        "two choices, index 1 first",
        event({"choices": [choice({"content": "No."}, index=1), choice({"content": BLUE})]}) + text(),
        [BLUE],
    ),
    Row("choice 1 alone", event({"choices": [choice({"content": "No."}, index=1)]}) + text(BLUE), [BLUE]),
    Row("message for delta", event({"choices": [{"message": {"content": BLUE}, "finish_reason": "stop"}]}), [BLUE]),
    Row("older completions API", event({"choices": [{"text": BLUE, "finish_reason": "stop"}]}), [BLUE]),
    Row("a character cut into two surrogates", text("Nice \ud83d", "\ude00 day."), ["Nice day."]),
    Row("vLLM, DeepSeek: reasoning_content", chunk({"reasoning_content": "Hm. Let me see."}) + text(BLUE), [BLUE]),
    Row("OpenRouter: reasoning", chunk({"reasoning": "Hm.", "content": ""}) + text(BLUE), [BLUE]),
    Row("LiteLLM: thinking blocks", chunk({"thinking_blocks": [{"thinking": "Hm."}]}) + text(BLUE), [BLUE]),
    # Hidden text within the content.
    Row("think", text("<think>Hm. Let me see.</think>", BLUE), [BLUE]),
    Row("think, cut inside the tags", text("<th", "ink>Hm. ", "</", "thi", "nk", ">\n\n", BLUE), [BLUE]),
    Row("thinking with an attribute", text('<thinking level="1">Hm.</thinking>', BLUE), [BLUE]),
    Row("Magistral", text("[THI", "NK]Hm.[/THINK]", BLUE), [BLUE]),
    Row("Kimi", text("◁think▷Hm.◁/think▷", BLUE), [BLUE]),
    Row(
        "gpt-oss without a parser",
        text("<|channel|>analysis<|message|>Hm.<|end|><|start|>as", "sistant<|channel|>final<|message|>", BLUE),
        [BLUE],
    ),
    Row("tokens of a template", text("<s>", BLUE, "<|im_end|>", "</s>"), [BLUE]),
    Row("closing tag alone", message({"content": f"Hm. Let me see.\n</think>\n\n{BLUE}"}), [BLUE], kind=JSON),
    # Markup.
    Row("list", text(TIPS), ["Here are three tips:", "1. Drink water.", "2. Sleep well.", "Walk daily."]),
    Row("code in a line", text("Use `ls -la`."), ["Use ls -la."]),
    Row("headings", text("## Note\nRead it.\n\n# Next #\nDone."), ["Note", "Read it.", "Next", "Done."]),
    Row("link", text("Read [the docs](https://exam", "ple.com/a_b) now."), ["Read the docs now."]),
    Row("address", text("See https://www.example.com/a_b?x=1. Done."), ["See example.com.", "Done."]),
    Row("block of code", text(FENCED), ["Run this:", "Then it works."]),
    Row("table", text(TABLE), ["Here it is.", "Choose one."]),
    Row("citations", text("The sky is blue【4†source】. It is so [1][2]."), [BLUE, "It is so."]),
    Row("emojis", text("Great 😀! Nice 👍🏽 day 👨‍👩‍👧. ❤️"), ["Great!", "Nice day."]),
    Row("HTML", text("A <b>bold</b> word &amp; more.<br>Next."), ["A bold word & more.", "Next."]),
    Row("rule and quote", text("One.\n\n---\n\n> Two.\n\n***"), ["One.", "Two."]),
    Row("no markup", text("2 * 3, snake_case, 5 < 6, C# and a@b.c."), ["2 * 3, snake_case, 5 < 6, C# and a@b.c."]),
    # Answers that are missing.
    Row("refusal", chunk({"refusal": "I cannot "}) + chunk({"refusal": "help."}) + chunk({}, "stop") + DONE,
        ["I cannot help."], "refusal"),
    Row("refusal, one JSON object", message({"content": None, "refusal": "I cannot."}), ["I cannot."], "refusal", JSON),
    Row("tool call", chunk({"tool_calls": [{"function": {"name": "f"}}]}) + text(finish="tool_calls"), [], "tool_call"),
    Row("tool call of the older API", chunk({"function_call": {"name": "f"}}) + text(finish="function_call"), [],
        "tool_call"),
    Row("tool call without a parser", text('<tool_call>{"name": "f"}</tool_call>'), [], "empty"),
    Row("tool call after words", chunk({"content": "One moment."}) + chunk({"tool_calls": [{}]}, "tool_calls"),
        ["One moment."]),
    Row("empty", text(), [], "empty"),
    Row("white space", text(" \n\n"), [], "empty"),
    Row("reasoning only", text("<think>Hm."), [], "empty"),
    Row("reasoning until the limit", text("<think>Hm.", finish="length"), [], "length"),
    Row("cut by length", text("The sky is", finish="length"), ["The sky is"], "length"),
    Row("cut by length, Gemini", text("The sky is", finish="MAX_TOKENS"), ["The sky is"], "length"),
    Row("filtered, Gemini", text("The sky is", finish="SAFETY"), ["The sky is"], "filtered"),
    Row("tool call, Anthropic", text(finish="tool_use"), [], "tool_call"),
    Row("filtered", text(finish="content_filter"), [], "filtered"),
    Row("filtered in the middle", text("The sky", finish="content_filter"), ["The sky"], "filtered"),
]  # fmt: skip

ERRORS = [
    ("error object", event({"error": {"message": "overloaded", "code": 503}}), "an error: 'overloaded'"),
    ("error text", event({"error": "overloaded"}), "an error: 'overloaded'"),
    ("error of vLLM", event({"object": "error", "message": "overloaded"}), "an error: 'overloaded'"),
    ("error event", b"event: error\n" + event({"message": "overloaded"}), "an error: 'overloaded'"),
    ("error after text", chunk({"content": BLUE}) + event({"error": "overloaded"}), "an error: 'overloaded'"),
    ("an event that is cut", chunk({"content": BLUE})[:-9], "it is not JSON"),
    ("error as finish reason", chunk({"content": ""}, "error"), "finish reason error"),
    ("end within the reply", chunk({"content": "Half"}), "ended before the reply was complete"),
    ("nothing", b"", "ended before the reply was complete"),
]


def replies(service: Any, body: bytes, kind: str, size: int) -> tuple[list[str], Shortfall | None]:
    """Return the sentences and what is missing in the reply of a server that sends ``body`` in pieces."""

    def script(handler: Any) -> None:
        handler.begin(kind)
        for start in range(0, len(body), size):
            handler.chunk(body[start : start + size])
        handler.chunk(b"")

    service.script = script
    responder = OpenAIResponder(Settings(base_url=f"{service.url}/v1", api_key=Secret(value="sk-0123456789")))
    reply, pieces = ReplyText(TextSettings()), responder.reply("hello", 1)
    sentences: list[str] = []
    while True:
        try:
            sentences += reply.feed(next(pieces))
        except StopIteration as stop:
            return [*sentences, *reply.flush()], stop.value


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
@pytest.mark.parametrize("size", [1 << 20, 9])
def test_exact_text_is_spoken(row: Row, size: int, service: Any) -> None:
    sentences, shortfall = replies(service, row.body, row.kind, size)
    assert sentences == row.spoken
    assert (shortfall.kind if shortfall else None) == row.shortfall


@pytest.mark.parametrize(("body", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_error_in_the_stream_raises_service_error(body: bytes, message: str, service: Any) -> None:
    with pytest.raises(ServiceError, match=message):
        replies(service, body, EVENTS, 1 << 20)
