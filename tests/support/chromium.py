"""A headless Chromium that a test drives over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websocket

from agent.system.threads import Deadline
from support.processes import Stream

SECONDS = 60.0


class Chromium:
    """One browser with one page at a time."""

    def __init__(self) -> None:
        program = shutil.which("chromium")
        assert program is not None, "chromium is missing: scripts/test installs it"
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        # --no-sandbox: the tests run as root, where Chromium refuses to start with its sandbox.
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-default-browser-check", "--remote-debugging-port=0", "--remote-allow-origins=*",
            f"--user-data-dir={self._profile}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        self._stderr = Stream(self._process.stderr)  # reads it all the time, so that the browser never waits
        self._browser = self._address()

    def _address(self) -> str:
        """Return the address at which the browser listens, which it writes to stderr."""
        self._stderr.await_text("DevTools listening on ", "/devtools/browser/")
        match = re.search(rb"DevTools listening on (ws://\S+)\s", self._stderr.data)
        assert match is not None, self._stderr.data
        return match[1].decode()

    def page(self, width: int = 1200, height: int = 900) -> Page:
        """Open an empty page in a context without cookies."""
        return Page(self._browser, width, height)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        self._stderr.whole()  # ends with the last process of the browser: none writes into the profile any more
        shutil.rmtree(self._profile)


class Page:
    """A page. ``errors`` holds the errors of its console, and every violation of its policy."""

    def __init__(self, browser: str, width: int, height: int) -> None:
        self.errors: list[str] = []
        self._socket = websocket.create_connection(browser, timeout=SECONDS)
        self._ids = itertools.count(1)
        self._session: str | None = None
        self._context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.command(f"{domain}.enable")
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exception: object) -> None:
        self._session = None
        self.command("Target.disposeBrowserContext", browserContextId=self._context)
        self._socket.close()

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        match event:
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.errors.append(str(details.get("exception", details).get("description", details)))
            case {"method": "Log.entryAdded", "params": {"entry": {"level": "error" | "warning", **entry}}}:
                self.errors.append(f"{entry.get('text')} {entry.get('url', '')}")
            case {"method": "Runtime.consoleAPICalled", "params": {"type": "error" | "warning", "args": arguments}}:
                self.errors.append(json.dumps(arguments))

    def open(self, url: str) -> None:
        """Load a page. The event of a complete load never comes while a stream is open, so the document counts."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Evaluate an expression and return its value."""
        result = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str, cause: Callable[[], object] = lambda: None) -> None:
        """Wait until an expression is true. Each round calls ``cause``, and then waits in the browser for the next
        change of the document."""
        script = f"""new Promise(resolve => {{
            const timer = setTimeout(() => end(false), 2000);
            const observer = new MutationObserver(() => {{ if ({condition}) end(true); }});
            const end = value => {{ observer.disconnect(); clearTimeout(timer); resolve(value); }};
            observer.observe(document, {{subtree: true, childList: true, attributes: true, characterData: true}});
            if ({condition}) end(true);
        }})"""
        deadline = Deadline(SECONDS)
        cause()
        while not self.run(script):
            cause()
            assert not deadline.is_expired, f"{condition} did not come: {self.errors} {self.text()[:3000]}"

    def wait_for_error(self, text: str) -> None:
        """Wait for an expected error of the console, and forget it."""
        deadline = Deadline(SECONDS)
        while not any(text in error for error in self.errors):
            assert not deadline.is_expired, f"{text} did not come: {self.errors}"
            self._note(json.loads(self._socket.recv()))
        self.errors.clear()

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def click(self, selector: str) -> None:
        """Click into the middle of an element, as a user does."""
        x, y = self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            " element.scrollIntoView({block: 'center'}); const box = element.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Type a text into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.command("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press one key, such as Tab or Enter."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text
            )

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark`` pages."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def accessible(self) -> list[dict[str, Any]]:
        """The nodes of the accessibility tree that are not ignored."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def screenshot(self, file: Path) -> None:
        """Write a picture of the whole page."""
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))
