"""Loads the page, which is one HTML file, and computes the policy that lets a browser run only its script."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from agent.system.named_tuple import NamedTuple

FILE = Path(__file__).with_name("page.html")
_BLOCKS = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


class Page(NamedTuple):
    """The page and its ``Content-Security-Policy``. Immutable."""

    content: bytes
    policy: str


def load_page() -> Page:
    """Read the page and compute its policy.

    The policy allows one script and one style, by their hashes (Content Security Policy Level 3).
    """
    content = FILE.read_bytes()
    hashes: dict[bytes, str] = {}
    for kind, block in _BLOCKS.findall(content):
        hashes[kind] = base64.b64encode(hashlib.sha256(block).digest()).decode("ascii")
    rules = (
        "default-src 'none'",
        f"script-src 'sha256-{hashes[b'script']}'",
        f"style-src 'sha256-{hashes[b'style']}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
    return Page(content, "; ".join(rules))
