"""Provides the web page with the configuration and the checks of ``doctor``, which the frontends may not import."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.daemon.web import WebSources


def make_sources(
    path: str | None,
    environ: Mapping[str, str],
    levels: Callable[[], Mapping[str, float]],
    card_underruns: Callable[[], int],
) -> WebSources:
    """Return the functions that provide the contents of the web page.

    Args:
        path: The configuration file; ``None`` for the default.
        environ: The environment of the daemon.
        levels: Returns the level of each device in dBFS.
        card_underruns: Returns the number of underruns of the sound card.
    """

    def config() -> list[dict[str, object]]:
        from agent.config.display import entries
        from agent.settings.loader import load_with_origins

        loaded = load_with_origins(path, environ)
        return entries(loaded.config, loaded.origins)

    def checks() -> list[dict[str, object]]:
        from agent.cli.doctor.command import run_checks

        return [result._asdict() for result in run_checks(path, environ, checks_devices=False)]

    return WebSources(levels, card_underruns, config, checks)
