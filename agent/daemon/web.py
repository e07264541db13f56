"""Builds the web frontend and connects it to the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.daemon.metrics import Metrics
from agent.frontends.api.api import Api
from agent.frontends.api.details import DetailReaders, Rows, SlowReader
from agent.frontends.frontend import Notification
from agent.frontends.web.log_tail import LogTail
from agent.frontends.web.server import WebServer
from agent.frontends.web.settings import WebSettings
from agent.frontends.web.turns import TurnLog
from agent.frontends.web.waiting import WaitingList
from agent.pipeline.events import Event
from agent.system.named_tuple import NamedTuple

# The modules that serve requests import the HTTP server of the standard library, which takes 50 ms. The web thread
# imports them after READY.
if TYPE_CHECKING:
    from agent.frontends.web.access import Access
    from agent.frontends.web.routes import Site


class WebSources(NamedTuple):
    """Functions that provide contents of the page from modules that frontends may not import.

    Immutable; all functions are thread-safe.

    Args:
        levels: Returns the level of each device in dBFS.
        card_underruns: Returns the number of card underruns since the start.
        config: Returns key, value and origin of each configuration value, without secrets.
        checks: Returns the results of those checks of ``doctor`` that open no sound device.
    """

    levels: Callable[[], Mapping[str, float]]
    card_underruns: Callable[[], int]
    config: Callable[[], Rows]
    checks: Callable[[], Rows]


def make_web(
    settings: WebSettings, api: Api, sources: WebSources, report: Callable[[Event], None]
) -> tuple[WebServer, Callable[[Notification], None]]:
    """Build the web frontend, and the function that must receive every notification.

    Args:
        settings: The configuration; ``listen`` must be an address.
        api: The methods and events of the daemon.
        sources: The contents of the page.
        report: Receives the events of the frontend.
    """
    turns, waiting, metrics, log = TurnLog(), WaitingList(), Metrics(sources.card_underruns), LogTail()
    log.install()
    api.details = DetailReaders(
        queue=waiting.utterances,
        turns=turns.turns,
        levels=sources.levels,
        log=lambda: [line._asdict() for line in log.tail()],
        metrics=metrics.render,
        config=SlowReader("the configuration", sources.config),
        checks=SlowReader("checks", sources.checks),
    )

    def make_site(access: Access) -> Site:
        from agent.frontends.web.page import load_page
        from agent.frontends.web.routes import Site

        return Site(
            api,
            access,
            load_page(),
            metrics=metrics.render,
            levels=sources.levels,
            directory=settings.directory,
            transcripts=settings.transcripts,
        )

    def notify(notification: Notification) -> None:
        turns.update(notification)
        waiting.update(notification)
        metrics.update(notification)

    return WebServer(settings, report, make_site, expire=api.expire), notify
