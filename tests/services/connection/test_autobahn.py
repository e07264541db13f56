"""Our connection as the echo client of Autobahn|Testsuite, against the frozen list of its cases: none may fail."""

from __future__ import annotations

import pytest
from support.autobahn_cases import Case, all_cases, code_of
from support.echo import echo
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Scripted, close_frame, frame

from agent.services.connection import websocket as connection

CASES = all_cases()


def send(peer: Peer, parts: tuple[bytes, ...], chop: int) -> None:
    stream = b"".join(parts)
    pieces = (
        parts
        if chop == 0
        else (stream,)
        if chop < 0
        else [stream[at : at + chop] for at in range(0, len(stream), chop)]
    )
    for piece in pieces:
        peer.send(piece)


def verdict(peer: Peer, case: Case) -> str:
    """Plays one case; empty where it held, else what was wrong."""
    peer.accept()
    got: list[tuple[int, bytes]] = []
    if case.alive_after:
        send(peer, case.parts[: case.alive_after], case.chop)
        peer.send(frame(PING, b"alive?"))
        while (found := peer.read_frame()) != (PONG, b"alive?"):
            got.append(found)
            if found[0] < 0:
                return "ended before it was its turn"
    send(peer, case.parts[case.alive_after :], case.chop)
    while case.polite and len(got) < len(case.answers):
        got.append(peer.read_frame())
        if got[-1][0] < 0:
            return f"hung up after {len(got) - 1} of {len(case.answers)} answers"
    if case.polite:
        peer.send(close_frame(1000))
    rest = peer.read_all()
    closes = [data for opcode, data in rest if opcode == CLOSE]
    got += [found for found in rest if found[0] in (TEXT, BINARY, PONG)]
    if case.number != "7.1.6" and tuple(got) != case.answers:
        return f"answered {got!r:.200}"
    if len(closes) != 1 or rest[-1][0] != CLOSE:
        return f"{len(closes)} close frames, or something after it"
    if code_of(closes[0]) not in case.codes:
        return f"closed with {code_of(closes[0])}, not {case.codes}"
    return ""


def test_the_list_is_whole() -> None:
    numbers = [case.number for case in CASES]
    assert len(numbers) == len(set(numbers)) == 247
    counts = [sum(number.startswith(f"{group}.") for number in numbers) for group in (1, 2, 3, 4, 5, 6, 7, 10)]
    assert counts == [16, 11, 7, 10, 20, 145, 37, 1]


@pytest.mark.parametrize("group", ["1", "2", "3", "4", "5", "6", "7", "10"])
def test_no_case_of_the_suite_fails(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 30.0)  # all that is sent is read, however slowly it comes
    cases = [case for case in CASES if case.number.split(".")[0] == group]
    wrong: dict[str, str] = {}

    def script(peer: Peer) -> None:
        case = cases[peer.index]
        wrong[case.number] = "broke off"
        wrong[case.number] = verdict(peer, case)

    with Scripted(script) as server:
        for _ in cases:
            echo(server.url, seconds=60)
        server.join()
    assert {number: why for number, why in wrong.items() if why} == {}
    assert len(wrong) == len(cases)
