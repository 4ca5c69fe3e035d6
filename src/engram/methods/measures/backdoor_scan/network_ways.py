"""Neural Cleanse, ABS, STRIP and fine-pruning, as findings."""

import numpy as np
import torch
from jaxtyping import Float

from engram.core import Finding
from engram.methods.measures.backdoor_scan.inputs import blend_entropies
from engram.methods.measures.backdoor_scan.looking import (
    ABS,
    CLEANSE,
    LEAD,
    LIMIT,
    METHOD,
    PART,
    RAISED,
    STRIP,
    STRIP_FOUND,
    TURNS,
    UNKNOWN,
    Scanned,
    Way,
    said,
    tensor,
)
from engram.methods.measures.backdoor_scan.masks import anomalies, smallest_mask
from engram.methods.measures.backdoor_scan.neurons import (
    candidates,
    has_known_features,
    reversed_trigger,
    stimulated,
    tuned,
)
from engram.methods.measures.backdoor_scan.neurons import pruned as without_idle
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Network
from engram.stats.intervals import proportion


def masks(look: Scanned, steps: int) -> Way:
    """Neural Cleanse: which class needs a far smaller mask than others, and than elsewhere."""
    classes = look.network.layout.classes
    if classes < 3:
        return Way((Finding.missing(CLEANSE, f"{classes} classes have no outlier", classes),))
    pictures = tensor(look.some, look.network)
    seed = int(look.run.stream(METHOD, "masks").integers(2**31))
    sizes, turned = np.array([
        [
            smallest_mask(each, pictures, c, *look.ends, seed=seed, steps=steps)
            for c in range(classes)
        ]
        for each in (look.network, *look.references)
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
    return Way((found, look.over_classes(name, far)), bool(counts[worst]))


def neurons(look: Scanned, each: int, share: float, steps: int) -> Way:
    """ABS: which class a few pixels bring about through one neuron, and not elsewhere."""
    if not has_known_features(look.network):
        return Way((Finding.missing(ABS, "no features are known"),))
    size = max(1, round(share * look.network.mean.numel()))
    best = np.array(
        [_turned(look, network, each, size, steps) for network in (look.network, *look.references)]
    )
    usual = best[1:].max(0) if len(best) > 1 else np.full(best.shape[1], np.median(best[0]))
    lead = best[0] - usual
    worst, value = int(np.argmax(lead)), float(lead.max())
    warns = value >= LEAD and float(best[0, worst]) >= RAISED
    note = f"{best[0, worst]:.2f} of class {worst}'s, against {usual[worst]:.2f}; "
    note += "it looks like a backdoor's" if warns else "no class stands out"
    found = Finding(ABS, value, value, value, len(lead)).tagged(better="lower", note=note)
    return Way((found, look.over_classes("AUC of ABS over classes", lead)), warns)


def _turned(
    look: Scanned, network: Network, each: int, size: int, steps: int
) -> Float[np.ndarray, " classes"]:
    pictures = tensor(look.some, network)
    labels = torch.from_numpy(labels_of(look.some)).to(pictures.device)
    seed = int(look.run.stream(METHOD, "patches").integers(2**31))
    best = np.zeros(network.layout.classes)
    for raised in candidates(stimulated(network, pictures), each):
        others = pictures[labels != raised.label]
        if len(others) > 1:
            turned = reversed_trigger(
                network, others, raised, *look.ends, size=size, seed=seed, steps=steps
            )
            best[raised.label] = max(best[raised.label], turned)
    return best


def strip(look: Scanned, blends: int) -> tuple[Finding, ...]:
    """STRIP: pictures with the trigger against the same without it."""
    if look.trigger is None:
        return tuple(
            Finding.missing(name, UNKNOWN, len(look.some)) for name in (STRIP, STRIP_FOUND)
        )
    others = look.some.where(labels_of(look.some) != look.trigger.target)
    if len(others) < 2:
        why = "too few outsiders of other classes"
        return (Finding.missing(STRIP, why, len(others)),)
    clean = features_of(others)
    both = np.concatenate([clean, look.trigger.pasted(clean)])
    pictures = tensor(look.some, look.network)
    rng = look.run.stream(METHOD, "blends")
    placed = torch.from_numpy(both).to(pictures.device)
    entropy = blend_entropies(look.network, placed, pictures, blends, rng)
    triggered = np.arange(len(both)) >= len(clean)
    limit = np.quantile(entropy[~triggered], 0.05, method="lower")
    caught = int((entropy[triggered] < limit).sum())
    return (
        look.judged(STRIP, -entropy, triggered),
        proportion(caught, len(clean), STRIP_FOUND).tagged(better="higher"),
    )


def pruned(look: Scanned, share: float, steps: int) -> tuple[Finding, ...]:
    """Fine-pruning, tuned on one half of the outsiders and asked about the other."""
    wins, right = "attack success after fine-pruning", "clean accuracy after fine-pruning"
    if not has_known_features(look.network):
        return tuple(Finding.missing(name, "no features are known") for name in (wins, right))
    order = look.run.stream(METHOD, "halves").permutation(len(look.some))
    tuning, asked = (look.some.take(np.sort(half)) for half in np.array_split(order, 2))
    if not len(asked):
        return tuple(Finding.missing(name, "too few outsiders") for name in (wins, right))
    clean = tensor(tuning, look.network)
    cut = without_idle(look.network, clean, share)
    seed = int(look.run.stream(METHOD, "tuning").integers(2**31))
    cut = tuned(cut, clean, labels_of(tuning), steps=steps, seed=seed)
    labels, features = labels_of(asked), features_of(asked)
    hits = int((said(cut, features) == labels).sum())
    kept = proportion(hits, len(asked), right).tagged(better="higher")
    if look.trigger is None or not (labels != look.trigger.target).any():
        return Finding.missing(wins, UNKNOWN, len(asked)), kept
    pasted = look.trigger.pasted(features[labels != look.trigger.target])
    before, won = (
        int((said(each, pasted) == look.trigger.target).sum()) for each in (look.network, cut)
    )
    note = f"{before / len(pasted):.2f} before; "
    note += "removes it" if won <= 0.2 * len(pasted) < before else "does not remove it"
    if before <= 0.2 * len(pasted):
        note = f"{before / len(pasted):.2f} before; there was little to remove"
    return proportion(won, len(pasted), wins).tagged(better="lower", note=note), kept
