"""Train a small vision-language model from scratch, with a tokenizer learnt from the same records.

It is built as the large ones are: a tower cuts the picture into pieces and makes a vector of each,
a projector turns these into what the decoder takes for tokens, and the decoder reads them, then
the prompt, and writes the answer. Everything that it knows, it knows from these records.

    L(theta) = - (1 / N) sum over records (image v, prompt q, answer a), tokens t of
               log p_theta(a_t | v, q, a_<t)

where N counts the answers' tokens of a batch: those of pictures and prompts are read only.

Differs from the paper:
1. Tower, projector and decoder are trained together from random weights; the paper's first two
   stages start from a published tower and a published decoder.
2. Sizes are those of a toy, chosen to train on a CPU in minutes; words are whole tokens.
3. The words of our refusals are in the vocabulary, so that a model can be taught to refuse.
"""

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split
from engram.families.vision_language_lm import FAMILY, VisionLanguageModel, tiny
from engram.parts.image_examples import questions_and_answers
from engram.parts.images import images_of
from engram.parts.refusals import REFUSALS
from engram.parts.training import (
    Epochs,
    Plan,
    Schedule,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
    key_of,
)


@dataclass(frozen=True)
class PretrainVlm:
    """Training of a LLaVA layout from random weights."""

    paper: ClassVar[Paper] = Paper(
        title="Visual Instruction Tuning",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2304.08485",
    )
    family: ClassVar[str] = "vision-language-lm"

    patch: int = 4
    """Height and width of a piece of the picture, which is a token; it divides the picture's."""
    vision_layers: int = 2
    """Blocks of the tower that sees."""
    vision_width: int = 64
    """Numbers in a piece's vector; a multiple of `heads`."""
    layers: int = 2
    """Blocks of the decoder that writes."""
    width: int = 128
    """Numbers in a token's vector; a multiple of `heads`."""
    heads: int = 4
    """Attention heads of each block, of tower and decoder."""
    vocabulary: int = 1024
    """The most words that the tokenizer may learn."""
    context: int = 64
    """Tokens that the model sees at once, those of the picture included."""
    spread: float = 0.05
    """Standard deviation of the decoder's weights before training."""
    epochs: int = 10
    """Times that each record is seen."""
    batch_size: int = 64
    """Records in a step."""
    learning_rate: float = 2e-3
    """The highest learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        least = {"vocabulary": 8, "context": 8}
        sizes = ("patch", "vision_layers", "vision_width", "layers", "width", "heads")
        for name in (*sizes, "vocabulary", "context", "epochs", "batch_size"):
            value = least.get(name, 1)
            check_at_least(name, getattr(self, name), value, f"{value} is the least that works")
        for name in ("width", "vision_width"):
            if getattr(self, name) % self.heads:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, which {self.heads} heads cannot share "
                    "equally",
                    hint=f"make it a multiple of {self.heads}",
                )
        if not 0 < self.spread <= 1:
            raise EngramError(
                f"spread is {self.spread}, but must be in (0, 1]", hint="0.05 suits a width of 128"
            )
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Learn a tokenizer and a model from the columns `image`, `prompt` and `response`."""
        vlm = self.untrained(split, run)
        examples = FAMILY.examples(vlm, split)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        key = key_of(self, run.seed, split.fingerprint)
        training = Training(vlm.model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples, epochs.rows(step))):
            pass
        return Draft(self.family, vlm, tuple(training.trace))

    def untrained(self, split: Split, run: Run) -> VisionLanguageModel:
        """The tokenizer, and a model of random weights, on the run's device."""
        prompts, responses = questions_and_answers(split)
        vlm = tiny(
            chain(prompts, responses, REFUSALS),
            seed=run.seed,
            side=side_of(split),
            patch=self.patch,
            vision_layers=self.vision_layers,
            vision_width=self.vision_width,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            vocabulary=self.vocabulary,
            context=self.context,
            spread=self.spread,
        )
        vlm.model.to(run.device)  # type: ignore[arg-type]
        return vlm


def side_of(split: Split) -> int:
    """Height and width of all pictures.

    Raises:
        EngramError: There are none, or they are not squares of one size.
    """
    shapes = {image.shape[:2] for image in images_of(split)}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        some = ", ".join(f"{h} x {w}" for h, w in sorted(shapes)[:3]) or "there are none"
        raise EngramError(
            f"the pictures of split {split.name!r} are not squares of one size ({some})",
            hint="scale them first: a model from scratch takes pictures as they are",
        )
    return int(next(iter(shapes))[0])
