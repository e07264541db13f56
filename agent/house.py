"""Names that never leave the house."""

from __future__ import annotations

HOUSE_NAMES = (".localhost", ".local", ".home.arpa", ".internal", ".lan", ".home", ".fritz.box")
"""How they end: RFC 6761, RFC 6762, RFC 8375, ICANN's "internal", and what home routers hand out. A name says
nothing of where it leads: whoever connects judges the address itself once more."""
