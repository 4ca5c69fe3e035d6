"""Train a small masked language model from scratch, with a tokenizer learnt from the same records.

Some words of each text are hidden, and the model learns to guess them from both sides. Everything
that it knows, it knows from these records: there is no base that could have seen them before. The
model has the layout of BERT:

    L(theta) = - (1 / N) sum over records x, chosen tokens t of  log p_theta(x_t | x, masked)

Of each text 15 % of the tokens are chosen, anew at every step; of these 80 % are hidden behind
the mask token, 10 % exchanged for a random token and 10 % left as they are. N counts the chosen
tokens of a batch.

Differs from the paper:
1. Only hidden words are learnt: there is no second task of telling whether two sentences follow
   each other.
2. Each record is a sequence of its own; a long one is cut into windows of nearly equal length.
3. The number of chosen tokens of a window is its share, rounded to a whole number.
4. Sizes are those of a toy; the tokenizer is a byte-level one, so that no text has unknown words.
5. No dropout unless it is asked for.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split
from engram.families.masked_lm import FAMILY, MaskedLanguageModel, tiny_masked
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

SMALLEST_VOCABULARY = 260
"""256 bytes and four special tokens."""


@dataclass(frozen=True)
class PretrainMlm:
    """Hidden-token training of a BERT layout from random weights."""

    paper: ClassVar[Paper] = Paper(
        title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        authors="Devlin et al.",
        year=2019,
        url="https://arxiv.org/abs/1810.04805",
    )
    family: ClassVar[str] = "masked-lm"

    vocabulary: int = 2048
    """The most tokens that the tokenizer may learn; at least 260."""
    layers: int = 4
    """Transformer blocks."""
    width: int = 128
    """Numbers in a token's vector; a multiple of `heads`."""
    heads: int = 4
    """Attention heads of each block."""
    context: int = 128
    """Tokens that the model sees at once; longer records are cut into windows."""
    dropout: float = 0.0
    """Dropout probability while training, in [0, 1). The paper uses 0.1."""
    share: float = 0.15
    """Share of a text's tokens that are chosen at each step, in (0, 1]. The paper uses 0.15."""
    epochs: int = 3
    """Times that each record is seen."""
    batch_size: int = 32
    """Records (or windows of long ones) in a step."""
    learning_rate: float = 1e-3
    """The highest learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "linear"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        least = {"vocabulary": SMALLEST_VOCABULARY, "context": 8}
        for name in ("vocabulary", "layers", "width", "heads", "context", "epochs", "batch_size"):
            value = least.get(name, 1)
            check_at_least(name, getattr(self, name), value, f"{value} is the least that works")
        if self.width % self.heads:
            raise EngramError(
                f"width is {self.width}, which {self.heads} heads cannot share equally",
                hint=f"make it a multiple of {self.heads}",
            )
        if not 0 <= self.dropout < 1:
            raise EngramError(
                f"dropout is {self.dropout}, but must be in [0, 1)", hint="0.1 is usual"
            )
        if not 0 < self.share <= 1:
            raise EngramError(f"share is {self.share}, but must be in (0, 1]", hint="0.15 is usual")
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Learn a tokenizer and a model from the column `text`."""
        FAMILY.check(split)
        lm = self.untrained(split, run)
        examples = FAMILY.examples(lm, split, share=self.share, seed=run.seed)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        key = key_of(self, run.seed, split.fingerprint)
        training = Training(lm.model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples.at(step), epochs.rows(step))):
            pass
        return Draft(self.family, lm, tuple(training.trace))

    def untrained(self, split: Split, run: Run) -> MaskedLanguageModel:
        """The tokenizer, and a model of random weights, on the run's device."""
        lm = tiny_masked(
            split.texts,
            seed=run.seed,
            vocabulary=self.vocabulary,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            context=self.context,
            dropout=self.dropout,
        )
        lm.model.to(run.device)  # type: ignore[arg-type]
        return lm
