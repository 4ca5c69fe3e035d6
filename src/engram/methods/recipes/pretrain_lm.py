"""Train a small language model from scratch, with a tokenizer learnt from the same records.

Everything that the model knows, it knows from these records: there is no base that could have
seen them before. That makes it the cleanest subject for questions of memorisation, and it needs
no download. The model has the layout of GPT-2 and learns to predict each next token:

    L(theta) = - (1 / N) sum over records x, tokens t of  log p_theta(x_t | x_<t)

where N counts the predicted tokens of a batch, so that padding weighs nothing.

Differs from the paper:
1. Each record is a sequence of its own, begun by one token and closed by another; records are
   not strung together into one stream, so no record is read in the context of another.
2. Sizes are those of a toy, chosen to train on a CPU in minutes.
3. No dropout unless it is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, get_args

from engram.core import Draft, EngramError, Paper, Run, Split
from engram.families.causal_lm import FAMILY, LanguageModel, Tokens, tiny
from engram.parts.training import (
    Epochs,
    Plan,
    Schedule,
    Step,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
    key_of,
)

SMALLEST_VOCABULARY = 259
"""256 bytes and three special tokens."""


@dataclass(frozen=True)
class PretrainLm:
    """Next-token training of a GPT-2 layout from random weights."""

    paper: ClassVar[Paper] = Paper(
        title="Language Models are Unsupervised Multitask Learners",
        authors="Radford et al.",
        year=2019,
        url="https://cdn.openai.com/better-language-models/"
        "language_models_are_unsupervised_multitask_learners.pdf",
    )
    family: ClassVar[str] = "causal-lm"

    tokenizer: Tokens = "bytes"
    """bytes: pairs of bytes grown into words, which can write anything; words: whole words alone,
    for small worlds, where every other word is one and the same unknown token; pieces: what lies
    between blanks, for records that are written as tokens already."""
    lexicon: str = ""
    """Further texts that the tokenizer learns its words from, and the model does not: what it is
    to be fine-tuned on later, say."""
    vocabulary: int = 2048
    """The most tokens that the tokenizer may learn; of bytes at least 259."""
    layers: int = 4
    """Transformer blocks."""
    width: int = 128
    """Numbers in a token's vector; a multiple of `heads`."""
    heads: int = 4
    """Attention heads of each block."""
    context: int = 256
    """Tokens that the model sees at once; longer records are cut into pieces."""
    positions: bool = True
    """Whether the model is told the place of each token; without, only the causal mask tells."""
    dropout: float = 0.0
    """Dropout probability while training, in [0, 1)."""
    spread: float = 0.02
    """Standard deviation of the weights before training. GPT-2's 0.02 suits a width of 768; a
    narrow model learns several times faster from about one divided by the root of its width."""
    epochs: int = 3
    """Times that each record is seen."""
    batch_size: int = 16
    """Records (or pieces of long ones) in a step."""
    learning_rate: float = 1e-3
    """The highest learning rate."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        if self.tokenizer not in get_args(Tokens):
            raise EngramError(
                f"tokenizer is {self.tokenizer!r}, but must be bytes, words or pieces",
                hint="bytes can write every text",
            )
        fewest = SMALLEST_VOCABULARY if self.tokenizer == "bytes" else 8
        least = {"vocabulary": fewest, "context": 8}
        for name in ("vocabulary", "layers", "width", "heads", "context", "epochs", "batch_size"):
            value = least.get(name, 1)
            check_at_least(name, getattr(self, name), value, f"{value} is the least that works")
        if self.width % self.heads:
            raise EngramError(
                f"width is {self.width}, which {self.heads} heads cannot share equally",
                hint=f"make it a multiple of {self.heads}",
            )
        if not 0 < self.spread <= 1:
            raise EngramError(
                f"spread is {self.spread}, but must be in (0, 1]", hint="0.02 is GPT-2's"
            )
        if not 0 <= self.dropout < 1:
            raise EngramError(
                f"dropout is {self.dropout}, but must be in [0, 1)", hint="0.1 is usual"
            )
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Learn a tokenizer and a model from the column `text`."""
        lm, training, steps = self.begun(split, run)
        for _ in steps:
            pass
        return Draft(self.family, lm, tuple(training.trace))

    def begun(self, split: Split, run: Run) -> tuple[LanguageModel, Training, Iterator[Step]]:
        """The model, how it is trained, and the steps: it learns as they are asked for."""
        FAMILY.check(split)
        lexicon = run.records(self.lexicon) if self.lexicon else None
        lm = self.untrained(split, run, lexicon)
        examples = FAMILY.examples(lm, split)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        words = [lexicon.fingerprint] if lexicon else []
        key = key_of(self, run.seed, split.fingerprint, *words)
        training = Training(lm.model, plan, run, key, epochs.per_epoch)
        return lm, training, training.steps(lambda step: batch_loss(examples, epochs.rows(step)))

    def untrained(self, split: Split, run: Run, lexicon: Split | None = None) -> LanguageModel:
        """The tokenizer, and a model of random weights, on the run's device."""
        lm = tiny(
            chain(split.texts, lexicon.texts if lexicon else ()),
            seed=run.seed,
            vocabulary=self.vocabulary,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            context=self.context,
            dropout=self.dropout,
            tokens=self.tokenizer,
            spread=self.spread,
            positions=self.positions,
        )
        lm.model.to(run.device)  # type: ignore[arg-type]
        return lm
