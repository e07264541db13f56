from __future__ import annotations

import json

import pytest

from agent.frontends.api.json_rpc import (
    InvalidRequest,
    Request,
    RpcError,
    encode_error,
    encode_notification,
    encode_result,
    parse_request,
)


def line(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


@pytest.mark.parametrize("id", [1, 1.5, "a", None])
def test_request_is_parsed(id: object) -> None:
    request = parse_request(line(id=id, method="say", params={"text": "hello"}))
    assert request == Request("say", {"text": "hello"}, id)  # type: ignore[arg-type]


def test_request_without_an_id_is_a_notification() -> None:
    assert parse_request(line(method="hush")) == Request("hush", {}, None, True)


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (b"", -32700, "not JSON"),
        (b"hello", -32700, "not JSON"),
        (b"\xff\x00", -32700, "not JSON"),
        (b'{"a": NaN}', -32700, "not JSON"),
        (b"3", -32600, "no object"),
        (b"[]", -32600, "batches"),
        (b' [{"jsonrpc": "2.0", "id": 1, "method": "hush"}]', -32600, "batches"),
        (b"[" * 100_000, -32600, "batches"),
        (b"{}", -32600, "jsonrpc"),
        (line(id=1), -32600, "method"),
        (line(id=1, method=3), -32600, "method"),
        (line(id=[], method="say"), -32600, "id"),
        (line(id=True, method="say"), -32600, "id"),
        (line(id="x" * 201, method="say"), -32600, "id"),
        (line(id=1, method="say", text="hello"), -32600, "params"),
        (line(id=1, method="say", params=["hello"]), -32602, "params"),
        (b'{"id": 1, "method": "say", "jsonrpc": "1.0"}', -32600, "jsonrpc"),
        (b'{"id": 1, "method": "say"}', -32600, "jsonrpc"),
    ],
)
def test_message_that_is_no_request_gets_a_standard_error(message: bytes, code: int, words: str) -> None:
    invalid = parse_request(message)
    assert isinstance(invalid, InvalidRequest)
    assert invalid.error.code == code and words in invalid.error.message


@pytest.mark.parametrize("old", ['{"say": "hi"}', '{"status": true}', '{"begin": true, "priority": 3}', '{"mute": 1}'])
def test_line_of_the_old_protocol_gets_the_new_form(old: str) -> None:
    invalid = parse_request(old.encode())
    assert isinstance(invalid, InvalidRequest)
    assert invalid.error.code == -32600 and '"jsonrpc": "2.0"' in invalid.error.message


def test_messages_are_one_line_of_ascii() -> None:
    for message in (
        encode_result(1, {"text": "\n\u2028\ud800"}),
        encode_error("\u00e4", RpcError(-32600, "a\nb", "name")),
        encode_notification("event", {"text": "\r\n"}),
    ):
        assert b"\n" not in message and message.isascii()
        assert json.loads(message)["jsonrpc"] == "2.0"
    assert json.loads(encode_error(None, RpcError(-1, "x", "name")))["error"] == {
        "code": -1,
        "message": "x",
        "data": {"name": "name"},
    }
