"""Make the pictures of docs/mlflow.md: ``make screenshots``, after a finished run of ``tiny``.

The run is mirrored into a tracker of its own, in a new folder, and shown by a real MLflow server
on this machine's loopback, so nothing of other runs and no path of this machine can be seen.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from browser import Browser
from PIL import Image

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1400, 900
PATIENCE = 600.0  # the server answers late on a busy machine
CLOSED = {
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}
# Floating parts that hide what is shown.
COVERING = "[aria-label*='ssistant'], .modebar-container"


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """An MLflow server over ``folder``/mlflow.db; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db"),
        *("--artifacts-destination", "artifacts"),
    ]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=folder, **silent)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + PATIENCE
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the MLflow server did not start")
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def mirrored(run: str, address: str) -> str:
    """Mirror a run through the server; where its parent lies: experiment/runs/id.

    Through the server the place of an artifact is no path.
    """
    from mlflow import MlflowClient

    os.environ |= {
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(PATIENCE)),
    }
    with tempfile.TemporaryDirectory() as folder:
        words = ["--run", run, "--experiment", "spct", "--out", f"{folder}/tracked.json"]
        subprocess.run([sys.executable, "-m", "spct", "sync", *words], check=True)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("spct")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`spct.stage` = 'run'")
    return f"{experiment.experiment_id}/runs/{parent.info.run_id}"


def take(browser: Browser, address: str, name: str, ready: str, *, pause: float = 6.0) -> None:
    """Open a page of the server, wait until ``ready`` is true, and keep what is seen."""
    browser.open("about:blank")  # else an address that differs after its # is not loaded again
    browser.open(address)
    browser.wait(ready)
    time.sleep(pause)  # charts draw themselves after their data came
    browser.ask(f"document.querySelectorAll({COVERING!r}).forEach(e => e.remove())")
    shown = str(browser.ask("document.body.innerText"))
    if any(str(place) in shown for place in (DOCS.parent, Path.home(), tempfile.gettempdir())):
        raise RuntimeError(f"{name}: a path of this machine is on the page")
    path = DOCS / f"mlflow-{name}.png"
    browser.screenshot(path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.name}  {path.stat().st_size:,} bytes")


def main(run: str = "tiny") -> None:
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address:
        parent = mirrored(run, address)
        experiment = parent.partition("/")[0]
        with Browser(patience=PATIENCE) as browser:
            browser.size(WIDTH, HEIGHT)
            browser.open(address)
            browser.wait("Object.keys(localStorage).length > 2")
            for name, value in CLOSED.items():
                browser.ask(f"localStorage.setItem({name!r}, {value!r})")
            runs = f"{address}/#/experiments/{experiment}/runs?viewStateShareKey=scaling"
            drawn = "document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length > 20"
            named = f"document.body.innerText.includes('{run}: GRPO')"
            take(browser, f"{runs}&compareRunsMode=CHART", "scaling", drawn)
            take(browser, f"{runs}&compareRunsMode=TABLE", "runs", named)
            table = f"{address}/#/experiments/{parent}/artifacts/tables/curves.csv"
            take(browser, table, "tables", "document.body.innerText.includes('toy_best_of_4')")


if __name__ == "__main__":
    main(*sys.argv[1:])
