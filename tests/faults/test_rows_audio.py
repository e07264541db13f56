"""Rows 38 to 45 and 54 of the fault matrix: faults of sound cards.

The fake PortAudio stands below the real PyAudio; where the whole daemon is meant, it is a process of its own.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.fakepa import FakePortAudio
from support.fault_rows import Drive, Record
from support.processes import Supervision, WireLoggedServer

from agent.audio.format import Format
from agent.server.tts import tone

OVERFLOW, UNDERFLOW, HOST_ERROR, BAD_RATE, UNAVAILABLE, HANG = -9981, -9980, -9999, -9997, -9985, 1


def test_38_a_capture_overrun_is_reported_as_a_gap(fpa: FakePortAudio, drive: Drive, record_row: Record) -> None:
    fpa.order(f"read 8 {OVERFLOW} 1 8000")
    heard = drive("listen", seconds=3.0)
    assert heard["jumps"] == [8000]
    assert [gap[2] for gap in heard["gaps"]] == ["the microphone overflowed"]
    missing = sum(gap[1] for gap in heard["gaps"])
    assert abs(missing - 0.5) < 0.05
    assert not heard["losses"] and len(fpa.calls("open")) == 1, "the stream lives"
    record_row(38, f"0.50 s lost, {missing:.2f} s reported, stream not reopened")


@pytest.mark.parametrize("count", [1, 1000])
def test_39_underruns_are_counted_without_reopening(
    fpa: FakePortAudio, drive: Drive, record_row: Record, count: int
) -> None:
    fpa.order(f"write 5 {UNDERFLOW} {count}")
    fpa.set("speed", "0.001")  # the buffer of the card does not run dry on a busy machine
    played = drive("underruns", frames=(count + 20) * 320, rate=16000)
    assert played["underruns"] == count
    assert not played["losses"] and len(fpa.calls("open")) == 1
    record_row(39, f"{count} in a row: {played['underruns']} counted, opened once")


@pytest.mark.parametrize("rule", ["write {} -9999", "available {} -9999"])
def test_40_an_error_at_any_write_resumes_at_the_exact_sample(
    fpa: FakePortAudio, drive: Drive, record_row: Record, rule: str
) -> None:
    upto = 14
    swept = drive("sweep", folder=str(fpa.folder), rule=rule, upto=upto, frames=3200, rate=16000)
    assert swept["wrong"] == []
    assert swept["losses"] >= 8, "most of the calls were struck"
    usual = statistics.median(swept["backs"])
    assert usual < 2.0
    record_row(40, f"{rule.split()[0]} 1 to {upto}: 0 samples lost or repeated, usually back within {usual:.2f} s")


def test_40_an_error_at_any_read_is_a_gap_without_repeated_samples(
    fpa: FakePortAudio, drive: Drive, record_row: Record
) -> None:
    fpa.order(*(f"read {number} {HOST_ERROR}" for number in (3, 9, 17)))
    heard = drive("listen", seconds=3.0)
    assert heard["losses"] == len(heard["gaps"]) == len(heard["jumps"]) == 3
    off = [abs(gap_error(jump, gap[1])) / 16000 for jump, gap in zip(heard["jumps"], heard["gaps"], strict=True)]
    assert {gap[2] for gap in heard["gaps"]} == {"the microphone was disconnected"}
    assert statistics.median(heard["jumps"]) < 16000 and statistics.median(off) < 0.1 + heard["late"]
    record_row(40, f"3 reads: 3 gaps, usually reported to within {statistics.median(off) * 1000:.0f} ms")


def gap_error(jump: int, seconds: float) -> int:
    """Return the error of a reported gap in samples. Samples encode their position modulo 65536."""
    return (round(seconds * 16000) - jump + 32768) % 65536 - 32768


def test_40_say_survives_a_host_error(
    fpa: FakePortAudio, agent: Start, tone_server: WireLoggedServer, tmp_path: Path, record_row: Record
) -> None:
    fpa.order(f"write 5 {HOST_ERROR}")
    config = tmp_path / "config.yaml"
    config.write_text(configuration(tone_server, "announce"))
    process = agent("say", "--service", "local", "--config", str(config), "one two three", env=fpa.env)
    assert process.end() == 0, process.errors
    assert "no speaker: the sound device USB PnP was lost" in process.errors
    assert "the speaker is back" in process.errors
    assert "Expression" not in process.errors and "ALSA" not in process.errors
    rate = int(fpa.calls("open")[-1][2].split()[1])
    assert tone.pcm("one two three", rate).strip(b"\0") in fpa.heard()
    record_row(40, "say: lost once in mid-speech, every sample spoken, exit 0")


def test_41_a_card_is_reopened_under_a_new_number(fpa: FakePortAudio, drive: Drive, record_row: Record) -> None:
    """6 s stand for a minute: the retry interval is always 1 s."""
    done = drive("unplug", folder=str(fpa.folder), away_seconds=6.0, shift=3)
    assert done["lost"] == ["microphone", "speaker"]
    assert max(done["back"].values()) < 10.0
    assert done["heard exactly"], "no sample of the speech is missing or repeated"
    ((start, seconds, reason),) = done["gaps"]
    assert (
        reason == "the microphone was disconnected" and done["gone"][0] - 0.2 - done["late"] < start < done["gone"][1]
    )
    (jump,) = done["jumps"]
    off = gap_error(jump, seconds)
    assert abs(off) < 1600 + done["late"] * 16000, f"the gap is exact to a frame: {off}"
    tries = len(fpa.calls("init")) - 2
    assert 6 <= tries <= 2 * (done["away"] + 2), "each side tries at most once a second, and once at once"
    places = {what.split()[-1] for _, code, what in fpa.calls("open") if code == 0 and what.startswith("output")}
    assert len(places) == 2, "it was opened under another number"
    back = max(done["back"].values())
    record_row(
        41,
        f"back within {back:.2f} s, 0 samples repeated, gap exact to {abs(off) / 16:.0f} ms, {tries} tries in 6 s",
    )


def configuration(tone_server: WireLoggedServer, mode: str, device: str = "USB PnP") -> str:
    return (
        f"conversation: {{mode: {mode}}}\nmicrophone: {{device: '{device}'}}\nspeaker: {{device: '{device}'}}\n"
        f"transcription: {{url: '{tone_server.ws}/'}}\n"
        f"synthesis: {{services: [local], local: {{url: '{tone_server.ws}/'}}}}\n"
        "server: {start: false}\ncontrol: {socket: none}\n"
    )


def test_42_a_blocked_read_exits_with_70_and_stacks(
    fpa: FakePortAudio, agent: Start, tone_server: WireLoggedServer, tmp_path: Path, record_row: Record
) -> None:
    """A stuck C call cannot be ended inside the process, so it exits with a diagnosis for the service manager."""
    fpa.order(f"read 8 {HANG}")
    config = tmp_path / "config.yaml"
    config.write_text(configuration(tone_server, "captions") + "shutdown_seconds: 3\n")
    since = len(tone_server.wire())
    process = agent("run", "--config", str(config), env=fpa.env)
    tone_server.await_wire(since=since, direction="in", kind="binary")
    began = time.monotonic()
    process.stderr.await_text("stuck: microphone")
    seen = time.monotonic() - began
    assert process.end() == 70
    took = time.monotonic() - began
    assert took < 15.0, "WatchdogSec of the unit"
    assert 'thread "microphone"' in process.errors and "pyaudio" in process.errors
    tone_server.await_wire(since=since, direction="in", event="End")  # eof was sent all the same
    record_row(42, f"seen after {seen:.1f} s, stacks of all threads, eof sent, exit 70 after {took:.1f} s")


@pytest.mark.parametrize("code", [BAD_RATE, UNAVAILABLE])
def test_43_a_card_that_rejects_all_formats_exits_with_78(
    fpa: FakePortAudio, agent: Start, tone_server: WireLoggedServer, tmp_path: Path, record_row: Record, code: int
) -> None:
    fpa.order(f"open 0 {code} 1000")
    config = tmp_path / "config.yaml"
    config.write_text(configuration(tone_server, "captions"))
    # The daemon waits for a busy card, a command does not.
    process = agent(*(["run"] if code == BAD_RATE else ["transcribe"]), "--config", str(config), env=fpa.env)
    assert process.end() == 78
    # ALSA has no card below the fake PortAudio, so the diagnosis of an unavailable card finds it missing.
    words = "supports none of the requested formats" if code == BAD_RATE else "there is no such sound card"
    assert words in process.errors and "USB PnP" in process.errors and "Traceback" not in process.errors
    assert "`voice-agent devices` lists the devices" in process.errors
    rates = {tuple(what.split()[1:4:2]) for _, _, what in fpa.calls("open")}
    if code == BAD_RATE:
        assert rates == {(rate, channels) for rate in ("16000", "48000", "44100") for channels in ("1", "2")}
    record_row(43, f"{code}: exit 78 after {len(rates)} formats")


def test_43_the_daemon_waits_for_a_busy_card(
    fpa: FakePortAudio,
    agent: Start,
    tone_server: WireLoggedServer,
    tmp_path: Path,
    supervision: Supervision,
    record_row: Record,
) -> None:
    fpa.order(f"open 1 {UNAVAILABLE} 2")
    config = tmp_path / "config.yaml"
    config.write_text(configuration(tone_server, "captions"))
    since = len(tone_server.wire())
    process = agent("run", "--config", str(config), env={**fpa.env, "NOTIFY_SOCKET": supervision.path})
    line = supervision.await_line("no microphone", while_alive=process)
    assert 'no microphone: waiting for "USB PnP"' in line
    tone_server.await_wire(since=since, direction="in", kind="binary")
    supervision.await_line("STATUS=writing captions", while_alive=process)
    process.signal(signal.SIGTERM)
    assert process.end() == 0
    record_row(43, "busy at the start: reported, waited for, used")


def test_43_the_daemon_serves_requests_without_a_microphone(
    fpa: FakePortAudio,
    agent: Start,
    tone_server: WireLoggedServer,
    tmp_path: Path,
    supervision: Supervision,
    record_row: Record,
) -> None:
    fpa.set("gone", "")
    config = tmp_path / "config.yaml"
    text = configuration(tone_server, "assistant").replace("speaker: {device: 'USB PnP'}", "speaker: {device: none}")
    config.write_text(text.replace("socket: none", f"socket: {tmp_path / 'control.sock'}"))
    since = len(tone_server.wire())
    process = agent("run", "--config", str(config), env={**fpa.env, "NOTIFY_SOCKET": supervision.path})
    supervision.await_line('no microphone: waiting for "USB PnP"', while_alive=process)
    process.stderr.await_text("there is no microphone 'USB PnP'; available: default")
    say = agent("say", "--config", str(config), "one two three")
    assert say.end() == 0, say.errors
    tone_server.await_wire(since=since, direction="in", event="Text")
    fpa.set("gone", None)
    began = time.monotonic()
    supervision.await_line("STATUS=listening", while_alive=process)
    took = time.monotonic() - began
    assert took < 10.0
    process.signal(signal.SIGTERM)
    assert process.end() == 0
    assert not tone_server.matching(since=since, kind="error")
    record_row(43, f"no card at boot: reported, used {took:.1f} s after it appeared")


def test_43_a_missing_speaker_is_reported_at_start(
    fpa: FakePortAudio,
    agent: Start,
    tone_server: WireLoggedServer,
    tmp_path: Path,
    supervision: Supervision,
    record_row: Record,
) -> None:
    fpa.set("gone", "")
    config = tmp_path / "config.yaml"
    config.write_text(configuration(tone_server, "announce"))
    process = agent("run", "--config", str(config), env={**fpa.env, "NOTIFY_SOCKET": supervision.path})
    supervision.await_line('no speaker: waiting for "USB PnP"', while_alive=process)
    fpa.set("gone", None)
    began = time.monotonic()
    supervision.await_line("STATUS=ready to speak", while_alive=process)
    took = time.monotonic() - began
    assert took < 10.0
    process.signal(signal.SIGTERM)
    assert process.end() == 0
    record_row(43, f"no speaker at boot: reported at once, ready {took:.1f} s after it appeared")


@pytest.mark.parametrize("speed", [0.998, 1.002, 2.0])
def test_44_clock_drift_is_measured_without_loss(
    fpa: FakePortAudio, drive: Drive, record_row: Record, speed: float
) -> None:
    fpa.set("speed", str(speed))
    drifted = drive("both", folder=str(fpa.folder), seconds=4.0)
    assert drifted["jumps"] == [] and drifted["gaps"] == [] and drifted["dropped"] == 0
    assert drifted["ring most"] <= drifted["ring holds"]
    assert drifted["heard"]
    wanted = (speed - 1) * 1e6
    drifts = drifted["drifts"]
    assert set(drifts) == {"microphone", "speaker"}
    assert all(abs(ppm - wanted) < max(1500, wanted * 0.1) for ppm in drifts.values()), drifts
    record_row(44, f"{wanted:+.0f} ppm: measured {', '.join(f'{ppm:+.0f}' for ppm in drifts.values())}, 0 frames lost")


def test_45_library_output_on_stderr_is_suppressed(
    fpa: FakePortAudio, agent: Start, tone_server: WireLoggedServer, tmp_path: Path, record_row: Record
) -> None:
    fpa.set("spam", "10000")
    config = tmp_path / "config.yaml"
    config.write_text(configuration(tone_server, "announce"))
    process = agent("say", "--service", "local", "--config", str(config), "one two three", env=fpa.env)
    assert process.end() == 0, process.errors
    assert "ALSA" not in process.errors and len(process.errors) < 500, process.errors
    spoken = Format(24000).seconds_of(len(fpa.heard().strip(b"\0")))
    assert spoken > 0.5
    record_row(
        45, f"10,000 lines a second: {len(process.errors.splitlines())} on standard error, {spoken:.1f} s spoken"
    )


@pytest.mark.slow
def test_54_cpu_starvation_loses_only_counted_frames(fpa: FakePortAudio, drive: Drive, record_row: Record) -> None:
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        starved = drive("both", folder=str(fpa.folder), seconds=6.0, spin=True)
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
    assert starved["stuck"] == [], "the watchdog is not tripped"
    assert starved["heard"]
    # Every frame that the card recorded was delivered or is in a reported gap.
    lost = sum(starved["jumps"]) / 16000
    assert abs(lost - sum(seconds for _, seconds, _ in starved["gaps"])) <= 0.1 * (1 + len(starved["gaps"]))
    assert lost <= 0.05 * starved["took"]
    record_row(54, f"{starved['took']:.0f} s: {lost:.2f} s of the microphone lost, {starved['underruns']} underruns")
