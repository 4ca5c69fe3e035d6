"""Questions about pictures with their answers, made ready for training: only answers are learnt.

A record is a picture, a prompt and a response. The tokens of the picture and of the prompt are
read and never predicted. White space around a prompt or a response is not told to the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError, Split
from engram.parts.images import Pixels, images_of
from engram.parts.picture_processors import PictureProcessor
from engram.parts.response_examples import PROMPT, RESPONSE
from engram.parts.text_columns import strings_of
from engram.parts.token_examples import IGNORED, TokenExamples


def questions_and_answers(split: Split) -> tuple[list[str], list[str]]:
    """The prompt and the response of each record, without white space around them.

    Raises:
        EngramError: One of the two columns is missing, or holds no strings.
    """
    return _strings(split, PROMPT), _strings(split, RESPONSE)


def check_pictures(split: Split) -> None:
    """Raise where records are not pictures with prompts and responses."""
    questions_and_answers(split)
    images_of(split)


def _strings(split: Split, name: str) -> list[str]:
    if name not in split.columns:
        raise EngramError(
            f"split {split.name!r} has no column {name!r}; it has {', '.join(split.columns)}",
            hint="a record is a picture (column image), a prompt and a response",
        )
    found = strings_of(split, name, "prompts and responses are texts")
    return [value.strip() for value in found]


@dataclass(frozen=True, eq=False)
class ImageExamples(TokenExamples):
    """Tokenised records with pictures, beside the model that is to learn or forget them.

    Records without an answer, and those that do not fit into the context, are left out.

    Attributes:
        processor: Makes pixels of pictures.
        prompts: Of every record of the split.
        images: Likewise.
    """

    ragged: ClassVar[tuple[str, ...]] = ("tokens", "asked")

    processor: Any = None
    prompts: Sequence[str] = ()
    images: Sequence[Pixels] = ()

    @classmethod
    def of_pictures(
        cls, model: nn.Module, processor: PictureProcessor, split: Split, context: int, *, end: bool
    ) -> "ImageExamples":
        """Tokenise every record; with `end`, the end token closes each answer, and is asked for."""
        prompts, _ = questions_and_answers(split)
        images, pieces, flags, record = images_of(split), [], [], []
        for row, (asked, said) in enumerate(tokenised(processor, split, images, end=end)):
            if len(said) and len(asked) + len(said) <= context:
                pieces.append(np.concatenate([asked, said]).astype(np.int32))
                flags.append(np.arange(len(pieces[-1])) >= len(asked))
                record.append(row)
        return cls(
            model,
            np.concatenate(pieces) if pieces else np.empty(0, np.int32),
            np.cumsum([0, *map(len, pieces)]),
            np.array(record, np.int64),
            asked=np.concatenate(flags) if flags else np.empty(0, bool),
            processor=processor,
            prompts=tuple(prompts),
            images=tuple(images),
        )

    def logits(
        self, model: nn.Module, rows: Int[np.ndarray, " rows"], tokens: Int[Tensor, "rows time"]
    ) -> Float[Tensor, "rows time answers"]:
        """What a model says after each token, having seen the pictures."""
        mask = (tokens != IGNORED).long()
        records = self.record[rows]
        beside = self.processor.beside(
            [self.prompts[i] for i in records], [self.images[i] for i in records], tokens.shape[1]
        )
        return model(
            input_ids=tokens.clamp(min=0),
            attention_mask=mask,
            use_cache=False,
            **moved(beside, model),
        ).logits

    def chunks(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Int[np.ndarray, " _"]]:
        """Parts of a batch; records one at a time where the processor wants that."""
        if self.processor.alone:
            yield from (rows[i : i + 1] for i in range(len(rows)))
        else:
            yield from super().chunks(rows)


def tokenised(
    processor: PictureProcessor, split: Split, images: Sequence[Pixels], *, end: bool
) -> Iterator[tuple[Int[np.ndarray, " prompt"], Int[np.ndarray, " answer"]]]:
    """Tokens of each record: of its picture and prompt, and of its answer."""
    prompts, responses = questions_and_answers(split)
    tokenizer, known = processor.tokenizer, {}
    closing = [tokenizer.eos_token_id] if end and tokenizer.eos_token_id is not None else []
    for prompt, response, image in zip(prompts, responses, images, strict=True):
        if response not in known:
            ids = tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"]
            known[response] = np.asarray(ids + closing if ids else [], np.int64)
        yield processor.prompt_tokens(prompt, image), known[response]


def moved(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Any]:
    """The tensors beside a model's weights, and in their number type where they are no counts."""
    like = next(model.parameters())
    return {
        name: t.to(like.device, like.dtype) if torch.is_floating_point(t) else t.to(like.device)
        for name, t in tensors.items()
    }
