from __future__ import annotations

from agent.config.fields import changes
from agent.settings.loader import load
from agent.settings.model import Config


def test_changes_are_the_keys_that_differ() -> None:
    new = load(
        None,
        {
            "VOICE_AGENT_LOGGING__LEVEL": "debug",
            "VOICE_AGENT_SHUTDOWN_SECONDS": "8.0",
            "VOICE_AGENT_SYNTHESIS__FISH__PROSODY__SPEED": "1.5",
            "VOICE_AGENT_SYNTHESIS__FISH__API_KEY": "{env: KEY}",
            "VOICE_AGENT_SYNTHESIS__SERVICES": "[fish, local]",
        },
    )
    assert sorted(changes(Config(), new)) == [
        "logging.level",
        "synthesis.fish.api_key",
        "synthesis.fish.prosody.speed",
        "synthesis.services",
    ]
    assert changes(new, new) == ()
