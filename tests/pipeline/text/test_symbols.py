from __future__ import annotations

import pytest

from agent.pipeline.text.symbols import speakable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Great 😀! Nice 👍🏽 day", "Great! Nice day"),
        ("Hi😀there", "Hi there"),
        ("👨‍👩‍👧‍👦 family 🇩🇪", "family"),
        ("1️⃣ Mix. #️⃣", "1 Mix."),
        ("I ❤️ you ☀ → there ✓", "I you there"),
        ("20 °C, 5 €, ½, № 7, Acme™ © ®", "20 °C, 5 €, ½, № 7, Acme™ © ®"),
        ("a\u200bb\u00adc\ufeffd\u202ee", "abcde"),
        ("क्‍ष می‌خواهم", "क्‍ष می‌خواهم"),
        ("bell\x07 nul\0", "bell nul"),
        ("①Mix ②, step③ ❹ and ⑴", "1 Mix 2, step 3 4 and 1"),
        ("ℹ️ ℹ", ""),
        ("😀", ""),
        ("❤️ 👍🏽", ""),
        ("---", ""),
        ("... !?", ""),
        ("“”", ""),
        ("你好", "你好"),
    ],
)
def test_only_what_a_voice_can_pronounce_remains(text: str, expected: str) -> None:
    assert speakable(text) == expected
