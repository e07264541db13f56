from __future__ import annotations

import pytest

from agent.daemon.shutdown import ShutdownBudget


@pytest.mark.parametrize("seconds", [1.0, 3.0, 8.0, 60.0])
def test_however_short_the_end_is_every_part_has_its_share(seconds: float) -> None:
    """With ``shutdown_seconds: 1`` the server's and the doors' fixed seconds were more than there was, and what was
    being said was cut at once."""
    shares = ShutdownBudget.of(seconds, local_server=True, frontends=True, captions=True)
    assert shares.stages + shares.local_server + shares.frontends + shares.captions == pytest.approx(seconds)
    assert shares.stages >= 0.4 * seconds and min(shares.local_server, shares.frontends, shares.captions) > 0
    assert ShutdownBudget.of(seconds, local_server=False, frontends=False, captions=False) == ShutdownBudget(seconds)
