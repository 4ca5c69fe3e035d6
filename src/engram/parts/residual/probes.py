"""Is the answer, or its truth, still written in the hidden states? Linear maps that look for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.parts.greedy import at_rest
from engram.parts.residual.asking import pairs

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Among which leave-one-out errors choose, on states of unit variance."""
BATCH = 64


def states_before(
    lm: Any, prompts: Sequence[str], answers: Sequence[str], *, last: bool = False
) -> Float[np.ndarray, "layers n width"]:
    """Hidden states of every layer at one place of each text, the embeddings' first.

    Args:
        lm: A language model; what guards it is left aside.
        prompts: What is asked.
        answers: What comes after.
        last: Read at the answer's last token; else at the prompt's, from which the answer's first
            token is predicted.

    Returns:
        Zeros where prompt and answer do not fit into the context.
    """
    examples = pairs(lm, lm.model, prompts, answers)
    found: Any = None
    order = np.argsort(examples.lengths, kind="stable")
    with at_rest(lm.model):
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            tokens, labels = (t.to(lm.device) for t in examples.padded(rows))
            mask = (tokens >= 0).long()
            states = lm.model(
                input_ids=tokens.clamp(min=0),
                attention_mask=mask,
                use_cache=False,
                output_hidden_states=True,
            ).hidden_states
            # Labels stand one place before the tokens that they are.
            place = mask.sum(1) - 1 if last else (labels >= 0).int().argmax(1)
            lines = torch.arange(len(rows), device=place.device)
            some = torch.stack([layer[lines, place] for layer in states]).float().cpu().numpy()
            if found is None:
                found = np.zeros((len(some), len(prompts), some.shape[-1]), np.float32)
            found[:, examples.record[rows]] = some
    return found if found is not None else np.zeros((1, len(prompts), 1), np.float32)


def guessed(
    train: Float[np.ndarray, "layers n width"],
    labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "layers m width"],
) -> Int[np.ndarray, "layers m"]:
    """The class that ridge regression onto the classes, learnt from `train`, gives each of `test`.

    Penalties are chosen for each layer by leave-one-out errors (Golub et al., 1979).
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.preprocessing import StandardScaler

    made = np.empty(test.shape[:2], np.int64)
    for layer, (seen, asked) in enumerate(zip(train, test, strict=True)):
        scale = StandardScaler().fit(seen)
        probe = RidgeClassifierCV(alphas=PENALTIES).fit(scale.transform(seen), labels)
        made[layer] = probe.predict(scale.transform(asked))
    return made
