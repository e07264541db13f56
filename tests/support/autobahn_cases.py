"""The client cases 1 to 7 and 10 of Autobahn|Testsuite 0.8.2 (Apache-2.0) as data, with its numbers.

A case sends ``parts`` in chunks of ``chop`` bytes (0: each part in one chunk, -1: everything in one chunk) and expects
the messages and pongs of ``answers``, in order, then a close frame with one of ``codes``. If the suite allows several
results, the strict one is expected; without a verdict of the suite (7.1.6, 7.13.*), any close frame is accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from support.scripted import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

Answer = tuple[int, bytes]
HELLO = b"Hello, world!"
ODD = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
GREEK, OUT_OF_RANGE, EDITED = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", b"\xf4\x90\x80\x80", b"edited"
UMLAUTS = "Hello-µ@ßöäüàá-UTF-8!!".encode()


@dataclass(frozen=True)
class Case:
    """One case. Immutable.

    ``polite``: the server closes with 1000 after the answers. ``alive_after``: this number of parts is sent first, and
    a ping must be answered before the rest follows (the suite waits a second instead).
    """

    number: str
    parts: tuple[bytes, ...]
    answers: tuple[Answer, ...] = ()
    codes: tuple[int | None, ...] = (1000,)
    chop: int = 0
    polite: bool = True
    alive_after: int = 0


def fails(number: str, *parts: bytes, answers: tuple[Answer, ...] = (), code: int = 1002, chop: int = -1) -> Case:
    return Case(number, parts, answers, (code,), chop, polite=False)


def closes(number: str, *parts: bytes, codes: tuple[int | None, ...] = (1000,)) -> Case:
    return Case(number, parts, (), codes, -1, polite=False)


def split(opcode: int, data: bytes, size: int = 1) -> tuple[bytes, ...]:
    """Encode a message in fragments of ``size`` bytes."""
    ends = range(0, len(data), size)
    return tuple(
        frame(CONTINUATION if at else opcode, data[at : at + size], fin=int(at + size >= len(data))) for at in ends
    )


def framing() -> Iterator[Case]:
    sizes = (0, 125, 126, 127, 128, 65535, 65536)
    for group, opcode, payload in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for index, size in enumerate(sizes, 1):
            yield Case(f"1.{group}.{index}", (frame(opcode, payload * size),), ((opcode, payload * size),))
        yield Case(f"1.{group}.8", (frame(opcode, payload * 65536),), ((opcode, payload * 65536),), chop=997)


def pings() -> Iterator[Case]:
    for index, data in enumerate((b"", HELLO, ODD, b"\xfe" * 125), 1):
        yield Case(f"2.{index}", (frame(PING, data),), ((PONG, data),))
    yield fails("2.5", frame(PING, b"\xfe" * 126))
    yield Case("2.6", (frame(PING, b"\xfe" * 125),), ((PONG, b"\xfe" * 125),), chop=1)
    yield Case("2.7", (frame(PONG),))
    yield Case("2.8", (frame(PONG, b"unsolicited pong payload"),))
    yield Case("2.9", (frame(PONG, b"unsolicited"), frame(PING, b"ping payload")), ((PONG, b"ping payload"),))
    ten = tuple(b"payload-%d" % index for index in range(10))
    for index, chop in ((10, -1), (11, 1)):
        yield Case(
            f"2.{index}", tuple(frame(PING, data) for data in ten), tuple((PONG, data) for data in ten), chop=chop
        )


def reserved() -> Iterator[Case]:
    echo = ((TEXT, HELLO),)
    yield fails("3.1", frame(TEXT, HELLO, rsv=1))
    for index, chop in ((2, -1), (3, 0), (4, 1)):
        yield fails(
            f"3.{index}", frame(TEXT, HELLO), frame(TEXT, HELLO, rsv=index), frame(PING), answers=echo, chop=chop
        )
    yield fails("3.5", frame(BINARY, ODD, rsv=5))
    yield fails("3.6", frame(PING, HELLO, rsv=6))
    yield fails("3.7", frame(CLOSE, rsv=7))
    for group, first in ((1, 3), (2, 11)):
        yield fails(f"4.{group}.1", frame(first))
        yield fails(f"4.{group}.2", frame(first + 1, b"reserved opcode payload"))
        for index, data, chop in ((3, b"", -1), (4, HELLO, -1), (5, HELLO, 1)):
            bad = frame(first + index - 1, data)
            yield fails(f"4.{group}.{index}", frame(TEXT, HELLO), bad, frame(PING), answers=echo, chop=chop)


def fragments() -> Iterator[Case]:
    one, two = frame(TEXT, b"fragment1", fin=0), frame(CONTINUATION, b"fragment2")
    whole, pong = (TEXT, b"fragment1fragment2"), (PONG, b"ping payload")
    yield fails("5.1", frame(PING, b"fragment1", fin=0), two)
    yield fails("5.2", frame(PONG, b"fragment1", fin=0), two)
    for index, chop in ((3, -1), (4, 0), (5, 1)):
        yield Case(f"5.{index}", (one, two), (whole,), chop=chop)
    for index, chop in ((6, -1), (7, 0), (8, 1)):
        yield Case(f"5.{index}", (one, frame(PING, b"ping payload"), two), (pong, whole), chop=chop)
    for index, fin in ((9, 1), (12, 0)):
        stray = frame(CONTINUATION, b"non-continuation payload", fin=fin)
        for step, chop in enumerate((-1, 0, 1)):
            yield fails(f"5.{index + step}", stray, frame(TEXT, HELLO), chop=chop)
    yield fails("5.15", one, two, frame(CONTINUATION, b"fragment3", fin=0), frame(TEXT, b"fragment4"), answers=(whole,))
    for index, fin in ((16, 0), (17, 1)):
        yield fails(
            f"5.{index}", *(frame(CONTINUATION, b"fragment1", fin=fin), frame(TEXT, b"fragment2", fin=0), two) * 2
        )
    yield fails("5.18", one, frame(TEXT, b"fragment2"))
    for index, chop in ((19, -1), (20, 0)):
        middle = tuple(frame(CONTINUATION, b"fragment%d" % number, fin=0) for number in (2, 3, 4))
        parts = (one, middle[0], frame(PING, b"pongme 1!"), *middle[1:], frame(PING, b"pongme 2!"))
        answers = (PONG, b"pongme 1!"), (PONG, b"pongme 2!"), (TEXT, b"".join(b"fragment%d" % n for n in range(1, 6)))
        yield Case(f"5.{index}", (*parts, frame(CONTINUATION, b"fragment5")), answers, chop=chop, alive_after=3)


VALID_AND_NOT = {
    5: "+68656c6c6f24776f726c64 +68656c6c6fc2a2776f726c64 +68656c6c6fe282ac776f726c64 +68656c6c6ff0a4ada2776f726c64 "
    "+cebae1bdb9cf83cebcceb5",
    6: "-ce +ceba -cebae1 -cebae1bd +cebae1bdb9 -cebae1bdb9cf +cebae1bdb9cf83 -cebae1bdb9cf83ce +cebae1bdb9cf83cebc "
    "-cebae1bdb9cf83cebcce +cebae1bdb9cf83cebcceb5",
    7: "+00 +c280 +e0a080 +f0908080",
    8: "-f888808080 -fc8480808080",
    9: "+7f +dfbf +efbfbf +f48fbfbf",
    10: "-f7bfbfbf -fbbfbfbfbf -fdbfbfbfbfbf",
    11: "+ed9fbf +ee8080 +efbfbd +f48fbfbf -f4908080",
    12: "-80 -bf -80bf -80bf80 -80bf80bf -80bf80bf80 -80bf80bf80bf -" + "".join(f"{n:02x}" for n in range(0x80, 0xBF)),
    13: " ".join(
        "-" + "".join(f"{n:02x}20" for n in range(*ends))
        for ends in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ),
    14: "-c0 -e080 -f08080 -f8808080 -fc80808080 -df -efbf -f7bfbf -fbbfbfbf -fdbfbfbfbf",
    15: "-c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf",
    16: "-fe -ff -fefeffff",
    17: "-c0af -e080af -f08080af -f8808080af -fc80808080af",
    18: "-c1bf -e09fbf -f08fbfbf -f887bfbfbf -fc83bfbfbfbf",
    19: "-c080 -e08080 -f0808080 -f880808080 -fc8080808080",
    20: "-eda080 -edadbf -edae80 -edafbf -edb080 -edbe80 -edbfbf",
    21: "-eda080edb080 -eda080edbfbf -edadbfedb080 -edadbfedbfbf -edae80edb080 -edae80edbfbf "
    "-edafbfedb080 -edafbfedbfbf",
    22: " ".join("+" + chr(plane << 16 | last).encode().hex() for plane in range(17) for last in (0xFFFE, 0xFFFF)),
    23: "+efbfb9 +efbfba +efbfbb +efbfbc +efbfbd +efbfbe +efbfbf",
}


def texts() -> Iterator[Case]:
    yield Case("6.1.1", (frame(TEXT),), ((TEXT, b""),))
    for index, data in ((2, b""), (3, b"middle frame payload")):
        parts = frame(TEXT, fin=0), frame(CONTINUATION, data, fin=0), frame(CONTINUATION)
        yield Case(f"6.1.{index}", parts, ((TEXT, data),), chop=-1)
    yield Case("6.2.1", (frame(TEXT, UMLAUTS),), ((TEXT, UMLAUTS),))
    yield Case("6.2.2", split(TEXT, UMLAUTS, len("Hello-µ@ßöä".encode())), ((TEXT, UMLAUTS),))
    yield Case("6.2.3", split(TEXT, UMLAUTS), ((TEXT, UMLAUTS),), chop=-1)
    yield Case("6.2.4", split(TEXT, GREEK), ((TEXT, GREEK),), chop=-1)
    surrogate = GREEK + b"\xed\xa0\x80" + EDITED
    yield fails("6.3.1", frame(TEXT, surrogate), code=1007)
    yield fails("6.3.2", *split(TEXT, surrogate), code=1007)
    bad = GREEK + OUT_OF_RANGE + EDITED
    for index, first, second in ((1, 11, 15), (2, 12, 13)):
        # Strict: refused with the second fragment, so the third is never sent.
        parts = frame(TEXT, bad[:first], fin=0), frame(CONTINUATION, bad[first:second], fin=0)
        yield Case(f"6.4.{index}", parts, (), (1007,), polite=False, alive_after=1)
        chops = frame(TEXT, bad[:first], length=len(bad)), bad[first:second], bad[second:]
        yield fails(f"6.4.{index + 2}", *chops, code=1007, chop=0)
    for group, cases in VALID_AND_NOT.items():
        for index, case in enumerate(cases.split(), 1):
            data = bytes.fromhex(case[1:])
            if case[0] == "+":
                yield Case(f"6.{group}.{index}", (frame(TEXT, data),), ((TEXT, data),))
            else:
                yield fails(f"6.{group}.{index}", frame(TEXT, data), code=1007)


def closing() -> Iterator[Case]:
    normal, text = close_frame(1000), frame(TEXT, HELLO)
    yield Case("7.1.1", (text,), ((TEXT, HELLO),))
    for index, late in ((2, frame(CLOSE)), (3, frame(PING)), (4, text)):
        yield closes(f"7.1.{index}", normal, late)
    yield closes("7.1.5", frame(TEXT, b"fragment1", fin=0), normal, frame(CONTINUATION, b"fragment2"))
    big = frame(TEXT, (b"BAsd7&jh23" * 26215)[:262144])
    yield Case("7.1.6", (big, text, normal, frame(PING)), (), (1000,), -1, polite=False)
    yield closes("7.3.1", frame(CLOSE), codes=(None, 1000))
    yield closes("7.3.2", frame(CLOSE, b"a"), codes=(1002,))
    yield closes("7.3.3", normal)
    yield closes("7.3.4", close_frame(1000, "Hello World!"))
    yield closes("7.3.5", close_frame(1000, "*" * 123))
    yield closes("7.3.6", close_frame(1000, "*" * 124), codes=(1002,))
    yield closes("7.5.1", close_frame(1000, GREEK + b"\xed\xa0\x80" + EDITED), codes=(1002, 1007))
    valid = 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999
    for index, code in enumerate(valid, 1):
        yield closes(f"7.7.{index}", close_frame(code), codes=(1000, code))
    for index, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield closes(f"7.9.{index}", close_frame(code), codes=(1002,))
    for index, code in enumerate((5000, 65535), 1):
        yield closes(f"7.13.{index}", close_frame(code), codes=(1000, code, 1002))


def fragmented_by_itself() -> Iterator[Case]:
    yield Case("10.1.1", split(TEXT, b"*" * 65536, 1300), ((TEXT, b"*" * 65536),), chop=-1)


def all_cases() -> list[Case]:
    groups = framing(), pings(), reserved(), fragments(), texts(), closing(), fragmented_by_itself()
    return [case for group in groups for case in group]


def code_of(data: bytes) -> int | None:
    return struct.unpack("!H", data[:2])[0] if data else None
