"""Look for a backdoor in a classifier, in four ways, and say of each whether it finds one.

Neural Cleanse asks of every class how small a patch makes the model see it everywhere; the class of
a backdoor needs far less than the others. STRIP lays other pictures over one: a trigger wins all
the same, so the answers hardly vary. Spectral signatures look among the training records of each
class for a group that sets itself apart. Fine-pruning cuts off the neurons that clean pictures
leave idle, where a backdoor may live, and asks what the trigger still wins.

    anomaly  = (median of |m_c|_1 - |m_c|_1) / (1.4826 MAD),    above 2: a backdoor
    H(x)     = mean over others y of the entropy of f((x + y) / 2);   low: a trigger
    score(x) = ((psi(x) - mean of the class) . first singular vector)^2;   high: poisoned

Where the trigger is known - the members tell it, or records that are named - each way is judged by
the AUC with which it tells what is poisoned from what is clean; otherwise there is a warning from
Neural Cleanse alone. Clean pictures are the outsiders.

Differs from the paper: 1. Each way follows a paper of its own: Wang et al. (2019), Gao et al.
(2019), Tran et al. (2018), Liu et al. (2018). 2. Masks have a weight that does not change, and one
value a number, not a pixel. 3. Fine-pruning does not tune afterwards: there may be no data for it.
4. The AUC of Neural Cleanse is over the classes, of which one is the target's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.backdoor_defences import (
    anomalies,
    blend_entropies,
    has_known_features,
    pruned,
    smallest_mask,
    spectral_scores,
)
from engram.parts.distillation import before_last
from engram.parts.labelled import check_labelled_split, features_of, labels_of
from engram.parts.networks import Network
from engram.parts.origins import origins_of
from engram.parts.protection import RANGE
from engram.parts.training import check_at_least
from engram.parts.triggers import Trigger, trigger_of
from engram.stats import auc
from engram.stats.intervals import proportion

METHOD = "backdoor-scan"
CLEANSE, STRIP = "anomaly of the smallest mask (Neural Cleanse)", "AUC of STRIP"
SPECTRAL = "AUC of spectral signatures"
LIMIT, GOOD = 2.0, 0.9
UNKNOWN = "no trigger is told, so there is nothing to judge it by"


@dataclass(frozen=True)
class BackdoorScan:
    """Neural Cleanse, STRIP, spectral signatures and fine-pruning."""

    paper: ClassVar[Paper] = Paper(
        title="Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks",
        authors="Wang et al.",
        year=2019,
        url="https://doi.org/10.1109/SP.2019.00031",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"classifier"})

    trigger: str = ""
    """Records that tell the trigger; empty: the members do, where they were poisoned by us."""
    records: int = 256
    """The most outsiders that are looked at, drawn by lot."""
    steps: int = 200
    """Of each mask."""
    blends: int = 20
    """Pictures that are laid over each. STRIP's paper takes 100."""
    cut: float = 0.3
    """Share of the neurons that are cut off, in [0, 1)."""

    def __post_init__(self) -> None:
        for name in ("records", "steps", "blends"):
            check_at_least(name, getattr(self, name), 1, "see its default")
        if not 0 <= self.cut < 1:
            raise EngramError(f"cut is {self.cut}, but must be in [0, 1)", hint="0.3 is a start")

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return an anomaly, AUCs where the trigger is known, and what pruning leaves."""
        network = getattr(target.model, "model", None)
        outsiders = splits.get("outsiders")
        if not isinstance(network, Network) or outsiders is None or not len(outsiders):
            why = f"target {target.name!r} is no network on pictures, or there are no outsiders"
            return (Finding.missing(CLEANSE, why).tagged(method=METHOD),)
        check_labelled_split(outsiders)
        rows = run.stream(METHOD, "records").permutation(len(outsiders))[: self.records]
        some = outsiders.take(np.sort(rows))
        members = splits.get("members")
        told = run.records(self.trigger, target) if self.trigger else members
        trigger = None if told is None else trigger_of(told)
        network = network.eval()
        found = [
            *self._masks(network, some, trigger, run),
            self._strip(network, some, trigger, run),
            self._spectral(network, members, run),
            *self._pruned(network, some, trigger),
        ]
        return tuple(f.tagged(method=METHOD) for f in found)

    def _masks(
        self, network: Network, some: Split, trigger: Trigger | None, run: Run
    ) -> list[Finding]:
        pictures, classes = tensor(some, network), network.layout.classes
        low, high = (float(x) for x in some.shared.get(RANGE, (0.0, 1.0)))
        seed = int(run.stream(METHOD, "masks").integers(2**31))
        sizes = np.array([
            smallest_mask(network, pictures, c, low, high, seed=seed, steps=self.steps)[0]
            for c in range(classes)
        ])  # fmt: skip
        if classes < 3:
            return [Finding.missing(CLEANSE, f"{classes} classes have no outlier", classes)]
        far = float(min(anomalies(sizes).max(), 1e6))
        worst = int(np.argmin(sizes))
        verdict = f"class {worst} looks like a backdoor's" if far > LIMIT else "no class stands out"
        found = [Finding(CLEANSE, far, far, far, classes).tagged(better="lower", note=verdict)]
        name = "AUC of Neural Cleanse over classes"
        if trigger is None:
            return [*found, Finding.missing(name, UNKNOWN, classes)]
        return [*found, self._auc(name, -sizes, np.arange(classes) == trigger.target, run)]

    def _strip(self, network: Network, some: Split, trigger: Trigger | None, run: Run) -> Finding:
        if trigger is None:
            return Finding.missing(STRIP, UNKNOWN, len(some))
        others = some.where(labels_of(some) != trigger.target)
        if len(others) < 2:
            return Finding.missing(STRIP, "too few outsiders of other classes", len(others))
        clean = features_of(others)
        both = torch.from_numpy(np.concatenate([clean, trigger.pasted(clean)]))
        rng = run.stream(METHOD, "blends")
        device = network.mean.device
        entropy = blend_entropies(network, both.to(device), tensor(some, network), self.blends, rng)
        return self._auc(STRIP, -entropy, np.arange(len(both)) >= len(clean), run)

    def _spectral(self, network: Network, members: Split | None, run: Run) -> Finding:
        if members is None or not has_known_features(network):
            return Finding.missing(SPECTRAL, "there are no members, or no features to look at")
        poisoned = np.array([bool(found) for found in origins_of(members)])
        if not poisoned.any() or poisoned.all():
            why = "the members are not some poisoned and some clean, as far as they tell"
            return Finding.missing(SPECTRAL, why, len(members))
        with torch.no_grad():
            features = before_last(network, tensor(members, network)).cpu().numpy()
        return self._auc(SPECTRAL, spectral_scores(features, labels_of(members)), poisoned, run)

    def _pruned(self, network: Network, some: Split, trigger: Trigger | None) -> list[Finding]:
        wins, right = "attack success after fine-pruning", "clean accuracy after fine-pruning"
        if not has_known_features(network):
            return [Finding.missing(name, "no features are known") for name in (wins, right)]
        cut, labels = pruned(network, tensor(some, network), self.cut), labels_of(some)
        hits = int((said(cut, features_of(some)) == labels).sum())
        found = [proportion(hits, len(some), right).tagged(better="higher")]
        if trigger is None or not (labels != trigger.target).any():
            return [Finding.missing(wins, UNKNOWN, len(some)), *found]
        pasted = trigger.pasted(features_of(some)[labels != trigger.target])
        won = int((said(cut, pasted) == trigger.target).sum())
        return [proportion(won, len(pasted), wins).tagged(better="lower"), *found]

    def _auc(
        self, name: str, scores: Float[np.ndarray, " n"], positive: np.ndarray, run: Run
    ) -> Finding:
        found = auc(np.asarray(scores, np.float64), positive, run.stream(METHOD, name))
        verdict = "finds it" if found.value >= GOOD else "does not find it for certain"
        if not found.value > 0.5:
            verdict = "misses it"
        return Finding(name, found.value, found.low, found.high, len(scores)).tagged(
            better="higher", note=verdict
        )


def tensor(split: Split, network: Network) -> Float[torch.Tensor, "n d"]:
    """The records, where the network is."""
    return torch.from_numpy(features_of(split, network.mean.numel())).to(network.mean.device)


def said(network: Network, features: Float32[np.ndarray, "n d"]) -> np.ndarray:
    """The class that a network sees in each record."""
    with torch.no_grad():
        return network(torch.from_numpy(features).to(network.mean.device)).argmax(1).cpu().numpy()
