"""The page and the example of a kiosk in Chromium, with a real daemon behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chromium import Chromium, Page
from support.machine import free_port
from support.processes import Process
from support.web import TOKEN, WebHarness

from agent.daemon.timer_bell import machine_clock
from agent.frontends.api.details import DetailReaders, SlowReader
from agent.frontends.frontend import Notification
from agent.frontends.web.routes import MAX_STREAMS
from agent.frontends.web.turns import TurnLog
from agent.pipeline.actions import Record
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Heard, PlaybackStarted, Reply, SpeechEnded, TimersChanged
from agent.pipeline.status import CurrentUtterance, DeviceState, ServiceState, Status
from agent.pipeline.timers import Timers
from agent.pipeline.utterance import Utterance

ROOT = Path(__file__).parents[3]
PICTURES = Path(os.environ.get("TEST_ARTIFACTS", ROOT / "test-artifacts"))
"""Where the pictures of the page are kept."""

LONG = " ".join(["one two three four five six seven eight nine ten"] * 30)
"""A text that lasts longer than a test; each test ends it."""

CONTROLS = {"button", "textbox", "slider", "combobox", "meter", "checkbox", "link", "DisclosureTriangle"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page of a daemon that speaks tones into a file."""
    folder = tmp_path_factory.mktemp("daemon")
    port = free_port()
    (folder / "config.yaml").write_text(f"""
microphone: {{device: none}}
speaker: {{device: "file:{folder}/out.wav"}}
conversation: {{mode: announce}}
server: {{port: 0, speech: tone}}
control: {{socket: {folder}/control.sock}}
web:
  listen: 127.0.0.1:{port}
  token: {{env: WEB_TOKEN}}
  transcripts: true
  directory: {ROOT}/examples
""")
    environment = {"WEB_TOKEN": TOKEN, "STATE_DIRECTORY": str(folder), "CACHE_DIRECTORY": str(folder)}
    daemon = Process("run", "--config", str(folder / "config.yaml"), env=environment, cwd=folder)
    try:
        daemon.stderr.await_text("daemon ready")
        yield f"http://127.0.0.1:{port}"
        daemon.signal(15)
        assert daemon.end() == 0
        assert [line for line in daemon.error_lines() if " error " in line] == []
    finally:
        daemon.kill()


@pytest.fixture
def page(browser: Chromium, url: str) -> Iterator[Page]:
    """The page after the log-in. At the end its console has no error."""
    with browser.page() as page:
        page.open(f"{url}/")
        log_in(page)
        yield page
        assert page.errors == []


def log_in(page: Page) -> None:
    page.wait("!document.getElementById('login').hidden")
    page.type("#token", TOKEN)
    page.press("Enter")
    page.wait("!document.getElementById('queue').hidden && document.getElementById('state').textContent !== ''")
    page.wait("document.getElementById('link').textContent === 'connected'")  # again: the first stream had no texts


def say(page: Page, text: str, priority: str = "message") -> None:
    page.run(f"document.getElementById('priority').value = '{priority}'")
    page.type("#text", text)
    page.click("#speak button")
    page.wait("document.getElementById('text').value === ''")


def test_hush_and_cancel_have_an_effect(page: Page) -> None:
    for text in (LONG, "second", "third"):
        say(page, text)
    page.wait("document.querySelectorAll('#utterances li').length === 3")
    page.wait("document.getElementById('saying').textContent.includes('one two three')")
    page.wait("document.getElementById('level-speaker').value > -60")
    page.screenshot(PICTURES / "page.png")
    page.prefer("dark")
    page.screenshot(PICTURES / "page-dark.png")
    page.prefer("light")
    page.click("[aria-label='Cancel: second']")
    page.wait("document.querySelectorAll('#utterances li').length === 2")
    page.wait("![...document.querySelectorAll('#utterances li')].some(line => line.textContent.includes('second'))")
    page.click("#hush")
    page.wait("document.querySelectorAll('#utterances li').length === 0")
    page.wait("document.getElementById('state').textContent === 'Ready'")


def test_volume_and_mute_have_an_effect(page: Page) -> None:
    page.run("(() => { const slider = document.getElementById('volume'); slider.focus(); slider.value = 30;"
             " for (const name of ['input', 'change']) slider.dispatchEvent(new Event(name)); })()")  # fmt: skip
    page.wait("document.getElementById('percent').textContent === '30 %'")
    page.click("#mute-speaker")
    page.wait("document.getElementById('mute-speaker').getAttribute('aria-pressed') === 'true'")
    page.click("#mute-speaker")
    page.wait("document.getElementById('mute-speaker').getAttribute('aria-pressed') === 'false'")


def test_details_show_history_log_configuration_and_checks(page: Page) -> None:
    page.click("#history summary")
    say(page, "a word")
    page.wait("document.getElementById('history').textContent.includes('played')")
    for name, text in (("log", "daemon ready"), ("config", "web.listen"), ("checks", "configuration")):
        page.click(f"#{name} summary")
        page.wait(f"document.getElementById('{name}').textContent.includes('{text}')")
    shown = page.text()
    assert TOKEN not in shown


def test_open_log_shows_new_lines(page: Page) -> None:
    page.click("#log summary")
    page.wait("document.getElementById('log').textContent.includes('daemon ready')")
    muted = "document.querySelector('#log pre').textContent.split('speaker: muted').length"
    before = page.run(muted)
    page.click("#mute-speaker")
    page.wait(f"{muted} > {before}")
    page.click("#mute-speaker")
    page.wait("document.getElementById('mute-speaker').getAttribute('aria-pressed') === 'false'")


def test_every_control_has_a_name_and_is_reached_by_keyboard(page: Page) -> None:
    say(page, LONG)
    page.wait("document.querySelectorAll('#utterances li').length === 1")
    nodes = [node for node in page.accessible() if node["role"]["value"] in CONTROLS]
    assert len(nodes) >= 10
    assert [node["role"]["value"] for node in nodes if not node.get("name", {}).get("value")] == []
    assert any("Cancel: one two three" in node["name"]["value"] for node in nodes)
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.textContent"))
    assert {"logout", "hush", "volume", "mute-speaker", "text", "priority", "Cancel", "History"} <= set(reached)
    page.click("#hush")
    page.wait("document.querySelectorAll('#utterances li').length === 0")


def test_page_without_the_token_shows_the_state_only(browser: Chromium, url: str) -> None:
    with browser.page(390, 800) as page:
        page.open(f"{url}/")
        page.wait("document.getElementById('state').textContent !== ''")
        shown = page.run("[...document.querySelectorAll('section:not([hidden])')].map(section => section.id)")
        assert shown == ["login", "now", "health"]
        assert page.run("document.getElementById('hush').disabled")
        page.screenshot(PICTURES / "page-phone.png")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.errors == []
        page.type("#token", "wrong")
        page.press("Enter")
        page.wait("document.getElementById('login-error').textContent === 'the token is wrong'")


def test_turns_are_timelines_and_services_have_their_breakers(browser: Chromium) -> None:
    turns, failed = TurnLog(), ServiceState("fish", "speech", "failed", "HTTP 503", "open")
    devices = (DeviceState("microphone", "default", "ready"), DeviceState("speaker", "default", "lost", "unplugged"))
    with WebHarness(transcripts=True) as web, browser.page() as page:
        web.api.details = DetailReaders(
            queue=lambda with_texts: [],
            turns=turns.turns,
            levels=dict,
            log=list,
            metrics=str,
            config=SlowReader("configuration", list),
            checks=SlowReader("checks", list),
        )
        web.api.notify(Status("listening", "idle", volume=80, services=(failed,), devices=devices))
        page.open(f"http://127.0.0.1:{web.port}/")
        log_in(page)
        assert page.run("document.getElementById('services').innerText").split() == [
            "fish", "failed", "open", "HTTP", "503",
            "microphone", "ready", "–", "default",
            "speaker", "lost", "–", "unplugged",
        ]  # fmt: skip
        events: list[Notification] = [
            SpeechEnded(0.2),
            Heard("What time is it?"),
            Reply(1, "It is eight."),
            Status("speaking", "speaking", saying=CurrentUtterance("r1", "It is eight.", 0, "reply")),
            PlaybackStarted("r1"),
            Record(Utterance("r1", None, turn=1), "played"),
        ]
        for event in events:
            turns.update(event)
            web.api.notify(event)
        page.wait("document.querySelectorAll('#turn-rows tr').length === 1")
        page.wait("document.getElementById('heard').textContent === 'Heard: What time is it?'")
        assert "What time is it? → It is eight." in page.text()
        assert page.run("document.querySelectorAll('#turn-rows .time i').length") >= 1
        page.screenshot(PICTURES / "page-turns.png")
        assert page.errors == []


def test_timers_are_listed_with_what_remains_and_cancelled(browser: Chromium) -> None:
    with WebHarness(transcripts=True) as web, browser.page() as page:
        timers = Timers(machine_clock(), lambda timers, changes: web.api.notify(TimersChanged(timers, changes)))
        control = DeviceControl(web.events.put, timers, lambda timers, done: done(True), lambda: 50)
        web.api.device_control = lambda: control
        page.open(f"http://127.0.0.1:{web.port}/")
        log_in(page)
        page.wait("document.getElementById('timers').innerText.includes('No timer is set.')")
        timers.start(3600.0, "tea")
        timers.pause(timers.start(90.0).number)
        page.wait("document.querySelectorAll('#timer-lines li').length === 2")
        page.wait("document.getElementById('timer-lines').innerText.includes('0:01:30 paused')")
        page.wait("/tea\\s+0:5\\d:\\d\\d/.test(document.getElementById('timer-lines').innerText)")  # it counts down
        page.click("[aria-label='Cancel: tea']")
        page.wait("document.querySelectorAll('#timer-lines li').length === 1")
        page.click("[aria-label='Cancel: Timer 2']")
        page.wait("document.getElementById('timers').innerText.includes('No timer is set.')")
        assert timers.all == () and page.errors == []
        web.api.device_control = lambda: None
        page.run("showTimers()")
        page.wait("document.getElementById('timers').hidden")


def test_page_and_kiosk_connect_after_their_event_stream_was_refused(browser: Chromium) -> None:
    event = Record(Utterance("welcome-1", "Welcome.", source="web"), "played")
    for path, is_connected in (
        ("/", "document.getElementById('link').textContent === 'connected'"),
        ("/app/kiosk.html", "document.querySelectorAll('li').length > 0"),
    ):
        with WebHarness(directory=str(ROOT / "examples")) as web, browser.page() as page:
            streams = [web.stream() for _ in range(MAX_STREAMS)]
            page.open(f"http://127.0.0.1:{web.port}{path}")
            page.wait_for_error("503")
            assert not page.run(is_connected)
            for stream in streams:
                stream.close()
            page.wait(is_connected, lambda web=web: web.api.notify(event))


def test_kiosk_speaks_three_announcements_of_different_priority(browser: Chromium, url: str) -> None:
    script = (ROOT / "examples" / "kiosk.html").read_text().partition("<script>")[2].partition("</script>")[0]
    assert len([line for line in script.splitlines() if line.strip()]) <= 21  # 20 lines besides "use strict"
    with browser.page() as page:
        page.open(f"{url}/")
        log_in(page)
        page.open(f"{url}/app/kiosk.html")
        for priority, state in (("notification", "played"), ("message", "started")):
            page.click(f"[data-priority={priority}]")
            page.wait(f"document.body.innerText.includes('{priority} {state}')")
        page.click("[data-priority=notification]")
        page.wait("document.body.innerText.includes('notification dropped')")
        page.click("[data-priority=important]")
        page.wait("document.body.innerText.includes('message played')")
        page.screenshot(PICTURES / "kiosk.png")
        ends = [line for line in lines(page) if line.rpartition(" ")[2] in ("played", "dropped", "cancelled", "failed")]
        assert ends == ["notification played", "notification dropped", "important played", "message played"]
        assert page.errors == []


def lines(page: Page) -> list[str]:
    texts: list[str] = page.run("[...document.querySelectorAll('li')].map(line => line.textContent)")
    return texts
