"""What attacks that compare with a reference model share: opening it, and losses side by side."""

import numpy as np
from jaxtyping import Float

from engram import families
from engram.core import EngramError, Run, Split, Target
from engram.parts.token_scores import check_scored

BASE = "base"
"""The name that stands for the model that the target was fine-tuned from."""


def find_reference(where: str, target: Target, run: Run) -> Target:
    """The reference model called `where`.

    Args:
        where: A target folder, a model folder or a model's name; "base" is the target's own base.
        target: The model that is audited.
        run: Opens the reference.

    Raises:
        EngramError: The target has no base, or the reference is of another family.
    """
    where = target.lineage.base if where == BASE else where
    if not where:
        raise EngramError(
            f"target {target.name!r} does not say which base it was fine-tuned from",
            hint="name a model that never saw the records with --reference MODEL, or leave "
            "this attack out",
        )
    reference = run.target(where)
    if reference.family != target.family:
        raise EngramError(
            f"the reference {where!r} is a {reference.family}, but target {target.name!r} "
            f"is a {target.family}",
            hint="losses can be compared only between models of one family",
        )
    return reference


def both_losses(
    reference: Target, target: Target, split: Split, run: Run
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Losses of the records under the reference and under the target, in nats.

    Raises:
        EngramError: They are language models, causal or masked, that cut texts differently.
    """
    if families.offered(target.family, target.model) & {"tokens", "logprobs"}:
        losses = text_losses(reference, target, split, run)
    else:
        if hasattr(target.model, "tokenizer"):
            check_same_tokenizer(reference, target)
        losses = run.losses(reference, split), run.losses(target, split)
    first, second = (np.asarray(each, np.float64) for each in losses)
    return first, second


def text_losses(
    reference: Target, target: Target, split: Split, run: Run
) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses a token under both models, which must cut the texts into the same tokens.

    Raises:
        EngramError: They do not, or a record has no token that is scored.
    """
    theirs, ours = run.tokens(reference, split), run.tokens(target, split)
    check_scored(ours)
    same = np.array_equal(theirs.offsets, ours.offsets) and np.array_equal(theirs.token, ours.token)
    if not same:
        raise EngramError(
            f"the reference {reference.name!r} cuts the texts into other tokens than target "
            f"{target.name!r} ({len(theirs.token)} against {len(ours.token)} tokens), so their "
            "losses cannot be compared",
            hint="take a reference with the target's own tokenizer: its base, or another "
            "fine-tune of that base",
        )
    return theirs.losses(), ours.losses()


def check_same_tokenizer(reference: Target, target: Target) -> None:
    """Refuse two masked models that cut texts differently: their tokens are not the same.

    Raises:
        EngramError: Their vocabularies, rules or mask tokens differ.
    """
    from engram.parts.published_model import tokenizer_facts

    one, other = reference.model.tokenizer, target.model.tokenizer
    if tokenizer_facts(one) != tokenizer_facts(other) or one.mask_token != other.mask_token:
        raise EngramError(
            f"the reference {reference.name!r} has another tokenizer than target "
            f"{target.name!r} ({len(one)} against {len(other)} tokens), so what they "
            "say of a text cannot be compared",
            hint="take a reference with the target's own tokenizer: its base, or another "
            "fine-tune of that base",
        )
