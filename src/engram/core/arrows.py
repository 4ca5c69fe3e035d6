"""The five arrows, and the `Run` that each is given beside its arguments."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from engram.core.finding import Finding
from engram.core.paper import Paper
from engram.core.scores import Scores
from engram.core.shadows import Shadows
from engram.core.signals import TokenSignals
from engram.core.split import Split
from engram.core.target import Access, Draft, Target


@runtime_checkable
class Sampler(Protocol):
    """All that somebody has who may only ask a language model to write.

    A method that takes a sampler instead of a target cannot look at its probabilities or weights.
    """

    def write(
        self, prompts: Sequence[str], tokens: Sequence[int] | int, rng: np.random.Generator
    ) -> list[str]:
        """A continuation of each prompt, of at most `tokens` tokens; without the prompt."""
        ...


@runtime_checkable
class Run(Protocol):
    """What an arrow may ask for: randomness, a place, a device, stored answers, other targets."""

    @property
    def seed(self) -> int:
        """Root of the random streams."""
        ...

    @property
    def device(self) -> str:
        """Where to compute: "cpu", "cuda", "cuda:1", ..."""
        ...

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints; the same one when a killed run is started again."""
        ...

    def stream(self, *path: str | int) -> np.random.Generator:
        """The random stream of one purpose."""
        ...

    def tokens(self, target: Target, split: Split) -> TokenSignals:
        """Token signals of a language model on these records: computed once, then stored."""
        ...

    def losses(self, target: Target, split: Split) -> np.ndarray:
        """Per-record losses of any family; (n,)."""
        ...

    def logits(self, target: Target, split: Split) -> np.ndarray:
        """Class logits of a classifier; (n, classes)."""
        ...

    def computed(
        self,
        name: str,
        target: Target,
        split: Split,
        settings: Mapping[str, Any],
        work: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """The answer of `work()`, a number or a row a record; computed once, then stored.

        It is known by its name, the target, the records and `settings`, which must hold
        everything else that decides it (a seed, a number of draws).
        """
        ...

    def fit(self, recipe: Any, split: Split, *path: str | int) -> Target:
        """Another target, trained on `split` or found in the store.

        With `path` it has a seed of its own, that of the stream of this name. A target in the
        place of the recipe stands for the recipe and the seed that made it.
        """
        ...

    def shadows(self, target: Target, split: Split, count: int, share: float = 0.5) -> Shadows:
        """`count` models trained by the target's own recipe on random shares of `split`.

        With a share of a half they come in pairs, each the other's complement, so that half of
        them saw any given record. They are found again, not trained again.
        """
        ...

    def retrained(self, target: Target, splits: Sequence[Split], name: str) -> Sequence[Target]:
        """A model for each of `splits`, trained by the target's own recipe with a seed of its own.

        They are found again, not trained again; `name` tells one purpose from another.
        """
        ...

    def sampler(self, target: Target, temperature: float = 1.0) -> Sampler:
        """Text access to a language model; at temperature 0 it writes greedily."""
        ...

    def records(self, where: str, target: Target | None = None) -> Split:
        """Records that the user named; read as those of `target` were, if it is given."""
        ...

    def target(self, where: str) -> Target:
        """A target that the user named: a folder of ours, a model folder or a model's name."""
        ...

    def log(self, **entry: float | int | str) -> None:
        """Add one line to the run's log."""
        ...

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell whoever watches how far this is."""
        ...


@runtime_checkable
class Validated(Protocol):
    """A run that has records to look at while training: no members, and no outsiders either."""

    @property
    def validation(self) -> Split | None:
        """Those records; None where the user set none aside."""
        ...


@runtime_checkable
class Owner(Protocol):
    """A run that can open a target for one caller alone."""

    def own(self, where: str) -> Target:
        """A target that the user named, opened anew: the caller may change it in place."""
        ...


@runtime_checkable
class Transform(Protocol):
    """Split -> Split."""

    paper: ClassVar[Paper]

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the changed records."""
        ...


@runtime_checkable
class Recipe(Protocol):
    """Split -> Target (a draft of it: the engine writes the ledger)."""

    paper: ClassVar[Paper]
    family: ClassVar[str]

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on every record of `split`, and on nothing else."""
        ...


@runtime_checkable
class Edit(Protocol):
    """Target -> Target, told what to keep and maybe what to forget."""

    paper: ClassVar[Paper]
    families: ClassVar[frozenset[str]]

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a changed model; the given target stays as it is."""
        ...


@runtime_checkable
class Attack(Protocol):
    """Target x Split -> Scores; higher always means more likely memorised.

    `needs` names the stored answers it reads: "tokens", "losses" or "logits".
    """

    paper: ClassVar[Paper]
    needs: ClassVar[frozenset[str]]
    access: ClassVar[Access]

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Score every record of `split`, which says nothing of membership."""
        ...


@runtime_checkable
class Measure(Protocol):
    """Target x Split -> Findings about the target as a whole."""

    paper: ClassVar[Paper]
    needs: ClassVar[frozenset[str]]
    access: ClassVar[Access]

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Measure on the splits that it is given, by name: "members", "outsiders", ..."""
        ...
