"""Training metrics as files, and their mirror in MLflow.

Files come first: a stage appends to ``metrics.jsonl`` and never talks to a tracker. ``spct sync``
copies what a run has left (read by :mod:`spct.mirror`) to MLflow, as often as liked: its runs are
found by the tag ``spct.key``, and one whose files are unchanged is left alone. Without a tracker it
says so in its marker file and succeeds. Importing this module imports neither torch nor mlflow.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spct import artifact
from spct.mirror_run import digest, safe

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from spct.mirror_run import Mirror

_log = logging.getLogger(__name__)
DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "spct"
MARKER = "tracked.json"
# Tells MLflow's UI that these are training runs, not an agent's traces.
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}
KEY, CONTENT, RUN = "spct.key", "spct.content", "spct.run"
NAMES = "names.json"  # the artifact with the names that MLflow does not take, by those it is given
# MLflow's limits for one log_batch call and for values.
_METRICS_A_BATCH, _PARAMS_A_BATCH, _PARAM_LENGTH, _TAG_LENGTH = 1000, 100, 6000, 8000
# A dead server costs seconds, not MLflow's default of many minutes.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MetricsLog:
    """Append-only ``metrics.jsonl``: a line ``{"step": …, name: value, …}`` for each write.

    Log nothing that differs between equal runs (seconds, memory): the file is part of an artefact
    whose content is hashed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line and flush it; values that are not finite are dropped with a warning."""
        kept: dict[str, float] = {"step": int(step)}
        for name, value in values.items():
            number = float(value)
            if math.isfinite(number):
                kept[name] = number
            else:
                _log.warning("%s: step %d: %s is %s, left out", self.path, step, name, number)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(kept) + "\n")

    def truncate(self, step: int) -> None:
        """Drop the lines of ``step`` and later, and a line cut short by a kill: for resuming."""
        if not self.path.exists():
            return
        kept = [entry for entry in read_metrics(self.path) if entry["step"] < step]
        artifact.write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl; a last line cut short is left out.

    Raises :class:`spct.artifact.BrokenArtifact` for a missing file or another broken line.
    """
    if not path.is_file():
        raise artifact.BrokenArtifact(f"{path} is missing; run the stage that writes it")
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(dict(json.loads(line)))
        except ValueError as error:
            if number < len(lines):
                raise artifact.BrokenArtifact(f"{path}: line {number} is not JSON") from error
    return entries


# ---- where to look -----------------------------------------------------------------------------


def tracking_uri(configured: str = "") -> str:
    """The tracker: ``MLFLOW_TRACKING_URI``, else the configured URI, else a local SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or configured or DEFAULT_URI


def without_password(uri: str) -> str:
    """The URI without credentials, fit to print."""
    return re.sub(r"(?<=://)[^/@]+@", "", uri)


# ---- mirroring ---------------------------------------------------------------------------------


def sync(
    run: str,
    *,
    results: Path = Path("results"),
    reports: Path = Path("reports"),
    uri: str = "",
    experiment: str = DEFAULT_EXPERIMENT,
) -> dict[str, Any]:
    """Mirror a run's files to MLflow and say what happened (the content of the marker file).

    A tracker that cannot be reached or fails is no error: ``synced`` is then false with the
    ``reason``. Raises :class:`spct.artifact.BrokenArtifact` if the run's own files are broken.
    """
    from spct.mirror import collect
    from spct.mirror_curves import view

    parent, children = collect(run, results, reports)
    shown = view(results / run)
    uri = tracking_uri(uri)
    told = {"run": run, "uri": without_password(uri), "experiment": experiment}
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        counts = _push(run, parent, children, shown, uri, experiment)
    # Whatever a tracker, its database driver or the network raises must not fail a finished run.
    except Exception as error:
        reason = without_password(f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
        _log.warning("not mirrored to MLflow at %s: %s", told["uri"], reason)
        return {**told, "synced": False, "reason": reason}
    return {**told, "synced": True, **counts}


def _push(
    run: str, parent: Mirror, children: Sequence[Mirror], shown: str, uri: str, experiment: str
) -> dict[str, Any]:
    """Bring MLflow to the state of the mirrors and of the saved view, the text ``shown``.

    Returns the number of runs written and left alone.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    from spct.mirror_curves import VIEW_TAG

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    where = (
        found.experiment_id if found else client.create_experiment(experiment, tags=TRAINING_VIEW)
    )
    known = _known(client, where, run)
    commit = _git_commit()
    common = {RUN: run, **({"mlflow.source.git.commit": commit} if commit else {})}
    parent_id, fresh = _write(client, where, parent, common, known, keep=True)
    written = int(fresh)
    for child in children:
        below = {"mlflow.parentRunId": parent_id} if child.nested else {}
        written += _write(client, where, child, {**common, **below}, known)[1]
    if shown and (found is None or found.tags.get(VIEW_TAG) != shown):
        client.set_experiment_tag(where, VIEW_TAG, shown)
    total = 1 + len(children)
    return {"run_id": parent_id, "written": written, "unchanged": total - written}


def _known(client: MlflowClient, experiment_id: str, run: str) -> dict[str, Any]:
    """The MLflow runs of our run, by key."""
    known: dict[str, Any] = {}
    token = None
    # A quote cannot be escaped in MLflow's filter language: any character may stand for it.
    asked = f"LIKE '{run.replace(chr(39), '_')}'" if "'" in run else f"= '{run}'"
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`{RUN}` {asked}", max_results=1000, page_token=token
        )
        tagged = [entry for entry in page if entry.data.tags[RUN] == run]
        known |= {entry.data.tags[KEY]: entry for entry in tagged if KEY in entry.data.tags}
        token = page.token
        if not token:
            return known


def _write(
    client: MlflowClient,
    experiment_id: str,
    mirror: Mirror,
    tags: Mapping[str, str],
    known: Mapping[str, Any],
    *,
    keep: bool = False,
) -> tuple[str, bool]:
    """Id of the MLflow run that shows this mirror, and whether anything was written.

    A run with other content is deleted and written anew, since metrics cannot be replaced; with
    ``keep`` (the parent, which has none) its tags and artifacts are overwritten.
    """
    old, names = known.get(mirror.key), _renamed(mirror)
    content = digest([mirror.content, *names]) if names else mirror.content
    if old is not None and old.data.tags.get(CONTENT) == content:
        if old.data.tags.get("mlflow.parentRunId") != tags.get("mlflow.parentRunId"):
            client.set_tag(old.info.run_id, "mlflow.parentRunId", tags["mlflow.parentRunId"])
        return old.info.run_id, False
    if old is not None and not keep:
        client.delete_run(old.info.run_id)
        old = None
    if old is None:
        every = {safe(name): value[:_TAG_LENGTH] for name, value in mirror.tags.items()}
        every |= {**tags, KEY: mirror.key}
        new = client.create_run(experiment_id, mirror.time_ms, every, mirror.name)
        run_id = new.info.run_id
        _log_params(client, run_id, mirror.params)
    else:
        run_id = old.info.run_id
    _log_metrics(client, run_id, mirror)
    for path, folder in mirror.artifacts:
        client.log_artifact(run_id, str(path), folder)
    for name, text in mirror.texts:
        client.log_text(run_id, text, name)
    if names:
        client.log_text(run_id, json.dumps(names, indent=1), NAMES)
    # The last word: a sync that was cut short leaves no content tag and is written again.
    client.set_tag(run_id, CONTENT, content)
    client.set_terminated(run_id, "FINISHED", mirror.time_ms)
    return run_id, True


def _renamed(mirror: Mirror) -> dict[str, str]:
    """The names of a mirror that MLflow does not take as they are, by those that it is given."""
    named = [*(name for name, _, _ in mirror.metrics), *mirror.params, *mirror.tags]
    return {shown: name for name in named if (shown := safe(name)) != name}


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    entries = [Param(safe(name), str(value)[:_PARAM_LENGTH]) for name, value in params.items()]
    for start in range(0, len(entries), _PARAMS_A_BATCH):
        client.log_batch(run_id, params=entries[start : start + _PARAMS_A_BATCH])


def _log_metrics(client: MlflowClient, run_id: str, mirror: Mirror) -> None:
    from mlflow.entities import Metric

    entries = [
        Metric(safe(name), value, mirror.time_ms, step) for name, value, step in mirror.metrics
    ]
    for start in range(0, len(entries), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=entries[start : start + _METRICS_A_BATCH])


def _git_commit() -> str:
    """The commit of the working directory; empty outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def sync_cli(argv: Sequence[str]) -> int:
    """``spct sync --run RUN``: mirror to MLflow, write the marker, say where to look; 0."""
    parser = argparse.ArgumentParser(prog="spct sync", description="mirror a run's files to MLflow")
    parser.add_argument("--run", required=True, help="folder below results/")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--out", type=Path, help="marker (default: RESULTS/RUN/tracked.json)")
    parser.add_argument(
        "--uri", help="tracker (default: the configuration's; the environment wins)"
    )
    parser.add_argument("--experiment", help="MLflow experiment (default: the configuration's)")
    args = parser.parse_args(argv)
    from spct import closing
    from spct.mirror import configured

    folder = args.results / args.run
    uri, experiment = configured(folder)
    told = sync(
        args.run,
        results=args.results,
        reports=args.reports,
        uri=args.uri or uri,
        experiment=args.experiment or experiment or DEFAULT_EXPERIMENT,
    )
    artifact.write_json(args.out or folder / MARKER, told)
    print(*closing.lines(told, args.reports), sep="\n")
    return 0
