"""From the configuration to a codec: who has to have a key."""

from __future__ import annotations

import pytest

from agent.config.model import Fish, Synthesis
from agent.config.secrets import Secret
from agent.services import missing_key


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", False),
        ("192.168.1.5", False),
        ("localhost", False),
        ("speech.local", False),
        ("raspberrypi", False),
        ("speech.example.com", True),
        ("93.184.216.34", True),
    ],
)
def test_a_server_in_the_house_needs_no_key_by_name_or_by_number(host: str, wanted: bool) -> None:
    """A local speech server on another machine was let off the key where its number stood in the configuration, and not
    where its name did: the daemon did not start, and the doctor found nothing wrong."""
    fish = Fish(url=f"ws://{host}:8394/v1/tts/live", api_key=Secret(credential="of-nobody"))
    assert (missing_key("fish", Synthesis(services=("fish",), fish=fish)) is not None) == wanted
