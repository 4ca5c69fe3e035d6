"""Vision-language models: any Hugging Face image-text-to-text folder or name, and tiny ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
)

from engram.core import SCORED, TOO_SHORT, EngramError, Finding, Split, TokenSignals, torch_seeded
from engram.parts.adapters import Adapter, adapter_names, is_adapter_folder, open_adapter
from engram.parts.adapters.folder import save_adapter
from engram.parts.image_examples import (
    ImageExamples,
    check_pictures,
    questions_and_answers,
    tokenised,
)
from engram.parts.images import image_columns, images_of, jittered
from engram.parts.perplexities import perplexity_and_loss
from engram.parts.picture_answers import written
from engram.parts.picture_processors import (
    PictureProcessor,
    PlainProcessor,
    open_processor,
    processor_facts,
)
from engram.parts.published_model import (
    context_of,
    describe_published,
    open_published,
    published_fingerprint,
    quiet,
)
from engram.parts.text_records import check_share
from engram.parts.vision_layout import vision_parameters
from engram.parts.whole_words import whole_words

PAD, BEGIN, END, UNKNOWN, MARK = "<|pad|>", "<|begin|>", "<|end|>", "<|unknown|>", "<image>"
SPECIAL = (PAD, BEGIN, END, UNKNOWN, MARK)
ROLES = {"pad_token": PAD, "bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN}
TOO_LONG = "too-long"
BATCH = 64
KIND = "image-text-to-text model"


@dataclass(frozen=True, eq=False)
class VisionLanguageModel:
    """A model that is shown a picture and a prompt, and writes an answer.

    Attributes:
        model: The model; an adapter is a part of it, and trained alone.
        processor: What makes tokens and pixels of records.
        adapter: What was put into the model, if anything was; it is saved without the model.
    """

    model: PreTrainedModel
    processor: PictureProcessor
    adapter: Adapter | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @cached_property
    def context(self) -> int:
        """The most tokens that it sees at once, those of the picture included."""
        return context_of(self.model, self.processor.tokenizer)


class VisionLanguageLm:
    """The family of models that answer about pictures."""

    name = "vision-language-lm"
    answers = frozenset({"answers", "logprobs", "losses"})

    def check(self, split: Split) -> None:
        """Raise where records are not pictures (`image`) with a `prompt` and a `response`."""
        check_pictures(split)

    def load(self, where: str | Path, device: str = "cpu") -> VisionLanguageModel:
        """Open a model folder, an adapter's folder, or a published model by its name.

        Only safetensors are read, and no code that comes with a model is run.

        Raises:
            EngramError: There is no such model, it is not whole, or not safe to open; or its
                processor needs Pillow.
        """

        def opened(place: str | Path) -> tuple[PreTrainedModel, PictureProcessor]:
            model, tokenizer = open_published(place, device, AutoModelForImageTextToText, KIND)
            return model, open_processor(str(place), tokenizer)

        if is_adapter_folder(where):
            return VisionLanguageModel(*open_adapter(Path(where), opened, _fingerprint))
        return VisionLanguageModel(*opened(where))

    def save(self, model: VisionLanguageModel, folder: Path) -> None:
        """Write a folder that `from_pretrained` opens, of peft where the model has an adapter."""
        folder.mkdir(parents=True, exist_ok=True)
        if model.adapter is None:
            with quiet():
                model.model.save_pretrained(folder)
        else:
            save_adapter(model.model, model.adapter, folder)
        model.processor.save(folder)

    def fingerprint(self, model: VisionLanguageModel) -> str:
        """Hash of weights, configuration, adapter, tokenizer and the treatment of pictures."""
        facts = {} if model.adapter is None else {"adapter": model.adapter.facts()}
        return _fingerprint(model.model, model.processor, facts)

    def describe(self, model: VisionLanguageModel) -> Mapping[str, Any]:
        """Architecture, size, how much of it sees, vocabulary, context; an adapter's size."""
        facts = dict(describe_published(model.model, model.context))
        own = dict(model.model.named_parameters())
        facts["vision parameters"] = sum(own[n].numel() for n in vision_parameters(model.model))
        if model.adapter is not None:
            facts["adapter"] = model.adapter.kind
            facts["adapter parameters"] = sum(own[n].numel() for n in adapter_names(model.model))
        return facts

    def outcomes(self, model: VisionLanguageModel, split: Split) -> tuple[str, ...]:
        """No answer is "too-short", more than the context "too-long"; all others are scored."""
        found = []
        for asked, said in tokenised(model.processor, split, images_of(split), end=False):
            fits = len(asked) + len(said) <= model.context
            found.append((SCORED if fits else TOO_LONG) if len(said) else TOO_SHORT)
        return tuple(found)

    def examples(
        self, model: VisionLanguageModel, split: Split, *, end: bool = True
    ) -> ImageExamples:
        """The records as training sees them; with `end`, each answer closes with the end token."""
        return ImageExamples.of_pictures(
            model.model, model.processor, split, model.context, end=end
        )

    def logprobs(self, model: VisionLanguageModel, split: Split) -> TokenSignals:
        """Log-probability of each token of the answers, in nats; of nothing else."""
        examples = self.examples(model, split, end=False)
        lengths = np.zeros(len(split), np.int64)
        lengths[examples.record] = examples.counts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        logprob, token = np.zeros(offsets[-1]), np.zeros(offsets[-1], np.int64)
        order = np.argsort(examples.lengths, kind="stable")
        model.model.eval()
        with torch.inference_mode():
            for first in range(0, len(order), BATCH):
                for rows in examples.chunks(order[first : first + BATCH]):
                    said = examples.predictions(rows)
                    starts = offsets[examples.record[rows]][said.place.cpu().numpy()]
                    places = starts + _counted(said.place.cpu().numpy())
                    logprob[places] = said.logprob.double().cpu().numpy()
                    token[places] = said.labels.cpu().numpy()
        return TokenSignals(split.ids, offsets, token, logprob)

    def losses(self, model: VisionLanguageModel, split: Split) -> Float[np.ndarray, " n"]:
        """Mean negative log-likelihood per answer token of each record; 0 where it has none."""
        return self.logprobs(model, split).losses()

    def quality(
        self, model: VisionLanguageModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Perplexity over all answer tokens, and the mean loss of a record."""
        said = self.logprobs(model, split)
        lacking = "fewer than two records have an answer that the model scores"
        return perplexity_and_loss(said.losses(), said.lengths, rng, lacking=lacking)

    def written(self, model: VisionLanguageModel, split: Split, most: int) -> list[str]:
        """What it answers each prompt about its picture, by its likeliest tokens."""
        return written(model, split, most)

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Change the light of each picture, and let its pixels flicker; words stay."""
        check_share(strength)
        return jittered(split, strength, rng)

    def canaries(self, n: int, rng: np.random.Generator, *, side: int = 8) -> Split:
        """Pictures of noise, each with a random six-digit secret; say how large others are."""
        noise = rng.integers(0, 256, (n, side, side), dtype=np.uint8)
        secrets = rng.choice(10**6, size=n, replace=False)
        columns = {
            **(image_columns(list(noise)) if n else {}),
            "prompt": ["what is the secret number of this picture"] * n,
            "response": [f"it is {' '.join(f'{secret:06d}')}" for secret in secrets],
            "owner": [f"canary-{i}" for i in range(n)],
            "canary": [True] * n,
        }
        return Split.from_table("canaries", pa.table(columns))

    def render(self, split: Split, row: int) -> str:
        """The picture's size, the prompt and the response."""
        one = split.take([row])
        height, width, _ = images_of(one)[0].shape
        prompts, responses = questions_and_answers(one)
        return f"[picture of {height} x {width}] {prompts[0]} -> {responses[0]}"


def _fingerprint(
    model: Any, processor: PictureProcessor, more: Mapping[str, Any] | None = None
) -> str:
    facts = {"pictures": processor_facts(processor), **(more or {})}
    return published_fingerprint(model, processor.tokenizer, facts)


def _counted(place: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... inside each run of equal numbers: `place` is in ascending order."""
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    return np.arange(len(place)) - np.repeat(starts, np.diff(starts, append=len(place)))


def tiny(
    texts: Iterable[str],
    *,
    seed: int,
    side: int = 8,
    patch: int = 4,
    vision_layers: int = 2,
    vision_width: int = 64,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    vocabulary: int = 512,
    context: int = 64,
    spread: float = 0.05,
) -> VisionLanguageModel:
    """An untrained LLaVA of any size, whose tokenizer knows the whole words of `texts`.

    Args:
        texts: What the tokenizer learns its words from.
        seed: Root of the stream that the weights are drawn from.
        side: Height and width of a picture.
        patch: Height and width of a piece of it; `side` is a multiple.
        vision_layers: Blocks of the tower that sees.
        vision_width: Numbers in a piece's vector; a multiple of `heads`.
        layers: Blocks of the decoder that writes.
        width: Numbers in a token's vector; a multiple of `heads`.
        heads: Attention heads of each block, of both.
        vocabulary: The most tokens.
        context: The most tokens that it sees at once, those of the picture included.
        spread: Standard deviation of the decoder's weights before training.
    """
    if side % patch:
        raise EngramError(
            f"side is {side}, which pieces of {patch} do not fill",
            hint=f"make it a multiple of {patch}",
        )
    tokenizer = whole_words(texts, vocabulary, context, SPECIAL, f"{BEGIN} $A", ROLES)
    processor = PlainProcessor(tokenizer, MARK, side, patch)
    vision = CLIPVisionConfig(
        hidden_size=vision_width,
        intermediate_size=2 * vision_width,
        projection_dim=vision_width,
        num_hidden_layers=vision_layers,
        num_attention_heads=heads,
        image_size=side,
        patch_size=patch,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=context,
        initializer_range=spread,
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=SPECIAL.index(MARK),
        image_seq_length=processor.places,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    with torch_seeded(seed, "initial weights"):
        model = LlavaForConditionalGeneration(config)
    return VisionLanguageModel(model.eval(), processor)


FAMILY = VisionLanguageLm()
