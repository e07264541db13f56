from __future__ import annotations

import pytest

from agent.daemon.speech_builder import delivery_problem
from agent.pipeline.utterance import Delivery
from agent.settings.model import Config


@pytest.mark.parametrize(
    ("delivery", "expected"),
    [
        (Delivery(), None),
        (Delivery(chime="gong", service="local", voice="de"), None),
        (Delivery(chime="none"), None),
        (Delivery(chime="file:/etc/passwd"), "chime is one of none, ding, ding-dong, gong, alert"),
        (Delivery(service="fish"), "service is one of local, not 'fish'"),
        (Delivery(service="nothing\x1b"), "service is one of local"),
    ],
)
def test_unknown_options_of_an_utterance_are_named(delivery: Delivery, expected: str | None) -> None:
    problem = delivery_problem(Config(), delivery)
    assert (problem is None) if expected is None else problem is not None and problem.startswith(expected)


def test_voice_belongs_to_the_service_of_the_utterance() -> None:
    config = Config()
    config = config._replace(synthesis=config.synthesis._replace(services=("fish", "local")))
    assert config.synthesis.with_voice("fish", "x").settings("fish").reference_id == "x"
    assert config.synthesis.with_voice("local", "de").settings("local").voice == "de"
    assert delivery_problem(config, Delivery(voice="any")) is None
