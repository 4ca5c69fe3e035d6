"""Look for a backdoor in a classifier, in seven ways, and say of each whether it finds one.

Neural Cleanse asks of every class how small a patch makes the model see it everywhere; the class of
a backdoor needs far less than the others. ABS drives up one neuron after another, and of those that
bring about a class tries whether a patch of a few pixels can drive them. STRIP lays other pictures
over one: a trigger wins all the same, so the answers hardly vary. Three ways look among the
training records: spectral signatures and activation clustering for a group of a class that sets
itself apart, the nearest neighbours for records that look like another class than their label.
Fine-pruning cuts off the neurons that clean pictures leave idle, where a backdoor may live, trains
what is left on half of the clean pictures, and asks what the trigger still wins.

    anomaly  = (median of r_c - r_c) / (1.4826 MAD),   r_c = log(|m_c|_1 / |m_c|_1 elsewhere)
    lead     = share of pictures that the patch for neuron k turns into c, less that share elsewhere
    H(x)     = mean over others y of the entropy of f((x + y) / 2);   low: a trigger
    score(x) = ((psi(x) - mean of the class) . first singular vector)^2;   high: poisoned

Where the trigger is known - the members tell it, or records that are named - each way is judged by
the AUC with which it tells what is poisoned from what is clean, and STRIP by what it finds at 5 %
false alarms too. Where it is not, four ways still say by themselves whether there is a backdoor:
Neural Cleanse, ABS, activation clustering and the neighbours; how many of them do is counted first.
Clean pictures are the outsiders. "Elsewhere" are networks of the same layout, trained here on
those clean pictures: small pictures are turned by few pixels in any network, and some classes more
easily than others, which is no backdoor.

Differs from the paper: 1. Each way follows a paper of its own: Wang et al. (2019), Liu et al.
(2019, ABS), Gao et al. (2019), Tran et al. (2018), Chen et al. (2018), Liu et al. (2018). 2. Masks
have a weight that does not change, and one value a number, not a pixel; they are compared with
those of clean networks, in logarithms, where the paper compares classes alone, and a class counts
only if its mask turns most pictures and is under four tenths of the smallest of theirs. 3. ABS
drives neurons before the last layer alone, its patch has a fixed number of pixels, and is compared
likewise. 4. No pixel of either goes further than 10 spreads from what the network takes for usual.
5. The AUCs of Neural Cleanse and ABS are over the classes, of which one is the target's. 6.
Relabelling by neighbours looks at pixels, not at features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.methods.measures.backdoor_scan.looking import METHOD, Scanned, tensor
from engram.methods.measures.backdoor_scan.network_ways import masks, neurons, pruned, strip
from engram.methods.measures.backdoor_scan.record_ways import clusters, relabelled, spectral
from engram.methods.measures.backdoor_scan.references import clean_networks
from engram.parts.labelled import check_labelled_split, labels_of
from engram.parts.networks import Network
from engram.parts.training import check_at_least
from engram.parts.triggers import trigger_of

FOUND = "ways that find a backdoor by themselves"


@dataclass(frozen=True)
class BackdoorScan:
    """Neural Cleanse, ABS, STRIP, spectral signatures, clustering, neighbours, fine-pruning."""

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
    """Of each mask, and of each patch that is to drive a neuron."""
    patch: float = 0.0625
    """Share of the pixels that a patch may cover (ABS), in (0, 1]: 4 of 8 by 8."""
    neurons: int = 1
    """How many neurons of each class a patch is sought for (ABS)."""
    blends: int = 20
    """Pictures that are laid over each. STRIP's paper takes 100."""
    neighbours: int = 10
    """How many of the nearest records vote on a label."""
    references: int = 3
    """Clean networks that are trained for comparison; 0: classes are compared with each other."""
    reference_steps: int = 300
    """Of training each of them."""
    cut: float = 0.3
    """Share of the neurons that are cut off, in [0, 1)."""
    tuning_steps: int = 100
    """Of training what is left on half of the outsiders that are looked at; 0: none."""

    def __post_init__(self) -> None:
        for name in ("records", "steps", "neurons", "blends", "neighbours"):
            check_at_least(name, getattr(self, name), 1, "see its default")
        for name in ("tuning_steps", "references", "reference_steps"):
            check_at_least(name, getattr(self, name), 0, "0 leaves that out")
        if not 0 <= self.cut < 1:
            raise EngramError(f"cut is {self.cut}, but must be in [0, 1)", hint="0.3 is a start")
        if not 0 < self.patch <= 1:
            raise EngramError(
                f"patch is {self.patch}, but must be in (0, 1]", hint="0.0625 is 4 pixels of 64"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return how many ways find a backdoor, and what each of them says."""
        network = getattr(target.model, "model", None)
        outsiders = splits.get("outsiders")
        if not isinstance(network, Network) or outsiders is None or not len(outsiders):
            why = f"target {target.name!r} is no network on pictures, or there are no outsiders"
            return (Finding.missing(FOUND, why).tagged(method=METHOD),)
        check_labelled_split(outsiders)
        rows = run.stream(METHOD, "records").permutation(len(outsiders))[: self.records]
        some = outsiders.take(np.sort(rows))
        members = splits.get("members")
        told = run.records(self.trigger, target) if self.trigger else members
        trigger = None if told is None else trigger_of(told)
        network = network.eval()
        elsewhere = clean_networks(
            network,
            tensor(some, network),
            labels_of(some),
            count=self.references,
            steps=self.reference_steps,
            seed=int(run.stream(METHOD, "references").integers(2**31)),
        )
        look = Scanned(network, some, members, trigger, run, tuple(elsewhere))
        warnings, found = [], []
        for way in (
            masks(look, self.steps),
            neurons(look, self.neurons, self.patch, self.steps),
            clusters(look),
            relabelled(look, self.neighbours),
        ):
            warnings.append(way.warns)
            found += way.findings
        found += [*strip(look, self.blends), spectral(look)]
        found += pruned(look, self.cut, self.tuning_steps)
        return tuple(f.tagged(method=METHOD) for f in (counted(warnings), *found))


def counted(warnings: list[bool | None]) -> Finding:
    """How many of the ways that could be tried say that there is a backdoor.

    Args:
        warnings: What each way says; None where it could not be tried.
    """
    asked = [each for each in warnings if each is not None]
    if not asked:
        return Finding.missing(FOUND, "none of the ways that need no trigger could be tried")
    many = float(sum(asked))
    note = f"of {len(asked)} that could be tried"
    return Finding(FOUND, many, many, many, len(asked)).tagged(better="lower", note=note)
