"""Tests of the table of speech services."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.config.fields import fields_of
from agent.errors import ConfigError
from agent.services.registry import SERVICES, find, find_all, served


def test_find_returns_the_service_of_that_name() -> None:
    assert [service.name for service in find_all()] == list(SERVICES)


def test_find_of_an_unknown_name_lists_the_services() -> None:
    with pytest.raises(ConfigError, match="neuphonic, playai, vachana, fish, wyoming, local"):
        find("unknown")


def test_no_service_is_imported_with_the_configuration() -> None:
    program = (
        "import sys; from agent.settings.loader import load; load(None, {})\n"
        "print([name for name in ('neuphonic', 'playai', 'vachana', 'fish', 'wyoming') "
        "if f'agent.services.protocols.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("name", list(SERVICES))
def test_service_can_be_pointed_to_the_local_server(name: str) -> None:
    service = find(name)
    settings = service.settings(**service.local_settings("ws://127.0.0.1:8394"))
    assert str(service.url(settings)).partition("://")[0] in service.url_schemes
    assert all(field.about for field in fields_of(service.settings).values())


def test_paths_of_the_services_do_not_overlap() -> None:
    for service in served():
        for path in service.paths:
            speakers = [other.name for other in served() if other.speaks_at(path.replace("*", "en"))]
            assert speakers == [service.name]
