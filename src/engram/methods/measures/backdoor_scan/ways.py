"""What each way to look for a backdoor says of one network, as findings with a verdict."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from engram.core import Finding, Run, Split
from engram.methods.measures.backdoor_scan.inputs import blend_entropies
from engram.methods.measures.backdoor_scan.masks import anomalies, smallest_mask
from engram.methods.measures.backdoor_scan.neurons import (
    candidates,
    has_known_features,
    pruned,
    reversed_trigger,
    stimulated,
    tuned,
)
from engram.methods.measures.backdoor_scan.records import (
    cluster_scores,
    neighbour_disagreement,
    spectral_scores,
)
from engram.parts.distillation import before_last
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Network
from engram.parts.origins import own_origins_of
from engram.parts.protection import RANGE
from engram.parts.triggers import Trigger
from engram.stats import auc
from engram.stats.intervals import proportion

METHOD = "backdoor-scan"
CLEANSE = "anomaly of the smallest mask (Neural Cleanse)"
ABS = "largest lead of a patch for one neuron (ABS)"
STRIP, STRIP_FOUND = "AUC of STRIP", "found by STRIP at 5 % false alarms"
SPECTRAL = "AUC of spectral signatures"
CLUSTERS, CLUSTERS_AUC = "silhouette of the most divided class", "AUC of activation clustering"
RELABELLED, RELABELLED_AUC = "largest share of a class to relabel", "AUC of neighbours' labels"
LIMIT, GOOD = 2.0, 0.9
"""The anomaly above which a class is a backdoor's; the AUC from which a way finds one."""
TURNS, PART = 0.75, 0.4
"""What share a mask must turn, and how small it must be beside those of other networks."""
RAISED, LEAD = 0.88, 0.7
"""What share the patch for one neuron must turn (the paper's), and how far above others'."""
DIVIDED, MISLABELLED, ENOUGH = 0.5, 0.25, 50
"""Above which silhouette, or which share to relabel, a class looks poisoned; and how many records
it must have for that share to say something: few have few neighbours of their own."""
SPREADS = 10.0
"""How far from its mean a pixel of a patch may be: where one record in a hundred carries it."""
UNKNOWN = "no trigger is told, so there is nothing to judge it by"
UNTOLD = "the members are not some poisoned and some clean, as far as they tell"


@dataclass(frozen=True)
class Way:
    """What one way says.

    Attributes:
        findings: With their verdicts as notes.
        warns: Whether it says that there is a backdoor; None where it could not be tried.
    """

    findings: tuple[Finding, ...]
    warns: bool | None = None


@dataclass(frozen=True, eq=False)
class Scanned:
    """A network, and the records that it is looked at with.

    Attributes:
        network: In evaluation mode; never changed.
        some: Clean records that it was not trained on.
        members: Those that it was trained on, where they are known.
        trigger: Where it is known.
        run: Its seed decides what is drawn.
        references: Networks without a backdoor; what they show too says nothing.
    """

    network: Network
    some: Split
    members: Split | None
    trigger: Trigger | None
    run: Run
    references: tuple[Network, ...] = ()

    @property
    def ends(self) -> tuple[Float[torch.Tensor, " d"], Float[torch.Tensor, " d"]]:
        """Smallest and largest value of each pixel that a patch may have.

        A trigger that was planted was seen in training, so that its pixels lie within some spreads
        of what the network takes for usual: 1 / sqrt(s) of them, where a share s carried it. A
        pixel that is always black turns any network when it is white, and that is no backdoor.
        """
        seen = features_of(self.some)
        widest = (min(0.0, float(seen.min())), max(1.0, float(seen.max())))
        low, high = (float(end) for end in self.some.shared.get(RANGE, widest))
        mean, scale = self.network.mean, self.network.scale
        return (mean - SPREADS * scale).clamp(low, high), (mean + SPREADS * scale).clamp(low, high)

    def masks(self, steps: int) -> Way:
        """Neural Cleanse: which class needs a far smaller mask than others, and than elsewhere."""
        classes = self.network.layout.classes
        if classes < 3:
            return Way((Finding.missing(CLEANSE, f"{classes} classes have no outlier", classes),))
        pictures = tensor(self.some, self.network)
        seed = int(self.run.stream(METHOD, "masks").integers(2**31))
        sizes, turned = np.array([
            [
                smallest_mask(each, pictures, c, *self.ends, seed=seed, steps=steps)
                for c in range(classes)
            ]
            for each in (self.network, *self.references)
        ]).transpose(2, 0, 1)  # fmt: skip
        logs = np.log(np.maximum(sizes, 1e-6))
        usual = logs[1:].min(0) if len(logs) > 1 else np.full(classes, np.median(logs[0]))
        far = anomalies(logs[0] - usual)
        counts = (far > LIMIT) & (logs[0] - usual < np.log(PART)) & (turned[0] >= TURNS)
        value, worst = float(min(far.max(), 1e6)), int(np.argmax(far))
        note = f"class {worst} looks like a backdoor's" if counts[worst] else "no class stands out"
        if value > LIMIT and not counts[worst]:
            note = f"class {worst} is below the others, but not by enough, or turns too few"
        found = Finding(CLEANSE, value, value, value, classes).tagged(better="lower", note=note)
        name = "AUC of Neural Cleanse over classes"
        return Way((found, self._over_classes(name, far)), bool(counts[worst]))

    def neurons(self, each: int, share: float, steps: int) -> Way:
        """ABS: which class a few pixels bring about through one neuron, and not elsewhere."""
        if not has_known_features(self.network):
            return Way((Finding.missing(ABS, "no features are known"),))
        size = max(1, round(share * self.network.mean.numel()))
        best = np.array(
            [
                self._turned(network, each, size, steps)
                for network in (self.network, *self.references)
            ]
        )
        usual = best[1:].max(0) if len(best) > 1 else np.full(best.shape[1], np.median(best[0]))
        lead = best[0] - usual
        worst, value = int(np.argmax(lead)), float(lead.max())
        warns = value >= LEAD and float(best[0, worst]) >= RAISED
        note = f"{best[0, worst]:.2f} of class {worst}'s, against {usual[worst]:.2f}; "
        note += "it looks like a backdoor's" if warns else "no class stands out"
        found = Finding(ABS, value, value, value, len(lead)).tagged(better="lower", note=note)
        return Way((found, self._over_classes("AUC of ABS over classes", lead)), warns)

    def _turned(
        self, network: Network, each: int, size: int, steps: int
    ) -> Float[np.ndarray, " classes"]:
        pictures = tensor(self.some, network)
        labels = torch.from_numpy(labels_of(self.some)).to(pictures.device)
        seed = int(self.run.stream(METHOD, "patches").integers(2**31))
        best = np.zeros(network.layout.classes)
        for raised in candidates(stimulated(network, pictures), each):
            others = pictures[labels != raised.label]
            if len(others) > 1:
                turned = reversed_trigger(
                    network, others, raised, *self.ends, size=size, seed=seed, steps=steps
                )
                best[raised.label] = max(best[raised.label], turned)
        return best

    def strip(self, blends: int) -> tuple[Finding, ...]:
        """STRIP: pictures with the trigger against the same without it."""
        if self.trigger is None:
            return tuple(
                Finding.missing(name, UNKNOWN, len(self.some)) for name in (STRIP, STRIP_FOUND)
            )
        others = self.some.where(labels_of(self.some) != self.trigger.target)
        if len(others) < 2:
            why = "too few outsiders of other classes"
            return (Finding.missing(STRIP, why, len(others)),)
        clean = features_of(others)
        both = np.concatenate([clean, self.trigger.pasted(clean)])
        pictures = tensor(self.some, self.network)
        rng = self.run.stream(METHOD, "blends")
        placed = torch.from_numpy(both).to(pictures.device)
        entropy = blend_entropies(self.network, placed, pictures, blends, rng)
        triggered = np.arange(len(both)) >= len(clean)
        limit = np.quantile(entropy[~triggered], 0.05, method="lower")
        caught = int((entropy[triggered] < limit).sum())
        return (
            self._judged(STRIP, -entropy, triggered),
            proportion(caught, len(clean), STRIP_FOUND).tagged(better="higher"),
        )

    def spectral(self) -> Finding:
        """Spectral signatures."""
        features = self._member_features()
        if features is None or self.members is None:
            return Finding.missing(SPECTRAL, "there are no members, or no features to look at")
        scores = spectral_scores(features, labels_of(self.members))
        return self._over_members(SPECTRAL, scores, self.members)

    def clusters(self) -> Way:
        """Activation clustering."""
        features = self._member_features()
        if features is None or self.members is None:
            why = "there are no members, or no features to look at"
            return Way((Finding.missing(CLUSTERS, why),))
        rng = self.run.stream(METHOD, "clusters")
        scores, classes = cluster_scores(features, labels_of(self.members), rng)
        found = _worst_class(CLUSTERS, classes, DIVIDED)
        judged = self._over_members(CLUSTERS_AUC, scores, self.members)
        return Way((found, judged), bool(found.value > DIVIDED))

    def relabelled(self, neighbours: int) -> Way:
        """Labels that the nearest other members would outvote."""
        if self.members is None or len(self.members) < 2:
            return Way((Finding.missing(RELABELLED, "there are no members"),))
        labels = labels_of(self.members)
        scores = neighbour_disagreement(features_of(self.members), labels, neighbours)
        classes = np.array([
            (scores[labels == c] > 0.5).mean() if (labels == c).sum() >= ENOUGH else 0.0
            for c in range(int(labels.max()) + 1)
        ])  # fmt: skip
        found = _worst_class(RELABELLED, classes, MISLABELLED)
        judged = self._over_members(RELABELLED_AUC, scores, self.members)
        return Way((found, judged), bool(found.value > MISLABELLED))

    def pruned(self, share: float, steps: int) -> tuple[Finding, ...]:
        """Fine-pruning, tuned on one half of the outsiders and asked about the other."""
        wins, right = "attack success after fine-pruning", "clean accuracy after fine-pruning"
        if not has_known_features(self.network):
            return tuple(Finding.missing(name, "no features are known") for name in (wins, right))
        order = self.run.stream(METHOD, "halves").permutation(len(self.some))
        tuning, asked = (self.some.take(np.sort(half)) for half in np.array_split(order, 2))
        if not len(asked):
            return tuple(Finding.missing(name, "too few outsiders") for name in (wins, right))
        clean = tensor(tuning, self.network)
        cut = pruned(self.network, clean, share)
        seed = int(self.run.stream(METHOD, "tuning").integers(2**31))
        cut = tuned(cut, clean, labels_of(tuning), steps=steps, seed=seed)
        labels, features = labels_of(asked), features_of(asked)
        hits = int((said(cut, features) == labels).sum())
        kept = proportion(hits, len(asked), right).tagged(better="higher")
        if self.trigger is None or not (labels != self.trigger.target).any():
            return Finding.missing(wins, UNKNOWN, len(asked)), kept
        pasted = self.trigger.pasted(features[labels != self.trigger.target])
        before, won = (
            int((said(each, pasted) == self.trigger.target).sum()) for each in (self.network, cut)
        )
        note = f"{before / len(pasted):.2f} before; "
        note += "removes it" if won <= 0.2 * len(pasted) < before else "does not remove it"
        if before <= 0.2 * len(pasted):
            note = f"{before / len(pasted):.2f} before; there was little to remove"
        return proportion(won, len(pasted), wins).tagged(better="lower", note=note), kept

    def _member_features(self) -> Float[np.ndarray, "n k"] | None:
        if self.members is None or not len(self.members) or not has_known_features(self.network):
            return None
        with torch.no_grad():
            return before_last(self.network, tensor(self.members, self.network)).cpu().numpy()

    def _over_classes(self, name: str, scores: Float[np.ndarray, " classes"]) -> Finding:
        classes = np.arange(len(scores))
        if self.trigger is None or self.trigger.target not in classes:
            return Finding.missing(name, UNKNOWN, len(scores))
        return self._judged(name, scores, classes == self.trigger.target)

    def _over_members(self, name: str, scores: Float[np.ndarray, " n"], members: Split) -> Finding:
        if self.trigger is None:
            return Finding.missing(name, UNKNOWN, len(members))
        poisoned = np.array([bool(found) for found in own_origins_of(members)])
        if not poisoned.any() or poisoned.all():
            return Finding.missing(name, UNTOLD, len(members))
        return self._judged(name, scores, poisoned)

    def _judged(
        self, name: str, scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
    ) -> Finding:
        found = auc(np.asarray(scores, np.float64), positive, self.run.stream(METHOD, name))
        verdict = "finds it" if found.value >= GOOD else "does not find it for certain"
        if not found.value > 0.5:
            verdict = "misses it"
        return Finding(name, found.value, found.low, found.high, len(scores)).tagged(
            better="higher", note=verdict
        )


def _worst_class(name: str, classes: Float[np.ndarray, " classes"], limit: float) -> Finding:
    worst, value = int(np.argmax(classes)), float(classes.max())
    note = f"class {worst} looks poisoned" if value > limit else "no class stands out"
    return Finding(name, value, value, value, len(classes)).tagged(better="lower", note=note)


def tensor(split: Split, network: Network) -> Float[torch.Tensor, "n d"]:
    """The records, where the network is."""
    return torch.from_numpy(features_of(split, network.mean.numel())).to(network.mean.device)


def said(network: Network, features: Float32[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
    """The class that a network sees in each record."""
    with torch.no_grad():
        return network(torch.from_numpy(features).to(network.mean.device)).argmax(1).cpu().numpy()
