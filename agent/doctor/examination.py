"""All checks, one after the other, and what they found in words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from agent.doctor import systemd
from agent.doctor.clock import check_clock, is_synchronised
from agent.doctor.configuration import check_configuration
from agent.doctor.disk import check_disk
from agent.doctor.finding import Finding
from agent.doctor.keys import check_keys
from agent.doctor.local import check_local
from agent.doctor.network import check_services
from agent.doctor.sound import check_microphone, check_speaker
from agent.doctor.systemd import check_systemd, is_active, is_installed
from agent.doctor.told import Told
from agent.doctor.user import check_user
from agent.safe import safe
from agent.service import Paths

_MARKS = {"fine": "fine    ", "doubtful": "DOUBTFUL", "broken": "BROKEN  "}


def examine(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], show: systemd.Show = systemd.show
) -> Iterator[Finding]:
    """Every finding as soon as it is there. With a broken configuration only what needs none is looked at."""
    loaded, found = check_configuration(path, environ)
    yield from found
    usable = not any(finding.verdict == "broken" for finding in found)
    yield check_user()
    told = Told.of(environ)
    state = show() if told is None else told.unit
    if usable:
        yield from check_keys(loaded, installed=is_installed(state))
    yield check_clock(synchronised=is_synchronised if told is None else lambda: told.synchronised)
    if usable:
        mode = loaded.config.conversation.mode
        yield from check_services(loaded)
        if mode != "announce":
            yield check_microphone(loaded, in_use=is_active(state))
        if mode != "captions":
            yield check_speaker(loaded, in_use=is_active(state))
        yield from check_local(loaded)
    yield from check_disk(Paths.of(environ))
    yield from check_systemd(state)


def lines(finding: Finding) -> list[str]:
    """A finding for a person: verdict, subject and what was seen in columns, the cure below."""
    told = [f"{_MARKS[finding.verdict]}  {finding.subject:<22}  {safe(finding.saw, 1000)}"]
    if finding.cure:
        told.append(f"{'':32}  -> {safe(finding.cure, 1000)}")
    return told


def as_data(finding: Finding) -> dict[str, object]:
    """A finding for a program."""
    return asdict(finding)
