"""A network that is looked at, and how what a way says of it becomes a finding with a verdict."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from engram.core import Finding, Run, Split
from engram.methods.measures.backdoor_scan.neurons import has_known_features
from engram.parts.distillation import before_last
from engram.parts.labelled import features_of
from engram.parts.networks import Network
from engram.parts.origins import own_origins_of
from engram.parts.protection import RANGE
from engram.parts.triggers import Trigger
from engram.stats import auc

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

    def member_features(self) -> Float[np.ndarray, "n k"] | None:
        """What goes into the last layer, of each member; None where that is not known."""
        if self.members is None or not len(self.members) or not has_known_features(self.network):
            return None
        with torch.no_grad():
            return before_last(self.network, tensor(self.members, self.network)).cpu().numpy()

    def over_classes(self, name: str, scores: Float[np.ndarray, " classes"]) -> Finding:
        """How a score a class tells the trigger's class from others."""
        classes = np.arange(len(scores))
        if self.trigger is None or self.trigger.target not in classes:
            return Finding.missing(name, UNKNOWN, len(scores))
        return self.judged(name, scores, classes == self.trigger.target)

    def over_members(self, name: str, scores: Float[np.ndarray, " n"], members: Split) -> Finding:
        """How a score a member tells poisoned ones from clean ones."""
        if self.trigger is None:
            return Finding.missing(name, UNKNOWN, len(members))
        poisoned = np.array([bool(found) for found in own_origins_of(members)])
        if not poisoned.any() or poisoned.all():
            return Finding.missing(name, UNTOLD, len(members))
        return self.judged(name, scores, poisoned)

    def judged(
        self, name: str, scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
    ) -> Finding:
        """The AUC of a score, with a verdict."""
        found = auc(np.asarray(scores, np.float64), positive, self.run.stream(METHOD, name))
        verdict = "finds it" if found.value >= GOOD else "does not find it for certain"
        if not found.value > 0.5:
            verdict = "misses it"
        return Finding(name, found.value, found.low, found.high, len(scores)).tagged(
            better="higher", note=verdict
        )


def worst_class(name: str, classes: Float[np.ndarray, " classes"], limit: float) -> Finding:
    """The class with the largest score, and whether it is above the limit."""
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
