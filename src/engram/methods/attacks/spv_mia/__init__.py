"""Score a text by how sharply its likelihood peaks, beside a reference that the target taught.

Two ideas. A text that was learnt lies on a peak of the model's likelihood: change a few words,
and the likelihood falls on every side, long before the model is overfitted. And how hard a text
is in itself is told by a reference model: no data like the private data are needed for that,
since the target writes some when it is asked to; the public base, tuned a little on those texts,
knows the kind of text but not the members.

    p(x)     = exp( mean over tokens of log p(x_t | x_<t) )
    V(x)     = mean over K paraphrases x' of p(x')  -  p(x)
    score(x) = V_reference(x) - V_target(x)

Both models see the same paraphrases: the text with a few short spans of words replaced by what a
filler draws for them, or (paraphraser "embedding") with noise added to its embeddings and taken
away from them. In our study the plain log-ratio of the two models (`space` log, no `variation`)
is stronger than the paper's score, and needs no paraphrases.

Differs from the paper: 1. Spans are filled token by token, each drawn given the original text
around it (or before it, with the causal filler), where the paper samples whole spans from T5.
2. The filler is by default the target's own base, which needs no other model. 3. Unless a prompt
source is named the target begins its texts by itself; the paper gives it the first 16 tokens of
10,000 other texts of the domain. 4. All weights of the reference are tuned, where the paper has
LoRA; its learning rate is by default half the target's, as in the paper. 5. A text too short for
a span gets the neutral value 0, unless `variation` is off. 6. Texts without spaces between words
are masked by tokens.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target, nearest
from engram.methods.attacks.spv_mia.noise import stored_logprobs
from engram.methods.attacks.spv_mia.reference import PAPER, SelfPrompt, check_same_tokens
from engram.methods.attacks.spv_mia.scoring import SPACES, Likelihoods, Space, calibrated, peak
from engram.methods.attacks.spv_mia.spans import Spans, paraphrased
from engram.parts.paraphrasers.made import Paraphrases
from engram.parts.paraphrasers.models import filler_of
from engram.parts.token_scores import check_scored
from engram.signals.references import find_reference

FILLERS = {"causal": "causal", "mlm": "masked", "random-tokens": "random"}
EMBEDDING = "embedding"
SELF_PROMPT, BASE, NONE = "self-prompt", "base", "none"


@dataclass(frozen=True)
class SpvMia:
    """Self-calibrated probabilistic variation."""

    paper: ClassVar[Paper] = PAPER
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    trains: ClassVar[bool] = True

    reference: str = SELF_PROMPT
    """What likelihoods are compared with: "self-prompt" (the base, tuned on what the target
    writes), "base" (as it is), "none", or a model that is named by its folder."""
    base: str = ""
    """The public model that the target was tuned from; empty: the one that its lineage names."""
    space: Space = "probability"
    """Whether "probability" (the paper) or "log"-probability of a token is compared."""
    variation: bool = True
    """Whether texts are compared with their paraphrases; if not, models alone are compared."""
    paraphraser: Literal["causal", "mlm", "random-tokens", "embedding"] = "causal"
    """Who replaces words: a causal model, a masked one, or chance; "embedding" adds noise to the
    embeddings and takes the same away, which needs the target's weights."""
    model: str = ""
    """Folder or name of the paraphraser's model; for "causal" the base if this is empty."""
    paraphrases: int = 10
    """Paraphrases of each text; an even number for "embedding". The authors' code has 10."""
    share: float = 0.3
    """Share of the words that spans and their surroundings take up; the paper uses 0.3."""
    span: int = 2
    """Words in a span."""
    buffer: int = 1
    """Words that stay between two spans, at least."""
    scale: float = 0.1
    """Standard deviation of the noise, as a share of the size of the target's embeddings."""
    prompts: str = NONE
    """A file or data set that the target never saw, whose beginnings are its prompts; "none"
    lets it begin by itself."""
    prompt_count: int = 500
    """Texts that the target writes; the paper has 10,000."""
    prompt_tokens: int = 16
    """Tokens of a prompt; it is continued to the length of the text that it is from."""
    length: int = 128
    """Tokens of a text that the target begins by itself, at most."""
    epochs: int = 2
    """Epochs over what the target wrote. Few: the reference must not learn it by heart."""
    batch_size: int = 4
    """Texts in a step of the reference's training."""
    learning_rate: float = 0.0
    """The reference's highest learning rate; 0: half the target's, or 5e-5 if that is unknown."""

    def __post_init__(self) -> None:
        known = (*FILLERS, EMBEDDING)
        for name, value, allowed in (
            ("space", self.space, SPACES), ("paraphraser", self.paraphraser, known),
        ):  # fmt: skip
            if value not in allowed:
                hint = nearest(value, allowed, f"it is one of {', '.join(allowed)}")
                raise EngramError(f"{name} is {value!r}", hint=hint)
        if self.paraphrases < 1 or (self.paraphraser == EMBEDDING and self.paraphrases % 2):
            raise EngramError(
                f"paraphrases is {self.paraphrases}, but must be at least 1, and even for "
                "embedding: each noise is added and taken away",
                hint="10 is usual",
            )
        if not (self.scale > 0 and np.isfinite(self.scale)):
            raise EngramError(f"scale is {self.scale}, but must be above 0", hint="0.1 is usual")
        if self.paraphraser == "mlm" and self.variation and not self.model:
            raise EngramError(
                "the paraphraser mlm has no model",
                hint="name a masked language model with model=..., or take paraphraser=causal",
            )
        _ = self._spans, self._self_prompt  # they check their own fields

    @property
    def _spans(self) -> Spans:
        return Spans(self.share, self.span, self.buffer)

    @property
    def _self_prompt(self) -> SelfPrompt:
        return SelfPrompt(
            self.prompts, self.prompt_count, self.prompt_tokens, self.length,
            self.epochs, self.batch_size, self.learning_rate,
        )  # fmt: skip

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return one score a text: a difference of probabilities, or of nats per token."""
        unit = "nats/token" if self.space == "log" else "probability"
        if not len(split):
            return Scores(split.ids, np.zeros(0), unit=unit)
        noisy = self.variation and self.paraphraser == EMBEDDING
        if noisy:
            target.require("weights", "spv-mia with noise in the embeddings")
        check_scored(run.tokens(target, split))
        reference = self.opened(target, split, run)
        made = None if noisy or not self.variation else self.paraphrased(target, split, run)
        if reference is not None and self.reference == SELF_PROMPT:
            # Last, for it is dear: by now every mistake in the other fields has been told.
            where = self.base or target.lineage.base
            reference = self._self_prompt.reference(where, reference, target, split, run)
        models = [target] if reference is None else [target, reference]
        peaks = [
            peak(self._likelihoods(model, target, split, made, run), self.space, self.variation)
            for model in models
        ]
        return Scores(split.ids, calibrated(*peaks), unit=unit)

    def opened(self, target: Target, split: Split, run: Run) -> Target | None:
        """The model that is compared with, or the base that is to become it.

        Raises:
            EngramError: It is the base, or made from it, and nobody knows the base; it is of
                another kind than the target; or it cuts texts into other tokens.
        """
        if self.reference == NONE:
            return None
        public = self.reference in (SELF_PROMPT, BASE)
        where = (self.base or target.lineage.base) if public else self.reference
        if not where:
            raise EngramError(
                f"target {target.name!r} does not say which base it was fine-tuned from, so "
                f"spv-mia has nothing to make its {self.reference} reference from",
                hint="name it with spv-mia.base=MODEL, or set spv-mia.reference=none",
            )
        found = find_reference(where, target, run)
        check_same_tokens(found, target, split)
        return found

    def paraphrased(self, target: Target, split: Split, run: Run) -> Paraphrases:
        """All paraphrases of all texts: one split, so that each model is asked once."""
        # With a base of the user's own, that is who proposes, not the one of the lineage.
        where = self.model or (self.base if self.paraphraser == "causal" else "")
        filler = filler_of(FILLERS[self.paraphraser], where, target, run)
        return paraphrased(filler, split, self.paraphrases, self._spans, run)

    def _likelihoods(
        self, model: Target, target: Target, split: Split, made: Paraphrases | None, run: Run
    ) -> Likelihoods:
        if self.variation and made is None:
            pairs = self.paraphrases // 2
            answers = stored_logprobs(model, target, split, pairs, self.scale, run)
            return Likelihoods.of(answers)
        own = -run.tokens(model, split).losses()
        if made is None or not len(made.split):
            return Likelihoods(own, np.zeros(0), np.zeros(0, np.int64))
        near = run.tokens(model, made.split)
        scored = near.lengths > 0
        return Likelihoods(own, -near.losses()[scored], made.owner_row[scored])
