"""Strategies for untrusted input."""

from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
"""Text with every code point, lone surrogates included, as JSON escapes can produce it."""
