from __future__ import annotations

import pytest

from agent.daemon.shutdown import ShutdownBudget, ShutdownSteps


@pytest.mark.parametrize("seconds", [1.0, 3.0, 8.0, 60.0])
def test_budget_gives_each_part_a_share_of_any_time(seconds: float) -> None:
    budget = ShutdownBudget.of(seconds, local_server=True, frontends=True, captions=True)
    assert budget.stages + budget.local_server + budget.frontends + budget.captions == pytest.approx(seconds)
    assert budget.stages >= 0.4 * seconds and min(budget.local_server, budget.frontends, budget.captions) > 0
    assert ShutdownBudget.of(seconds, local_server=False, frontends=False, captions=False) == ShutdownBudget(seconds)


def test_steps_run_in_order_even_after_an_exception() -> None:
    order: list[str] = []

    def fail() -> None:
        order.append("record")
        raise LookupError("unexpected")

    steps = ShutdownSteps(
        stop_accepting=lambda: order.append("stop accepting"),
        abort_reply=lambda: order.append("abort reply"),
        stop_stages=lambda deadline: order.append("stages") or [],
        record_remaining=fail,
        close_captions=lambda deadline: order.append("captions"),
        stop_frontends=lambda deadline: order.append("frontends") or [],
        close_store=lambda deadline: None,
        save_volume=lambda deadline: order.append("volume"),
        stop_local_server=lambda seconds: order.append("local server"),
    )
    with pytest.raises(LookupError):
        steps.run(8.0)
    expected = ["stop accepting", "abort reply", "stages", "record", "captions", "frontends", "volume", "local server"]
    assert order == expected
