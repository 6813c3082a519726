"""Debian's chromium without a window, driven through its pipe: pages opened, scripts run in them, screenshots taken."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT_S = 60.0
# The browser's pipe is at the numbers 3 and 4.
_START = (
    "import os, sys; [os.dup2(int(sys.argv[place]), place + 2) for place in (1, 2)]; "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Chromium:
    """A browser's process, by its pipe."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._number = to, back, b"", 0

    def send(self, message: dict[str, Any]) -> int:
        """Send one command of the browser's protocol; its number."""
        self._number += 1
        os.write(self._to, json.dumps({"id": self._number, **message}).encode() + b"\0")
        return self._number

    def receive(self, end: float) -> dict[str, Any]:
        """The next answer or event."""
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], max(end - time.monotonic(), 0))[0], "the browser says nothing"
            part = os.read(self._back, 1 << 20)
            if not part:
                pytest.skip("the browser does not start here")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Browser:
    """One page of a browser, which knows of no other's cookies and storage.

    Attributes:
        requests: the URLs that the page has asked for, in order.
        console: what was written to the console, faults of scripts and refusals of the page's policy among it.
    """

    def __init__(self, chromium: Chromium) -> None:
        self._chromium, self._session = chromium, ""
        self.requests: list[str] = []
        self.console: list[str] = []
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the browser's protocol and wait for its result."""
        session = {"sessionId": self._session} if self._session else {}
        number = self._chromium.send({"method": method, "params": parameters, **session})
        end = time.monotonic() + LIMIT_S
        while True:
            found = self._chromium.receive(end)
            if found.get("id") == number:
                assert "error" not in found, found["error"]
                result: dict[str, Any] = found["result"]
                return result
            if found.get("sessionId") == self._session:
                self._note(found)

    def open(self, url: str, *, width: int = 1000, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of this size."""
        phone = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=url)
        self.run("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited; a fault in it fails the test."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + LIMIT_S
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def press(self, key: str, code: int, *, control: bool = False) -> None:
        """Press a key of the keyboard."""
        text = {"text": "\r"} if key == "Enter" and not control else {"text": " "} if key == " " else {}
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code="Space" if key == " " else key,
                windowsVirtualKeyCode=code,
                modifiers=2 if control else 0,
                **(text if kind == "keyDown" else {}),
            )

    def save_screenshot(self, path: Path) -> None:
        """Write what the whole page looks like, as PNG."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        said = event.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        if said and told.get("entry", {}).get("level") != "verbose":  # that is advice on style
            self.console.append(json.dumps(told)[:500])


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Chromium]:
    """A browser that writes to this folder alone; the test is skipped where none starts."""
    if CHROMIUM is None or os.name != "posix":
        pytest.skip("needs chromium")
    into, to = os.pipe()
    back, out = os.pipe()
    words = (
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank"),
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(into), str(out), *words],
        pass_fds=(into, out),
        env={**os.environ, "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(into)
    os.close(out)
    try:
        yield Chromium(to, back)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
        os.close(to)
        os.close(back)
