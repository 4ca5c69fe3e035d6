"""What a vision-language model itself answers about pictures: always its likeliest token.

Prompts of one length go through the model together, so that nothing is padded; a model whose
processor reads records one at a time is asked one at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from engram.core import EngramError, Run, Split, Target
from engram.parts.greedy import at_rest
from engram.parts.image_examples import moved, questions_and_answers
from engram.parts.images import images_of
from engram.parts.published_model import quiet

TOGETHER = 128
"""The most records that are asked together."""


def answers_of(family: Any, target: Target, split: Split, run: Run, most: int) -> list[str]:
    """The answers of a target, asked once and then stored.

    Args:
        family: The target's.
        target: Of a family that answers about records.
        split: Records that ask something.
        run: Stores the answers.
        most: The most tokens of an answer.
    """
    if "answers" not in family.answers:
        raise EngramError(
            f"target {target.name!r} is a {target.family}, which does not answer about records",
            hint="a vision-language-lm does",
        )

    def work() -> np.ndarray:
        return np.array(family.written(target.model, split, most), dtype=np.str_)

    found = run.computed("picture-answers", target, split, {"most": most, "version": 1}, work)
    return [str(answer) for answer in found]


def written(vlm: Any, split: Split, most: int) -> list[str]:
    """What a model writes when it is shown each picture and asked its prompt.

    Args:
        vlm: With `model` and `processor`.
        split: Records with pictures and prompts; what they answer is not looked at.
        most: The most tokens of an answer; it ends earlier where the model closes it.
    """
    if most < 1:
        raise EngramError(f"most is {most}, but must be at least 1", hint="32 suits short answers")
    prompts, images = _prompts(split), images_of(split)
    pairs = zip(prompts, images, strict=True)
    tokens = [vlm.processor.prompt_tokens(prompt, image) for prompt, image in pairs]
    answers, tokenizer = [""] * len(split), vlm.processor.tokenizer
    settings = GenerationConfig(
        max_new_tokens=most,
        do_sample=False,
        num_beams=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=_padding(tokenizer),
    )
    with at_rest(vlm.model), quiet():
        for rows in _together([len(each) for each in tokens], vlm.processor.alone):
            ids = torch.from_numpy(np.stack([tokens[row] for row in rows])).to(vlm.model.device)
            beside = vlm.processor.beside(
                [prompts[row] for row in rows], [images[row] for row in rows], ids.shape[1]
            )
            made = vlm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
                **moved(beside, vlm.model),
            )
            texts = tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
            for row, text in zip(rows, texts, strict=True):
                answers[row] = text.strip()
    return answers


def _prompts(split: Split) -> list[str]:
    if "response" in split.columns:
        return questions_and_answers(split)[0]
    return [("" if text is None else text).strip() for text in split.column("prompt").to_pylist()]


def _padding(tokenizer: Any) -> int | None:
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def _together(lengths: Sequence[int], alone: bool) -> Iterator[list[int]]:
    """Rows of one length, at most `TOGETHER` of them."""
    size = 1 if alone else TOGETHER
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    first = 0
    for last in range(1, len(order) + 1):
        ends = last == len(order) or lengths[order[last]] != lengths[order[first]]
        if ends or last - first == size:
            yield order[first:last]
            first = last
