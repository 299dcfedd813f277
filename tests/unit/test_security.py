"""What must not be in the code: pickles, remote code, open ports, public temporary files."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from spct import lm
from spct.config import ConfigError, load
from spct.sampling.apart import _private_file
from spct.schema import ModelConfig

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/spct").rglob("*.py"))
PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with the dotted name of what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def given(call: ast.Call, name: str) -> object:
    """A keyword of a call, if it is a constant."""
    values = (word.value for word in call.keywords if word.arg == name)
    return next((value.value for value in values if isinstance(value, ast.Constant)), None)


def test_nothing_is_unpickled() -> None:
    """``torch.load`` takes plain tensors and containers alone; weights are safetensors."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not PICKLES & {name.split(".")[0] for name in names}, path
        for name, call in calls(path):
            if name == "torch.load":
                assert given(call, "weights_only") is True, path
            assert name not in ("yaml.load", "yaml.unsafe_load", "np.load", "numpy.load"), path
            if re.search(r"AutoModel\w*\.from_pretrained$", name) and path.name != "gguf.py":
                assert given(call, "use_safetensors") is True, path


def test_remote_code_only_if_asked_by_name() -> None:
    for path in sorted((ROOT / "conf/model").glob("*.yaml")):
        shipped = yaml.safe_load(path.read_text(encoding="utf-8"))
        shipped = shipped.get("model", shipped)
        assert shipped["trust_remote_code"] is False, path
    for asked in (False, True):
        config = ModelConfig("m", "a/b", None, "float32", asked)
        assert lm.options(config)["trust_remote_code"] is asked
    for path in SOURCES:
        for _, call in calls(path):
            assert given(call, "trust_remote_code") is not True, path


def test_nothing_listens_beyond_this_machine() -> None:
    places = (ROOT / "src/spct", ROOT / "workflow", ROOT / "profiles", ROOT / "Makefile")
    files = [place for place in places if place.is_file()]
    files += [path for place in places for path in place.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in (".py", ".smk", ".yaml", "") and path.stat().st_size < 1_000_000:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert "0.0.0.0" not in text and "--host" not in text, path


def test_temporary_files_are_this_users_alone(tmp_path: Path) -> None:
    """``tempfile`` makes them of mode 0700 and 0600; names that others can guess are not used."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "mktemp" not in text.replace("mkdtemp", ""), path
        assert not re.search(r"""["']/(tmp|var/tmp|dev/shm/)\b""", text), path
    with tempfile.TemporaryDirectory(dir=tmp_path) as aside:
        assert Path(aside).stat().st_mode & 0o077 == 0
    with _private_file(100) as shared:
        assert Path(shared).stat().st_mode & 0o077 == 0
    assert not Path(shared).exists()


@pytest.mark.parametrize("uri", ["https://me:hunter2@host/x", "postgresql://me@host/db"])
def test_a_tracker_with_a_password_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as error:
        load(["experiment=smoke", f"tracking.uri='{uri}'"])
    assert "hunter2" not in str(error.value)
    load(["experiment=smoke", "tracking.uri='https://host:5000/a@b'"])
