"""Train on protected records at length, then fine-tune on the original ones in brief.

The brief part is done again, from the same protected model, whenever records are to be forgotten.
The long part sees records in their protected form alone. The brief part begins at the stored
result of the long one each time, with a new optimiser, and with streams that depend on the seed.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram.core import EngramError, Run, Split
from engram.parts.boosting import continued
from engram.parts.classifier_training import ClassifierTraining, Trace, check_some
from engram.parts.estimators import fitted
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Network
from engram.parts.record_protection import ProtectedSplit, Protection
from engram.parts.sisa_training import Finished
from engram.parts.sub_run import SubRun
from engram.parts.training import Plan, check_at_least, key_of

TUNE = "fine-tuning"


@dataclass(frozen=True)
class ProtectedTraining(Protection, ClassifierTraining):
    """How a network is trained on protected records, and tuned on original ones."""

    epochs: int = 100
    """Times that each protected record is seen."""
    tune_epochs: int = 5
    """Times that each original record is seen in fine-tuning."""
    tune_learning_rate: float = 0.0
    """The highest learning rate of fine-tuning; 0: the same as before."""

    def __post_init__(self) -> None:
        ClassifierTraining.__post_init__(self)
        Protection.__post_init__(self)
        check_at_least("tune_epochs", self.tune_epochs, 1, "5 to 20 of 100 are usual")
        if self.tune_learning_rate:
            Plan(1, self.tune_learning_rate)

    def pretrain(self, split: Split, run: Run) -> tuple[Network, ProtectedSplit, Trace]:
        """A network trained on the records' protected form; a killed run finds it again."""
        check_some(split)
        found = self.protect(split, run)
        found.tell(run)
        network = self.start(found.split, run, int(labels_of(split).max()) + 1)
        key = key_of(self, run.seed, found.split.fingerprint, "protected")
        done = Finished(run.scratch / "protected.done.safetensors", key)
        trace = done.restore(network)
        if trace is None:
            trace = self.learn(network, found.split, run, key, file="protected.safetensors")
            done.save(network, trace)
        return network, found, trace

    def tune(self, protected: Network, split: Split, run: Run, seed: int) -> tuple[Network, Trace]:
        """A copy of the protected network, tuned on original records.

        What features are less and divided by stays that of the protected records.
        """
        check_some(split)
        network = deepcopy(protected)
        brief = replace(self, learning_rate=self.tune_learning_rate or self.learning_rate)
        key = key_of(self, seed, split.fingerprint, TUNE)
        here = SubRun.of(run, TUNE, seed=seed)
        trace = brief.learn(
            network, split, here, key, epochs=self.tune_epochs, file="tuned.safetensors"
        )
        return network, trace


@dataclass(frozen=True)
class ProtectedBoosting(Protection):
    """How trees are grown on protected records, and continued on original ones."""

    estimators: int = 100
    """Rounds on protected records; a round grows a tree, or one a class if there are more than
    two."""
    tune_estimators: int = 5
    """Rounds on original records, on top of those."""
    learning_rate: float = 0.5
    """What each tree counts; 0.5 is the paper's. Without shrinkage 0.1 is safer."""
    shrinkage: float = 1.0
    """How much the values of leaves are shrunk (XGBoost's lambda); 0 does not, as scikit-learn."""
    max_depth: int = 3
    """Largest depth of a tree."""
    min_samples_leaf: int = 1
    """The least records in a leaf."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("estimators", "tune_estimators", "max_depth", "min_samples_leaf"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        if not 0 < self.learning_rate <= 1:
            raise EngramError(
                f"learning_rate is {self.learning_rate}, but must be in (0, 1]",
                hint="0.5 is the paper's value, 0.1 is usual",
            )
        check_at_least("shrinkage", self.shrinkage, 0, "1 is XGBoost's, 0 shrinks nothing")

    def parameters(self, rounds: int) -> dict[str, Any]:
        """As `NewtonBoosting` calls them."""
        return {
            "n_estimators": rounds,
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "min_samples_leaf": self.min_samples_leaf,
            "shrinkage": self.shrinkage,
        }

    def pretrain(self, split: Split, run: Run) -> tuple[dict[str, np.ndarray], ProtectedSplit]:
        """The arrays of trees grown on the records' protected form."""
        check_some(split)
        found = self.protect(split, run)
        found.tell(run)
        features, labels = features_of(found.split), labels_of(found.split)
        arrays, warned = fitted(
            "newton-boosting",
            self.parameters(self.estimators),
            features,
            labels,
            random_state(run.seed, "trees"),
        )
        for message in warned:
            run.log(warning=message)
        return arrays, found

    def tune(
        self, protected: Mapping[str, np.ndarray], split: Split, seed: int
    ) -> dict[str, np.ndarray]:
        """The arrays of the protected trees with more on top."""
        check_some(split)
        return continued(
            protected,
            self.parameters(self.tune_estimators),
            features_of(split),
            labels_of(split),
            random_state(seed, TUNE),
        )


def random_state(seed: int, purpose: str) -> int:
    """What scikit-learn calls so, for one purpose."""
    from engram.core import stream

    return int(stream(seed, purpose).integers(2**31))
