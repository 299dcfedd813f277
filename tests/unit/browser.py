"""A headless Chromium, driven over its debugging pipe: no server, no port, no other package.

For tests of pages and for the screenshots of ``docs/screenshots.py``. Commands and events are
those of the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No names are resolved but loopback's, so nothing can leave the machine.
OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--disable-default-apps", "--mute-audio", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def binary() -> str | None:
    """The browser of this machine, if it has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser of its own, with a fresh profile; use it in a ``with`` statement.

    ``requests`` collects the address of everything the page asked for, ``errors`` what its console
    complained about. Raises ``RuntimeError`` if the browser ends or refuses a command,
    ``TimeoutError`` if it does not answer within ``patience`` seconds.
    """

    def __init__(self, *, patience: float = 900.0) -> None:
        self.patience = patience
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._number = 0
        self._rest = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        path = binary()
        assert path, f"none of {', '.join(NAMES)} is installed"
        # A root user has no sandbox to be put into.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = [*OPTIONS, *root, f"--user-data-dir={self._profile.name}", "about:blank"]
        # The browser reads commands from descriptor 3 and writes to 4.
        swap = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", swap, path, *options],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._session = ""
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    # ---- what a page is asked

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Width and height of the page in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._events.clear()
        told = self.send("Page.navigate", url=address)
        if "errorText" in told:
            raise RuntimeError(f"{address}: {told['errorText']}")
        self._until(lambda event: event["method"] == "Page.loadEventFired", address)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page (awaited, JSON)."""
        told = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            raise RuntimeError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The first true value of an expression."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            if value := self.ask(expression):
                return value
            time.sleep(0.2)
        raise TimeoutError(f"never true: {expression}")

    def click(self, selector: str) -> None:
        """Click the middle of the first element that a CSS selector finds, as a mouse does."""
        place = self.ask(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.scrollIntoView({block: 'center', inline: 'center'});"
            " const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, **where)

    def screenshot(self, path: Path, **clip: float) -> None:
        """What the page shows as a PNG; ``clip``: x, y, width, height in CSS pixels."""
        part = {"clip": {**clip, "scale": 1}} if clip else {}
        told = self.send("Page.captureScreenshot", format="png", **part)
        path.write_bytes(base64.b64decode(told["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        told = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        path.write_bytes(base64.b64decode(told["data"]))

    # ---- the pipe

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        number = self._number
        command: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + self.patience
        while True:
            message = self._message(end, method)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])

    def _until(self, fits: Any, what: str) -> None:
        end = time.monotonic() + self.patience
        while not any(map(fits, self._events)):
            self._message(end, what)

    def _message(self, end: float, what: str) -> dict[str, Any]:
        """The next message; an event is remembered."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the browser did not answer: {what}")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError(f"the browser ended: {what}")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self._note(message)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        told = event["params"]
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event["method"] == "Log.entryAdded":
            self.errors.append(told["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(told["exceptionDetails"]["text"])
