"""Which record a target was trained on, held out from, had planted, or forgot - and whose it is.

Records of the role "validation" were looked at while the model was trained (to stop it, say), and
so are neither members nor outsiders. Of records that were forgotten the ledger keeps pseudonyms
alone: no id, no owner and no digest of what they said.

The engine writes it, never a recipe, so no recipe can skip it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engram.core.errors import EngramError
from engram.core.pseudonyms import pseudonym
from engram.core.split import Split

Role = Literal["trained", "held-out", "forgotten", "validation"]
FILE = "ledger.parquet"


@dataclass(frozen=True, eq=False)
class Ledger:
    """One row a record: its id, content digest, owner, role, and whether it is a planted canary."""

    ids: Sequence[str]
    digests: Sequence[str]
    owners: tuple[str, ...] | None
    roles: tuple[Role, ...]
    canaries: tuple[bool, ...]

    def __post_init__(self) -> None:
        if unknown := set(self.roles) - set(get_args(Role)):
            raise EngramError(f"the ledger has unknown roles: {', '.join(sorted(unknown))}")
        if len(set(self.ids)) != len(self.ids):
            raise EngramError("the ledger names a record twice")

    @classmethod
    def of(
        cls, split: Split, trained: np.ndarray, validation: np.ndarray | None = None
    ) -> "Ledger":
        """A new target's ledger: where `trained` is true, where `validation` is, the rest held out.

        Raises:
            EngramError: A record is in both.
        """
        seen = np.zeros(len(split), bool) if validation is None else validation
        if (seen & trained).any():
            raise EngramError(f"{int((seen & trained).sum())} records are trained and validation")
        return cls(
            split.ids,
            split.digests,
            split.owners,
            tuple(
                "trained" if t else "validation" if v else "held-out"
                for t, v in zip(trained, seen, strict=True)
            ),
            split.canaries or (False,) * len(split),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {record: row for row, record in enumerate(self.ids)}

    def having(self, role: Role) -> tuple[str, ...]:
        """Ids of the records with this role."""
        return tuple(i for i, r in zip(self.ids, self.roles, strict=True) if r == role)

    def of_owner(self, owner: str) -> tuple[str, ...]:
        """Ids of the trained records of one owner."""
        if self.owners is None:
            raise EngramError(
                "this target's ledger knows no owners",
                hint="name the records with --ids or --records, or train on data that has "
                "an `owner` column",
            )
        rows = zip(self.ids, self.owners, self.roles, strict=True)
        return tuple(i for i, o, r in rows if o == owner and r == "trained")

    def forgetting(self, ids: Sequence[str]) -> "Ledger":
        """The same ledger with these records' role set to forgotten, and pseudonyms for them."""
        gone = set(ids)
        if unknown := gone - set(self.having("trained")):
            raise EngramError(
                f"{len(unknown)} records to forget were not trained on ({sorted(unknown)[0]!r})",
                hint="`ledger.parquet` lists the trained records",
            )
        lost = [record in gone for record in self.ids]

        def hidden(names: Sequence[str], what: str) -> tuple[str, ...]:
            pairs = zip(names, lost, strict=True)
            return tuple(pseudonym(name, what) if gone else name for name, gone in pairs)

        roles: tuple[Role, ...] = tuple(
            "forgotten" if away else role for away, role in zip(lost, self.roles, strict=True)
        )
        return Ledger(
            hidden(self.ids, "id"),
            hidden(self.digests, "digest"),
            None if self.owners is None else hidden(self.owners, "owner"),
            roles,
            self.canaries,
        )

    def check(self, split: Split) -> None:
        """Raise where `split` is not the data that this ledger was written for.

        Every ledger record must be in `split` with the same content, but for the forgotten ones:
        those may have been deleted there too.
        """
        found = dict(zip(split.ids, split.digests, strict=True))
        gone = set(self.having("forgotten"))
        missing = [i for i in self.ids if i not in found and i not in gone]
        rows = zip(self.ids, self.digests, strict=True)
        changed = [i for i, digest in rows if i in found and found[i] != digest]
        if missing or changed:
            bad = (missing or changed)[0]
            raise EngramError(
                f"the ledger does not match {split.name!r}: {len(missing)} of its {len(self)} "
                f"records are missing and {len(changed)} have changed (first: {bad!r})",
                hint="give the data that the target was trained on with --data, or audit with "
                "--members and --outsiders",
            )

    def split(self, data: Split, role: Role) -> Split:
        """The records of `data` that have this role, named after it.

        Forgotten records are found by their pseudonyms, as far as they are still there.
        """
        if role == "forgotten":
            gone = set(self.having(role))
            return data.where([pseudonym(i, "id") in gone for i in data.ids], name=role)
        return data.select(self.having(role), name=role)

    def save(self, folder: Path) -> None:
        """Write `ledger.parquet`."""
        owners = [None] * len(self) if self.owners is None else list(self.owners)
        table = pa.table(
            {
                "id": pa.array(self.ids, pa.string()),
                "digest": pa.array(self.digests, pa.string()),
                "owner": pa.array(owners, pa.string()),
                "role": pa.array(self.roles, pa.string()),
                "canary": pa.array(self.canaries, pa.bool_()),
            }
        )
        pq.write_table(table, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Ledger":
        """Read `ledger.parquet`."""
        try:
            table = pq.read_table(folder / FILE)
            columns = {name: table.column(name).to_pylist() for name in table.column_names}
            owners = columns["owner"]
            return cls(
                tuple(columns["id"]),
                tuple(columns["digest"]),
                None if all(o is None for o in owners) and owners else tuple(owners),
                tuple(columns["role"]),
                tuple(columns["canary"]),
            )
        except (OSError, KeyError, pa.ArrowException) as problem:
            raise EngramError(
                f"the ledger in {folder} cannot be read ({type(problem).__name__}: {problem})",
                hint="the folder may be damaged; train the target again",
            ) from None
