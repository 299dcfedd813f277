"""The books of ``prepare``: of every row and item, whether it was kept and if not, why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spct import artifact
from spct.data.download import SHORT, Fetched
from spct.data.flaws import Flaw
from spct.data.reading import Dropped
from spct.schema import SourceConfig

QUIET = ("other_split", "not_drawn")  # counted, but nothing is wrong with them: not listed


@dataclass
class Account:
    """One source in one role. ``seen`` counts rows and the further items made of one."""

    role: str
    source: SourceConfig
    files: list[Fetched]
    seen: int = 0
    kept: int = 0
    ties: int = 0  # of those kept: items that people called a tie
    drops: Counter[str] = field(default_factory=Counter)

    @property
    def commit(self) -> str:
        """The hub's commit that was read; empty for files from elsewhere."""
        return next((file.revision for file in self.files), "")

    @property
    def unmatched(self) -> list[str]:
        """Entries of ``sha256`` that name none of the files: nothing is compared by them."""
        return sorted(self.source.sha256.keys() - {file.name for file in self.files})

    @property
    def unchecked(self) -> list[str]:
        """Files without an entry in ``sha256``, where others have one."""
        names = {file.name for file in self.files} if self.source.sha256 else set()
        return sorted(names - self.source.sha256.keys())

    @property
    def pinned(self) -> bool:
        """False where the revision is a branch: another day it may be another commit."""
        short = SHORT.fullmatch(self.source.revision) and self.commit.startswith(
            self.source.revision
        )
        return self.commit in ("", self.source.revision) or bool(short)


@dataclass
class Book:
    """The accounts in order, and the list of what was dropped."""

    accounts: list[Account] = field(default_factory=list)
    listed: list[dict[str, str]] = field(default_factory=list)

    def open(self, role: str, source: SourceConfig, files: list[Fetched]) -> Account:
        """A new account."""
        self.accounts.append(Account(role, source, files))
        return self.accounts[-1]

    def row(self, account: Account, dropped: Dropped) -> None:
        """A row that made no item."""
        account.seen += 1
        self._drop(account, dropped.where, (dropped.reason, dropped.detail))

    def item(self, account: Account, id_: str, flaw: Flaw) -> None:
        """An item that is not used; it was counted as seen before."""
        self._drop(account, id_, flaw)

    def _drop(self, account: Account, where: str, flaw: Flaw) -> None:
        reason, detail = flaw
        account.drops[reason] += 1
        if reason not in QUIET:
            self.listed.append(
                {
                    "role": account.role,
                    "source": account.source.name,
                    "where": where,
                    "reason": reason,
                    "detail": detail,
                }
            )

    def write_ledger(self, path: Path) -> None:
        """The balance of all sources, each with its own below ``detail``.

        Raises ``ValueError`` unless in = kept + dropped, for each source and in all.
        """
        for account in self.accounts:
            if account.seen != account.kept + account.drops.total():
                raise ValueError(f"the account of {account.source.name} does not balance")
        rejected: Counter[str] = Counter()
        for account in self.accounts:
            rejected += account.drops
        artifact.write_ledger(
            path,
            total=sum(account.seen for account in self.accounts),
            kept=sum(account.kept for account in self.accounts),
            rejected=dict(sorted(rejected.items())),
            detail={"by_source": self._by_source()},
        )

    def _by_source(self) -> dict[str, Any]:
        return {
            f"{account.role}/{account.source.name}": {
                "in": account.seen,
                "kept": account.kept,
                "rejected": dict(sorted(account.drops.items())),
            }
            for account in self.accounts
        }

    def write_drops(self, path: Path) -> None:
        """One JSON line for each drop that is listed: source, place, reason, detail; no text."""
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.listed)
        artifact.write_text(path, "".join(lines))

    def warnings(self) -> list[str]:
        """A line for each source that gives nothing, or whose files may change under one's feet."""
        stale = [
            f"warning: {account.source.name}: sha256 names {', '.join(account.unmatched)}, which "
            "is none of its files; correct the name, or take it out"
            for account in self.accounts
            if account.unmatched
        ]
        unchecked = [
            f"warning: {account.source.name}: sha256 has no entry for "
            f"{', '.join(account.unchecked)}; not compared"
            for account in self.accounts
            if account.unchecked
        ]
        empty = [
            f"warning: {account.role} {account.source.name}: none of {account.seen:,} rows is kept"
            for account in self.accounts
            if account.seen and not account.kept
        ]
        return [*stale, *unchecked, *empty, *self._unpinned()]

    def _unpinned(self) -> list[str]:
        return [
            f"warning: {account.source.name}: revision not pinned: {account.source.revision} was "
            f"{account.commit} today; set revision to that commit to read the same again"
            for account in self.accounts
            if not account.pinned
        ]

    def summary(self) -> list[str]:
        """A line for each source, for a person."""
        lines = []
        for account in self.accounts:
            why = ", ".join(f"{reason} {n}" for reason, n in account.drops.most_common())
            name = f"{account.role} {account.source.name}"
            ties = f"; {account.ties:,} of those kept are ties" if account.ties else ""
            left = f" ({why})" if why else ""
            lines.append(f"{name}: {account.kept:,} of {account.seen:,}{left}{ties}")
        return lines
