"""How a language model is asked: its body and head apart where that is the same as the whole."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engram.signals.batches import Batch
from engram.signals.reduce import Head, TokenRows, reduce_hidden, reduce_logits

WHOLE_LOGITS = 2**26
"""Most logits that are written at once where a model cannot be taken apart."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Asks one model; `head` is None where only the model itself can make logits."""

    model: Any
    head: Head | None

    @classmethod
    def of(cls, model: Any, trial: Batch) -> "Reader":
        """Take the model apart if body and head, on a trial batch, give the model's own logits."""
        head = head_of(model)
        if head is not None and _agrees(model, head, trial):
            return cls(model, head)
        return cls(model, None)

    @property
    def most_tokens(self) -> int:
        """Tokens in a batch, so that whole logits, where they must be written, do fit."""
        if self.head is not None:
            return 2**31
        vocabulary = self.model.config.get_text_config().vocab_size
        return max(1, WHOLE_LOGITS // vocabulary)

    def read(self, batch: Batch) -> TokenRows:
        """Score the tokens that a batch asks for."""
        with torch.inference_mode():
            if self.head is None:
                return self._whole(batch)
            hidden = _hidden(self.model, batch)
            device = hidden.device
            asked = torch.from_numpy(batch.asked).to(device)
            answers = torch.from_numpy(batch.answers).to(device)
            return reduce_hidden(hidden.flatten(0, 1)[asked], self.head, answers)

    def _whole(self, batch: Batch) -> TokenRows:
        logits = self.model(**batch.inputs(self.model.device), use_cache=False).logits
        asked = torch.from_numpy(batch.asked).to(logits.device)
        answers = torch.from_numpy(batch.answers).to(logits.device)
        return reduce_logits(logits.flatten(0, 1)[asked], answers)


def head_of(model: Any) -> Head | None:
    """The output head as the configuration describes it, or None where there is none."""
    layer = model.get_output_embeddings()
    if not isinstance(getattr(layer, "weight", None), Tensor) or model.base_model is model:
        return None
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1)
    scale /= float(getattr(config, "logits_scaling", None) or 1)
    return Head(
        layer.weight.detach(),
        None if getattr(layer, "bias", None) is None else layer.bias.detach(),
        scale,
        getattr(config, "final_logit_softcapping", None),
    )


def _hidden(model: Any, batch: Batch) -> Float[Tensor, "sequences time width"]:
    answer = model.base_model(**batch.inputs(model.device), use_cache=False)
    return answer.last_hidden_state


def _agrees(model: Any, head: Head, trial: Batch) -> bool:
    """Whether head(body(x)) is model(x): exactly but for rounding in the last place.

    Models differ in what they do after the last layer (caps, scales, projections), and new ones
    appear, so nothing is believed that has not been tried.
    """
    with torch.inference_mode():
        whole = model(**trial.inputs(model.device), use_cache=False).logits.flatten(0, 1).float()
        try:
            ours = head.logits(_hidden(model, trial).flatten(0, 1)).float()
        except (AttributeError, TypeError, RuntimeError):
            return False
    if ours.shape != whole.shape:
        return False
    kept = torch.from_numpy(trial.asked).to(whole.device)
    ours, whole = ours[kept], whole[kept]
    finite = torch.isfinite(whole)
    if not torch.equal(finite, torch.isfinite(ours)):
        return False
    tolerance = 1e-5 * float(whole[finite].abs().max().clamp(min=1)) if finite.any() else 0.0
    return bool(((ours - whole)[finite].abs() <= tolerance).all())
