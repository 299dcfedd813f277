"""SIGTERM ends a stage that samples at once; its finished parts stand and are not sampled again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spct import __main__ as command
from spct import artifact
from spct.records import write_items

STOPS_IN_THE_THIRD_PART = """
import signal, sys
from spct.__main__ import main
from spct.sampling.native import NativeSampler

sample, parts = NativeSampler.sample, []

def held(self, requests):
    parts.append(requests)
    if len(parts) == 3:
        print("sampling", flush=True)
        signal.pause()
    return sample(self, requests)

NativeSampler.sample = held
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.medium
def test_a_sampler_asked_to_end_keeps_its_parts(
    tmp_path: Path,
    tiny_folder: Path,
    make_items: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = tmp_path / "items.parquet"
    write_items(items, make_items("pair", 30))

    def words(out: Path) -> list[str]:
        return [
            "rollout", "model=toy_s", f"model.source={tiny_folder}", "sampler.max_new_tokens=40",
            "sampler.part_samples=6", "sampler.batch_size=6", "seed=3", f"io.items={items}",
            "io.shard=0", f"io.out={out}",
        ]  # fmt: skip

    out, quiet = tmp_path / "0.parquet", tmp_path / "quiet.parquet"
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS_IN_THE_THIRD_PART, *words(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "sampling\n"
    assert (tmp_path / "0.parquet.parts/1.parquet").exists()
    process.terminate()
    told = process.communicate()[1]
    assert process.returncode == -signal.SIGTERM, told  # 143, where a shell reports it
    assert not out.exists()
    capsys.readouterr()
    assert command.main(words(out)) == 0 and "part 1 stands" in capsys.readouterr().err
    assert command.main(words(quiet)) == 0
    assert artifact.content_hash(out) == artifact.content_hash(quiet)
