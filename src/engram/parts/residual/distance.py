"""How far unlearning moved the weights, in units of the distance to a model trained again."""

from collections.abc import Sequence

from engram.core import EngramError, Finding, Target
from engram.stats.residual import weight_distance

DISTANCE = "distance of the weights"


def distance_of(models: Sequence[Target | None]) -> Finding:
    """Distance of the first model from the last; the second was trained without the records."""
    if models[1] is None:
        return Finding.missing(DISTANCE, "it is told in units of a retrained model's distance", 1)
    weights = [
        {k: v.detach().float().cpu().numpy() for k, v in each.model.model.named_parameters()}
        for each in models
        if each is not None
    ]
    try:
        value = weight_distance(*weights)
    except EngramError as problem:
        return Finding.missing(DISTANCE, str(problem), 1)
    note = "from the original, in units of the retrained model's"
    return Finding.exact(DISTANCE, value, 1).tagged(note=note)
