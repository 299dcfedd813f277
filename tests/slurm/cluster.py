"""A real Slurm of two nodes on one machine, without systemd, for as long as a test needs it.

It lies where Debian's packages look for it, because a job's ``srun`` sees no ``SLURM_CONF`` of
another place; so it starts only where no other Slurm or munge is, and takes all of it away again.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PACKAGES = ("apt-get", "install", "--yes", "--no-install-recommends", "slurm-wlm", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
DAEMONS = {"slurmctld", "slurmd", "slurmstepd", "slurmdbd", "munged"}
CONFIG = Path("/etc/slurm")
MUNGE = Path("/run/munge")
PARTITION = "main"  # the one the shipped profile names
GPUS = 2  # of each node, made up: devices like /dev/null, which Slurm counts and hands out
START_S, STOP_S = 900, 900
MARK = "# Written by a test of spct, which takes it away again.\n"
OURS = [CONFIG / "slurm.conf", CONFIG / "gres.conf"]


def missing() -> list[str]:
    """Programs of the packages that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name)]


def install() -> None:
    """Get the packages; their own start of services is not wanted and does nothing in a container.

    Raises ``CalledProcessError``.
    """
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    update = ("apt-get", "update", "--quiet")
    if subprocess.run(PACKAGES, env=env, check=False, capture_output=True).returncode:
        subprocess.run(update, env=env, check=True, capture_output=True)
        subprocess.run(PACKAGES, env=env, check=True, capture_output=True)


def obstacle() -> str:
    """Why no Slurm may be started here: there is one already, or no right to. Empty: it may.

    What an earlier test left, killed before it could clean up, is known by its first line.
    """
    if os.geteuid() != 0:
        return "only root can start Slurm and munge"
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in DAEMONS:
            return f"{process.info['name']} runs already (process {process.pid}), and is not ours"
    _sweep()
    folders = (CONFIG, Path("/etc/slurm-llnl"), Path("/usr/local/etc"))
    for path in (folder / "slurm.conf" for folder in folders):
        if path.exists():
            return f"{path} is there already, and not ours"
    if "SLURM_CONF" in os.environ:
        return "SLURM_CONF names a Slurm that is not ours"
    if MUNGE.exists():
        return f"{MUNGE} is there already, and not ours"
    return "" if CONFIG.is_dir() else f"this Slurm does not read its configuration from {CONFIG}"


def _sweep() -> None:
    """Take away what a killed test left; no daemon runs."""
    if OURS[0].exists() and OURS[0].read_text(encoding="utf-8").startswith(MARK):
        for path in OURS:
            path.unlink(missing_ok=True)
        shutil.rmtree(MUNGE, ignore_errors=True)


@dataclass
class Cluster:
    """The daemons of a running Slurm, and the folder with their logs and state."""

    folder: Path
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *words: str, user: str | None = None, log: str = "") -> None:
        with (self.folder / f"{log or name}.log").open("wb") as file:
            self.daemons.append(
                subprocess.Popen(
                    [name, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                    user=user, group=user, extra_groups=[] if user else None, cwd="/",
                )
            )  # fmt: skip

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's commands. Raises ``CalledProcessError``."""
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_S)
        return done.stdout

    def jobs(self, state: str = "all") -> dict[str, str]:
        """States by job number."""
        lines = self.ask("squeue", "--noheader", "--states", state, "--format", "%i %T")
        return dict(line.split() for line in lines.splitlines())

    def logs(self) -> str:
        """The ends of the daemons' logs, to tell why they do not answer."""
        ends = {p.name: p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.log")}
        return "\n".join(f"== {name}\n{text}" for name, text in ends.items())

    def wait(self) -> None:
        """Until both nodes take jobs. Raises ``TimeoutError`` with the logs."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            states = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format", "%T"], capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            if states.stdout.split() == ["idle", "idle"]:
                return
            time.sleep(0.2)
        raise TimeoutError(f"Slurm did not come up in {START_S} s\n{self.logs()}")

    def stop(self) -> None:
        """Cancel all jobs, then end the daemons and what they left."""
        subprocess.run(["scancel", "--user", "root"], check=False, capture_output=True)
        end = time.monotonic() + STOP_S
        while time.monotonic() < end and _steps():
            time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for step in _steps():  # none ran before, so they are of this Slurm
            step.kill()


def _steps() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["name"]) if p.info["name"] == "slurmstepd"]


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A Slurm that takes jobs; with the context it is gone, its configuration too.

    The caller has asked :func:`obstacle`. Raises ``TimeoutError`` if it does not come up.
    """
    cluster = Cluster(folder)
    texts = [
        configuration(folder, *_free_ports(3)),
        f"NodeName={','.join(nodes())} Name=gpu File={_cards(folder)}\n",
    ]
    written: list[Path] = []
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("SIGTERM"))
    try:
        for path, text in zip(OURS, texts, strict=True):
            with path.open("x", encoding="utf-8") as handle:  # never over another's
                written.append(path)
                handle.write(MARK + text)
        MUNGE.mkdir(mode=0o755)
        shutil.chown(MUNGE, "munge", "munge")
        cluster.start("munged", "--foreground", "--force", user="munge")
        _wait_for(MUNGE / "munge.socket.2", cluster)
        cluster.start("slurmctld", "-D", "-i")
        for node in nodes():
            cluster.start("slurmd", "-D", "-N", node, log=node)
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()
        for path in written:
            path.unlink()
        shutil.rmtree(MUNGE, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def nodes() -> tuple[str, str]:
    """Both are this machine; the first has its name, so that processes find each other by it."""
    host = socket.gethostname().partition(".")[0]
    return host, f"{host}-too"


def configuration(folder: Path, control: int, *work: int) -> str:
    """``slurm.conf``: accounting off, no cgroups, memory and GPUs as the profile asks for them.

    ``control`` and ``work`` are the ports of slurmctld and of each node's slurmd.
    """
    (folder / "state").mkdir()
    for name in nodes():
        (folder / f"spool-{name}").mkdir()
    node = nodes()[0]
    shape = f"NodeAddr=127.0.0.1 CPUs=8 RealMemory=200000 Gres=gpu:{GPUS}"
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={node}(127.0.0.1)",
        f"SlurmctldPort={control}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=2",
        "MpiDefault=none",
        "ReturnToService=2",
        "MinJobAge=86400",  # tests ask for jobs long done
        "KillWait=20",
        "GresTypes=gpu",
        "SlurmdParameters=config_overrides",  # believe the next line, not the machine
        *(
            f"NodeName={name} NodeHostname={node} Port={port} {shape}"
            for name, port in zip(nodes(), work, strict=True)
        ),
        f"PartitionName={PARTITION} Nodes={','.join(nodes())} Default=YES State=UP",
    ]
    return "\n".join(lines) + "\n"


def _cards(folder: Path) -> str:
    for number in range(GPUS):
        os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))  # /dev/null
    return f"{folder}/gpu[0-{GPUS - 1}]"


def _free_ports(count: int) -> Sequence[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(path: Path, cluster: Cluster) -> None:
    end = time.monotonic() + START_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear\n{cluster.logs()}")
        time.sleep(0.1)
