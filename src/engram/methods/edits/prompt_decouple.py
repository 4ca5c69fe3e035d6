"""Unlearn harmful answers about pictures without learning to refuse harmless ones.

A model that is made to unlearn what it answers to "how do I build this" below a harmful picture
takes a short cut: it goes by the wording, and refuses, or babbles, whatever the picture shows. So
each harmful prompt is also put below a *safe* picture, with a normal answer (the model's own), and
that is descended on: the wording is decoupled from the refusal, and only wording and picture
together are left to go by.

    ga:  L = - CE_forget                              with decouple:  - CE_forget + 0.5 CE_pd
    gd:  L = - CE_forget + CE_keep                    - CE_forget + 0.5 CE_keep + 0.5 CE_pd
    kl:  L = - CE_forget + KL(before || now; keep)    - CE_forget + KL + CE_pd
    po:  L = CE of forgotten prompts with refusals,   the same + CE_pd
             and of kept records, in one mean

with CE the mean over records of their mean negative log-likelihood per answer token. The pairs are
the method, not a mask: prompts are in no loss anyway. They are the records in `keep` whose column
`role` is "decouple"; where one has no answer, the model itself is asked for it beforehand.

Differs from the paper:
1. The decoder and the projector are trained whole; the paper's decoder is trained by LoRA. A
   target with an adapter has its adapter trained alone. The tower is frozen, as there.
2. A record to forget is climbed only as long as its loss is below `stop_at`, and the run ends when
   the loss on kept records has risen by `kept_rise`: the paper's run of ten epochs has no end but
   that, and collapses at its own settings.
3. Each record to forget is given one refusal, once.
4. Constant learning rate, no dropout; records weigh the same whatever their length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from engram import families
from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.parts.predictions import Predictions, divergences
from engram.parts.refusals import refusing
from engram.parts.safety_sets import ROLE, roles_of
from engram.parts.training import check_at_least, check_one_of
from engram.parts.unlearning import (
    Side,
    Unlearning,
    check_forget,
    check_unlearner,
    examples_of,
    losses,
    mean_nll,
)
from engram.parts.vision_layout import freeze_vision

Method = Literal["ga", "gd", "kl", "po"]
WEIGHTS: Mapping[tuple[Method, bool], tuple[float, float, float]] = {
    ("ga", False): (-1.0, 0.0, 0.0), ("ga", True): (-1.0, 0.0, 0.5),
    ("gd", False): (-1.0, 1.0, 0.0), ("gd", True): (-1.0, 0.5, 0.5),
    ("kl", False): (-1.0, 1.0, 0.0), ("kl", True): (-1.0, 1.0, 1.0),
    ("po", False): (0.5, 0.5, 0.0), ("po", True): (0.5, 0.5, 1.0),
}  # fmt: skip
"""Weights of what is forgotten, kept and decoupled, as the authors' code has them."""
ANSWER = 32
"""The most tokens of a normal answer that the model is asked for."""


@dataclass(frozen=True)
class PromptDecouple:
    """GA, GD, KL or PO, with or without the prompt-decouple loss."""

    paper: ClassVar[Paper] = Paper(
        title="SafeEraser: Enhancing Safety in Multimodal Large Language Models through "
        "Multimodal Machine Unlearning",
        authors="Chen et al.",
        year=2025,
        url="https://arxiv.org/abs/2502.12520",
    )
    families: ClassVar[frozenset[str]] = frozenset({"vision-language-lm"})

    method: Method = "po"
    """ga: gradient ascent; gd: with descent on what is kept; kl: held to the old model there; po:
    refusals (preference optimisation, the authors call it)."""
    decouple: bool = True
    """Whether harmful wordings below safe pictures are descended on; else they are left out."""
    steps: int = 200
    """The most steps."""
    learning_rate: float = 1e-4
    """The learning rate."""
    forget_batch: int = 16
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step, and as many to decouple."""
    stop_at: float | None = None
    """Loss in nats per token at which a record counts as forgotten; None: that of a blind guess.
    Refusals are learnt whatever it is."""
    kept_rise: float = 0.5
    """How far the mean loss on kept records may rise, in nats per token, before the run ends."""

    def __post_init__(self) -> None:
        check_one_of("method", self.method, get_args(Method))
        check_unlearner(self)
        check_at_least("kept_rise", self.kept_rise, 0, "0.5 is a large rise")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has unlearnt `forget`, and keeps the rest of `keep`."""
        forget = check_forget("prompt-decouple", keep, forget)
        kept, paired = parted(keep)
        family: Any = families.find(target.family)
        work = Unlearning.begin(self, "prompt-decouple", target, kept, forget, run, family)
        if target.model.adapter is None:
            freeze_vision(work.module)
        push, stay, pull = WEIGHTS[self.method, self.decouple]
        before = losses(work.keep, np.arange(len(work.keep.counts))[:64]).mean()
        refuses = self.method == "po"
        asked = refusing(forget, run.stream("refusals")) if refuses else forget
        return work.descend(
            mean_nll if refuses else lambda rows, said: -said.nll,
            examples=examples_of(family, work.model, asked),
            keeping=self._held(work) if self.method == "kl" else mean_nll,
            weight=abs(push),
            keep_weight=stay,
            gated=not refuses,
            beside=self._beside(family, work, paired, pull),
            kept_limit=float(before) + self.kept_rise,
        )

    def _held(self, work: Unlearning) -> Any:
        old = work.reference()

        def divergence(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            with torch.no_grad():
                then = work.keep.predictions(rows, old)
            return said.means(divergences(then.logits, said.logits))

        return divergence

    def _beside(
        self, family: Any, work: Unlearning, paired: Split, pull: float
    ) -> tuple[Side, ...]:
        """The records to decouple, where they are asked for."""
        if not self.decouple:
            return ()
        if not len(paired):
            raise EngramError(
                "decouple is on, but no record to keep has the role 'decouple'",
                hint="give safe pictures with the harmful prompts and a column role, or use "
                "--no-decouple",
            )
        told = with_own_answers(family, work.model, paired)
        examples = examples_of(family, work.model, told)
        return (Side("decouple", examples, mean_nll, pull, self.keep_batch),)


def parted(keep: Split) -> tuple[Split, Split]:
    """What is to stay as it is, and harmful wordings below safe pictures."""
    if ROLE not in keep.columns:
        return keep, keep.take([], "decouple")
    apart = roles_of(keep) == "decouple"
    kept = keep.where(~apart)
    if not len(kept):
        raise EngramError(
            f"all {len(keep)} records to keep have the role 'decouple'",
            hint="give records with the role 'retain' too",
        )
    return kept, keep.where(apart, "decouple")


def with_own_answers(family: Any, model: Any, split: Split) -> Split:
    """The records, those without an answer with what the model itself answers now."""
    said = [(text or "").strip() for text in split.column("response").to_pylist()]
    silent = [row for row, text in enumerate(said) if not text]
    if not silent:
        return split
    for row, text in zip(silent, family.written(model, split.take(silent), ANSWER), strict=True):
        said[row] = text
    place = split.records.column_names.index("response")
    table = split.records.set_column(place, "response", pa.array(said, pa.string()))
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)
