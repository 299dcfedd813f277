"""Runs: which experiments, under which names, and in whose folder each piece of work lives.

A *run* is an experiment, perhaps with overrides; its name is its folder under ``results/``. A piece
of work (:class:`Node`) lives in the first run of its base chain in which its slice and everything
upstream of it are equal, so an ablation computes only what differs. The Snakefile asks this module
for every path that is not a plain pattern. Torch is never imported.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from spct import artifact, models, sets
from spct.baselines.rows import STOCK
from spct.config import TEMPLATE_HASH, ConfigError, dump, view
from spct.judge import prompts
from spct.names import expand, named, normalise, run_name
from spct.nodes import Node, Run, load_run
from spct.sets import Member, RunSet
from spct.stages import STAGES


class Runs:
    """All runs asked for (``targets``) and their bases, composed and checked at once.

    Raises :class:`ConfigError` naming the experiment and the key that is wrong.
    """

    def __init__(self, experiments: str | Sequence[str], overrides: str | Sequence[str] = ()):
        common = normalise(overrides)
        names = [experiments] if isinstance(experiments, str) else list(experiments)
        self.runs: dict[str, Run] = {}
        self.targets: list[str] = []
        self.sets: dict[str, tuple[RunSet, list[str]]] = {}  # and its members' runs, in order
        self._prints: dict[tuple[str, Node], str] = {}
        for name in map(str, names):
            asked = [
                self._add(experiment, normalise([*common, *words])).name
                for experiment, words in expand(name)
            ]
            self.targets = list(dict.fromkeys([*self.targets, *asked]))
            if (found := sets.read(name)) is not None:
                self.sets[run_name(name, common)] = found, asked

    def _add(self, experiment: str, overrides: tuple[str, ...], below: tuple[str, ...] = ()) -> Run:
        """Add a run and its chain: the plain bases, the bases overridden alike, and itself."""
        name = run_name(experiment, overrides)
        if name in below:
            raise ConfigError(f"experiment {experiment!r}: base leads back to itself")
        if name in self.runs:
            return self.runs[name]
        run = Run(name, experiment, overrides, load_run(experiment, overrides))
        for size in run.sizes:
            run.at(size)
        below = (*below, name)
        if name == experiment:
            older = self._add(run.cfg.base, overrides, below).chain if run.cfg.base else ()
        else:
            plain = tuple(text for text in overrides if text not in named(overrides))
            older = self._add(experiment, plain, below).chain
            # An override may suit an ablation and be wrong for its base.
            with suppress(ConfigError):
                older += self._add(run.cfg.base, overrides, below).chain if run.cfg.base else ()
        run.chain = tuple(dict.fromkeys([*older, name]))
        self.runs[name] = run
        return run

    # ---- sharing

    def upstream(self, run: str, node: Node) -> list[Node]:
        """What a piece of work reads, directly."""
        plan = self.runs[run].cfg.plan
        prepare, bench, size = Node("prepare"), self._bench(run), node.size
        if node.stage in ("audit", "rollout", "recast"):
            return [prepare]
        if node.stage == "select":
            return [prepare, Node("rollout", size)]
        if node.stage == "rft":
            return [prepare, Node("select", size)]
        if node.stage in ("grpo", "baseline"):  # the paper's baselines learn from the data of RL
            filtered = [Node("difficulty")] if plan.weak else []
            init = self.policy(run, self.start(run), size) if node.stage == "grpo" else []
            return [prepare, *filtered, *init]
        if node.stage == "difficulty":
            return [prepare, *([Node("rollout", plan.weak)] if plan.weak else [])]
        if node.stage == "rollout_policy":
            return [prepare, *self._tuned(run, size)]
        if node.stage == "metarm":
            return [prepare, *self._trajectories(run)]
        if node.stage == "judge":
            return [bench, *self.policy(run, node.policy, size)]
        if node.stage == "score":
            return [Node("judge", size, node.policy), Node("metarm", plan.metarm)]
        if node.stage == "baseline_score":
            return [bench, *self._fitted(node)]
        if node.stage == "token_prob":
            return [Node("judge", size, node.policy)]
        return []

    def _bench(self, run: str) -> Node:
        """What makes the benchmark items that the run judges."""
        return Node("recast" if self.runs[run].cfg.recast.form else "prepare")

    def start(self, run: str) -> str:
        """The policy GRPO starts from."""
        return "rft" if "rft" in self.runs[run].cfg.plan.policies else "base"

    def _tuned(self, run: str, size: str) -> list[Node]:
        policies = self.runs[run].cfg.plan.policies
        return list(itertools.chain(*(self.policy(run, name, size) for name in policies)))

    def _trajectories(self, run: str) -> list[Node]:
        """The banks the meta RM learns from, at the main size."""
        main = self.runs[run].cfg.plan.main
        fresh = [Node("rollout_policy", main)] if self._tuned(run, main) else []
        return [Node("rollout", main), *fresh]

    def _fitted(self, scores: Node) -> list[Node]:
        """The work that makes a baseline: none for one that comes trained."""
        known = scores.policy != STOCK
        return [Node("baseline", scores.size, scores.policy)] if known else []

    def policy(self, run: str, policy: str, size: str) -> list[Node]:
        """The work that makes a policy's model: none for the base."""
        return [] if policy == "base" else [Node(policy, size)]

    def _print(self, run: str, node: Node) -> str:
        """A fingerprint of the node's slice and of everything upstream."""
        if (run, node) not in self._prints:
            above = [self._print(run, other) for other in self.upstream(run, node)]
            slice_ = self.slice(run, node.stage, self._composed(run, node))
            text = dump([str(node), slice_, above])
            self._prints[run, node] = hashlib.sha256(text.encode()).hexdigest()
        return self._prints[run, node]

    def home(self, run: str, node: Node) -> str:
        """The run in whose folder this work lives: the oldest of the chain that does the same."""
        mine = self._print(run, node)
        return next(name for name in self.runs[run].chain if self._print(name, node) == mine)

    # ---- frozen files

    def slice(self, run: str, stage: str, size: str = "") -> dict[str, Any]:
        """What the stage reads of the configuration, for this size if it is a sized stage."""
        owner = self.runs[run]
        groups = view(owner.at(size) if STAGES[stage].sized else owner.cfg, stage)
        for path in self.template(run, size) if "judge" in groups else []:
            groups["judge"][TEMPLATE_HASH] = artifact.file_hash(Path(path))
        return groups

    def _composed(self, run: str, node: Node) -> str:
        """The model a node's slice is composed with: its size; for ``score`` the meta RM's."""
        return self.runs[run].cfg.plan.metarm if node.stage == "score" else node.size

    def slice_path(self, run: str, node: Node) -> str:
        """The frozen file of a stage."""
        return f"results/{run}/config/{self._slice_name(run, node)}.yaml"

    def _slice_name(self, run: str, node: Node) -> str:
        size = self._composed(run, node) if STAGES[node.stage].sized else ""
        return f"{size}/{node.stage}" if size else node.stage

    def frozen(self, run: str, name: str) -> str:
        """Text of ``results/<run>/config/<name>.yaml``, name: run, <stage> or <size>/<stage>.

        A set has a ``set.yaml``, and its stage's slice is that of its reference.
        """
        if name == "run":
            return dump(self._origin(run))
        if run in self.sets:
            found, members = self.sets[run]
            if name == "set":
                return dump(self._set(run))
            places = zip(found.members, members, strict=True)
            run = next(run for member, run in places if member.role == found.reference)
        size, _, stage = name.rpartition("/")
        return dump(self.slice(run, stage, size))

    def _origin(self, run: str) -> dict[str, Any]:
        """What :mod:`spct.origin` reads: where the run came from and where its work lies."""
        owner = self.runs[run]
        work = [
            {"stage": n.stage, "folder": n.folder, "home": h, "slice": self._slice_name(h, n)}
            for n, h in ((node, self.home(run, node)) for node in self.work(run))
        ]
        return {
            "experiment": owner.experiment,
            "base": owner.cfg.base if owner.name == owner.experiment else owner.experiment,
            "overrides": list(named(owner.overrides)),
            "seeds": list(owner.cfg.plan.seeds),
            "work": work,
        }

    # ---- paths the rules ask for

    def at(self, run: str, seed: object, node: Node, file: str = "") -> str:
        """Path of a piece of work, or of a file in it, wherever it lives."""
        path = f"results/{self.home(run, node)}/seed{seed}/{node.folder}"
        return f"{path}/{file}" if file else path

    def bank(self, run: str, seed: object, node: Node) -> list[str]:
        """The shards of a bank."""
        cfg = self.runs[run].at(node.size)
        stage = "bench" if node.stage in ("judge", "score") else node.stage
        return [self.at(run, seed, node, f"{i}.parquet") for i in range(getattr(cfg, stage).shards)]

    def base_model(self, run: str, size: str) -> list[str]:
        """The base's folder if it is a local one."""
        return models.inputs(self.runs[run].at(size).model.source)

    def bases(self, run: str) -> list[str]:
        """The local folders of all bases that a run judges, each once."""
        sizes = dict.fromkeys(node.size for node in self.judged(run))
        return list(dict.fromkeys(path for size in sizes for path in self.base_model(run, size)))

    def template(self, run: str, size: str) -> list[str]:
        """The judge's template if it is the user's own file."""
        path = prompts.path(self.runs[run].at(size).judge.template)
        return [] if path.parent == prompts.FOLDER else [str(path)]

    def tracking(self, run: str) -> list[str]:
        """Options of ``spct sync`` for the tracker this run was asked to use."""
        to = self.runs[run].cfg.tracking
        return [*(["--uri", to.uri] if to.uri else []), "--experiment", to.experiment]

    def init(self, run: str, seed: object, policy: str, size: str) -> list[str]:
        """The policy's model folder, or nothing for the base."""
        return [self.at(run, seed, node) for node in self.policy(run, policy, size)]

    def tuned(self, run: str, seed: object, size: str) -> list[str]:
        """Model folders of the tuned policies, in the plan's order."""
        return [self.at(run, seed, node) for node in self._tuned(run, size)]

    def bench(self, run: str, seed: object) -> str:
        """The benchmark items that the run judges: as they were made, or in another form."""
        return self.at(run, seed, self._bench(run), "bench.parquet")

    def rl_items(self, run: str, seed: object) -> str:
        """What GRPO and baselines learn from: the training items, or those the weak model left."""
        node = Node("difficulty" if self.runs[run].cfg.plan.weak else "prepare")
        return self.at(run, seed, node, "train.parquet")

    def weak_bank(self, run: str, seed: object) -> list[str]:
        """Shards of the weak model's trajectories on the training items."""
        return self.bank(run, seed, Node("rollout", self.runs[run].cfg.plan.weak))

    def metarm(self, run: str, seed: object) -> str:
        """The meta RM's folder."""
        return self.at(run, seed, Node("metarm", self.runs[run].cfg.plan.metarm))

    def metarm_banks(self, run: str, seed: object) -> list[str]:
        """Shards the meta RM learns from: the base's and the tuned policies' trajectories."""
        return list(
            itertools.chain(*(self.bank(run, seed, node) for node in self._trajectories(run)))
        )

    def judged(self, run: str) -> Iterator[Node]:
        """Every judged (policy, size), the guided ones as their scored banks."""
        plan = self.runs[run].cfg.plan
        for policy in plan.judged or plan.policies:
            guided = plan.metarm and policy in plan.guided
            yield Node("score" if guided else "judge", plan.main, policy)
        for size in plan.sizes:
            if size != plan.main:
                served = models.served(self.runs[run].at(size).model.source) is not None
                policies = ["base"] if served else plan.side_policies
                yield from (Node("judge", size, policy) for policy in policies)

    def scored(self, run: str) -> list[Node]:
        """The scores of the baselines of the main size, of trained reward models, and, of judges
        that name the better response, of the probability of its name."""
        plan = self.runs[run].cfg.plan
        own = [Node("baseline_score", plan.main, name) for name in plan.baselines]
        own += [Node("baseline_score", name, STOCK) for name in plan.reward_models]
        main = self.runs[run].at(plan.main)
        if main.judge.answer == "index" and models.served(main.model.source) is None:
            own += [Node("token_prob", plan.main, name) for name in plan.judged or plan.policies]
        return own

    def baseline(self, run: str, seed: object, name: str, size: str) -> list[str]:
        """The trained baseline's folder, or nothing for one that comes trained."""
        nodes = self._fitted(Node("baseline_score", size, name))
        return [self.at(run, seed, node) for node in nodes]

    def work(self, run: str) -> list[Node]:
        """Everything the run's curves rest on, upstream first, each once."""
        found: dict[Node, None] = {}

        def visit(node: Node) -> None:
            for other in self.upstream(run, node):
                visit(other)
            found.setdefault(node)

        for node in (*self.judged(run), *self.scored(run)):
            visit(node)
        if self.audited(run):
            visit(Node("audit"))
        return list(found)

    def audited(self, run: str) -> bool:
        """Whether its data can overlap the benchmarks: not in the toy world, which is generated."""
        return self.runs[run].cfg.data.world == "real"

    def audits(self, run: str) -> list[str]:
        """The audits that must pass before the run's curves are drawn, one a seed."""
        seeds = self.runs[run].cfg.plan.seeds if self.audited(run) else []
        return [self.at(run, seed, Node("audit"), "overlap.json") for seed in seeds]

    def collect(self, run: str) -> Mapping[str, list[str]]:
        """Inputs of ``curves`` and ``report`` over all seeds: items, banks, ledgers, models."""
        names = ("items", "banks", "scores", "ledgers", "models", "rollouts")
        lists: dict[str, list[str]] = {name: [] for name in names}
        for seed in self.runs[run].cfg.plan.seeds:
            lists["items"].append(self.bench(run, seed))
            for node in self.judged(run):
                lists["banks"] += self.bank(run, seed, node)
            for node in self.scored(run):
                lists["scores"].append(self.at(run, seed, node, "scores.parquet"))
            for node in self.work(run):
                if node.stage in ("prepare", "select", "difficulty"):
                    lists["ledgers"].append(self.at(run, seed, node, "ledger.json"))
                elif node.stage in ("rft", "grpo", "metarm", "baseline"):
                    lists["models"].append(self.at(run, seed, node))
                elif node.stage in ("rollout", "rollout_policy"):
                    lists["rollouts"] += self.bank(run, seed, node)
        return lists

    # ---- sets

    def _set(self, name: str) -> dict[str, Any]:
        """What :mod:`spct.paper` reads of a set: the words of its file, and where its files are."""
        found, runs = self.sets[name]
        words = {key: getattr(found, key) for key in ("title", "reference", "single", "sizes")}
        members = zip(found.members, runs, strict=True)
        return {
            **words,
            "name": name,
            "overall": list(found.overall),
            "members": [self._member(member, run) for member, run in members],
        }

    def _member(self, member: Member, run: str) -> dict[str, Any]:
        lists = self.collect(run)
        return {
            **{key: getattr(member, key) for key in ("role", "label", "serves")},
            "run": run,
            "seeds": list(self.runs[run].cfg.plan.seeds),
            **{key: lists[key] for key in ("items", "banks", "scores")},
        }

    def set_inputs(self, name: str) -> list[str]:
        """Every file that the tables of a set are made from: items, banks, scores and curves."""
        _, runs = self.sets[name]
        files = [f"results/{run}/curves.csv" for run in runs]
        for run in runs:
            lists = self.collect(run)
            files += itertools.chain(*(lists[key] for key in ("items", "banks", "scores")))
        return list(dict.fromkeys(files))
