"""Fine-tune a vision-language model on pictures with questions and answers.

The tower that sees is frozen, as is usual: it is the most general part, and small data would spoil
it. What is trained is the way from what is seen to what is said, the projector and the decoder:
all of their weights, or small changes of low rank (LoRA) to each of their linear maps, which are
saved without the base.

    L(theta) = - (1 / N) sum over records (image v, prompt q, answer a), tokens t of
               log p_theta(a_t | v, q, a_<t),  theta_0 = base

where N counts the answers' tokens of a batch. `method` says which weights are in theta.

Differs from the paper:
1. With LoRA the projector is changed by LoRA too, instead of whole, so that peft opens the folder.
2. Training is in float32 whatever the base was saved in; the result is saved as the base was.
3. No dropout in LoRA.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.families.vision_language_lm import FAMILY
from engram.parts.training import (
    Epochs,
    Plan,
    Schedule,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
    check_one_of,
    key_of,
)
from engram.parts.tuned_weights import Part, copied_for, thawed
from engram.parts.vision_layout import freeze_vision, speaking_maps

EXTRA_FOR = {"peft": "method lora", "vision": "a published processor"}


@dataclass(frozen=True)
class FinetuneVlm:
    """Fine-tuning of a vision-language model, by LoRA or whole."""

    paper: ClassVar[Paper] = Paper(
        title="Visual Instruction Tuning",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2304.08485",
    )
    family: ClassVar[str] = "vision-language-lm"

    base: str = ""
    """The model to start from: a target of ours, a model folder, or a published model's name."""
    method: Literal["lora", "full"] = "lora"
    """What is trained of decoder and projector: lora (changes of low rank), full (all weights)."""
    tune_vision: bool = False
    """Method full: whether the tower that sees is trained too."""
    rank: int = 32
    """Method lora: rank of the changes."""
    alpha: float = 256.0
    """Method lora: their scale, times the rank."""
    epochs: int = 3
    """Times that each record is seen."""
    batch_size: int = 16
    """Records in a step."""
    learning_rate: float = 1e-4
    """The highest learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = 0.06
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        check_one_of("method", self.method, ("lora", "full"))
        for name in ("rank", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        if self.tune_vision and self.method != "full":
            raise EngramError(
                f"tune_vision is on, but method is {self.method!r}, which leaves the tower alone",
                hint="--method full trains it",
            )
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on `image`, `prompt` and `response`; the base stays as it is."""
        FAMILY.check(split)
        base = self.opened(run)
        kind = base.model.model.dtype
        vlm = self._copied(base, run)
        examples = FAMILY.examples(vlm, split)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        key = key_of(self, run.seed, split.fingerprint, base.fingerprint)
        training = Training(vlm.model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples, epochs.rows(step))):
            pass
        vlm.model.to(kind)
        thawed(vlm)
        return Draft(self.family, vlm, tuple(training.trace))

    def opened(self, run: Run) -> Target:
        """The base, which must be a vision-language model with weights."""
        if not self.base:
            raise EngramError(
                "finetune-vlm has no base to start from",
                hint="--base: a target that pretrain-vlm made, a model folder or a published name",
            )
        base = run.target(self.base)
        if base.family != self.family:
            raise EngramError(
                f"the base {self.base} is a {base.family}, which sees no pictures",
                hint="choose an image-text-to-text model",
            )
        base.require("weights", "finetune-vlm")
        return base

    def _copied(self, base: Target, run: Run) -> Any:
        where = str(base.folder.resolve()) if base.folder else self.base
        known = base.model.adapter
        targets: tuple[str, ...] = ()
        if self.method == "lora" and known is None:
            targets = tuple(speaking_maps(base.model.model))
        part = Part(self.method, rank=self.rank, alpha=self.alpha, targets=targets)
        vlm = copied_for(part, base.model, where, base.fingerprint, run.seed, run.device)
        if self.method == "full" and not self.tune_vision:
            freeze_vision(vlm.model)
        return vlm
