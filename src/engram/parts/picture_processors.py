"""What stands between records with pictures and a vision-language model.

A processor makes tokens of a prompt, in which places are left for the picture, and numbers of its
pixels. That of a tiny model of ours scales pixels and does nothing else, so it needs no package;
its files are those of a LLaVA processor, which Hugging Face opens too. Any other published
processor is run as it is, record by record, and needs Pillow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from engram.core import EngramError
from engram.parts.image_files import require_pillow
from engram.parts.images import Pixels
from engram.parts.model_folder import read_config
from engram.parts.published_model import quiet, save_tokenizer, tokenizer_facts

PIXELS, FRAME = "preprocessor_config.json", "processor_config.json"
KIND = "CLIPImageProcessor"


@runtime_checkable
class PictureProcessor(Protocol):
    """From prompts and pictures to what a model reads."""

    alone: bool
    """Whether records must be read one at a time."""

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer inside."""
        ...

    def prompt_tokens(self, prompt: str, image: Pixels) -> Int[np.ndarray, " prompt"]:
        """Tokens of a prompt with the places of its picture; ends where the answer begins."""
        ...

    def beside(
        self, prompts: Sequence[str], images: Sequence[Pixels], width: int
    ) -> dict[str, Tensor]:
        """All that the model reads beside tokens, for a batch filled up to `width` tokens."""
        ...

    def facts(self) -> dict[str, Any]:
        """What decides the answers of a model that has this processor."""
        ...

    def save(self, folder: Path) -> None:
        """Write it as Hugging Face does."""
        ...


@dataclass(frozen=True, eq=False)
class PlainProcessor:
    """Pixels as they are, scaled; the picture's tokens stand before the prompt.

    Attributes:
        tokenizer: Knows `mark` as one token.
        mark: The token that keeps a place for a piece of the picture.
        side: Height and width of every picture.
        patch: Height and width of a piece.
        mean: Taken from each channel, after pixels were divided by 255.
        spread: Each channel is divided by it after that.
    """

    tokenizer: Any
    mark: str = "<image>"
    side: int = 8
    patch: int = 4
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    spread: tuple[float, ...] = (0.5, 0.5, 0.5)
    alone = False

    @property
    def places(self) -> int:
        """Tokens of a picture."""
        return (self.side // self.patch) ** 2

    @cached_property
    def _known(self) -> dict[str, Int[np.ndarray, " prompt"]]:
        """Prompts are few, and asked of many pictures."""
        return {}

    def prompt_tokens(self, prompt: str, image: Pixels) -> Int[np.ndarray, " prompt"]:
        """As many marks as the picture has pieces, then the prompt."""
        check_size(image, self.side)
        if prompt not in self._known:
            check_no_mark(prompt, self.mark)
            ids = self.tokenizer(self.mark * self.places + prompt, verbose=False)["input_ids"]
            self._known[prompt] = np.asarray(ids, np.int64)
        return self._known[prompt]

    def beside(
        self, prompts: Sequence[str], images: Sequence[Pixels], width: int
    ) -> dict[str, Tensor]:
        """Pixels as (records, channels, side, side)."""
        stacked = torch.from_numpy(np.stack(images)).float() / 255
        scaled = (stacked - torch.tensor(self.mean)) / torch.tensor(self.spread)
        return {"pixel_values": scaled.permute(0, 3, 1, 2).contiguous()}

    def facts(self) -> dict[str, Any]:
        """Its settings; the tokenizer tells of itself."""
        return {
            "mark": self.mark,
            "side": self.side,
            "patch": self.patch,
            "mean": list(self.mean),
            "spread": list(self.spread),
        }

    def save(self, folder: Path) -> None:
        """Write the tokenizer, and two files that Hugging Face's LLaVA processor reads."""
        save_tokenizer(self.tokenizer, folder)
        square = {"height": self.side, "width": self.side}
        pixels = {
            "image_processor_type": KIND,
            "do_resize": False,
            "do_center_crop": False,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "do_convert_rgb": True,
            "image_mean": list(self.mean),
            "image_std": list(self.spread),
            "size": square,
            "crop_size": square,
        }
        frame = {
            "processor_class": "LlavaProcessor",
            "image_token": self.mark,
            "patch_size": self.patch,
            "num_additional_image_tokens": 1,  # the tower's first token, which is then left out
            "vision_feature_select_strategy": "default",
        }
        for name, record in ((PIXELS, pixels), (FRAME, frame)):
            (folder / name).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class PublishedProcessor:
    """A processor of transformers, whatever it does."""

    processor: Any
    alone = True

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer inside."""
        return self.processor.tokenizer

    @property
    def mark(self) -> str:
        """The token that keeps a place for a picture."""
        return str(getattr(self.processor, "image_token", "<image>"))

    def prompt_tokens(self, prompt: str, image: Pixels) -> Int[np.ndarray, " prompt"]:
        """Tokens as the processor makes them of the framed prompt."""
        return self._read(prompt, image)["input_ids"][0].numpy().astype(np.int64)

    def beside(
        self, prompts: Sequence[str], images: Sequence[Pixels], width: int
    ) -> dict[str, Tensor]:
        """What the processor gives of one record; what it says of tokens is filled up with 0."""
        found = self._read(prompts[0], images[0])
        length = found["input_ids"].shape[1]
        return {
            name: _filled(name, tensor, length, width)
            for name, tensor in found.items()
            if name not in ("input_ids", "attention_mask")
        }

    def facts(self) -> dict[str, Any]:
        """Its settings."""
        facts = self.processor.to_dict()
        volatile = ("_name_or_path", "transformers_version", "tokenizer")
        return {k: v for k, v in facts.items() if k not in volatile}

    def save(self, folder: Path) -> None:
        """As Hugging Face does."""
        with quiet():
            self.processor.save_pretrained(folder)

    def _read(self, prompt: str, image: Pixels) -> Mapping[str, Tensor]:
        picture = require_pillow("a published processor").fromarray(image)
        text = self._framed(prompt)
        return self.processor(text=[text], images=[picture], return_tensors="pt")

    def _framed(self, prompt: str) -> str:
        """The prompt as the model's own chat frames it; else after the picture, on its own line."""
        check_no_mark(prompt, self.mark)
        if not getattr(self.processor, "chat_template", None):
            return f"{self.mark}\n{prompt}"
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )


def processor_facts(processor: PictureProcessor) -> dict[str, Any]:
    """What decides the answers, the tokenizer's part included."""
    return {"tokenizer": tokenizer_facts(processor.tokenizer), **processor.facts()}


def open_processor(where: str, tokenizer: Any) -> PictureProcessor:
    """The processor of a model folder or of a published model; no code of its own is run.

    Raises:
        EngramError: It asks to run code, is damaged, or needs Pillow.
    """
    folder = Path(where)
    for name in (PIXELS, FRAME):
        if (folder / name).is_file() and "auto_map" in str(read_config(folder / name)):
            raise EngramError(
                f"{folder / name} asks to run code of its own (auto_map)",
                hint="Engram never runs a model's code: use a model whose processor transformers "
                "has built in",
            )
    plain = _plain(folder, tokenizer) if folder.is_dir() else None
    return plain or _published(where)


def _plain(folder: Path, tokenizer: Any) -> PlainProcessor | None:
    """Ours, where the files say that nothing but scaling is done."""
    if not ((folder / PIXELS).is_file() and (folder / FRAME).is_file()):
        return None
    pixels, frame = read_config(folder / PIXELS), read_config(folder / FRAME)
    scales_alone = (
        pixels.get("image_processor_type") == KIND
        and pixels.get("do_resize") is False
        and pixels.get("do_center_crop") is False
        and pixels.get("rescale_factor") == 1 / 255
        and frame.get("processor_class") == "LlavaProcessor"
        and frame.get("vision_feature_select_strategy") == "default"
    )
    if not scales_alone:
        return None
    try:
        return PlainProcessor(
            tokenizer,
            str(frame["image_token"]),
            int(pixels["size"]["height"]),
            int(frame["patch_size"]),
            tuple(float(x) for x in pixels["image_mean"]),
            tuple(float(x) for x in pixels["image_std"]),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise EngramError(
            f"the processor's files in {folder} cannot be read ({problem!r})",
            hint="they may be damaged; copy the folder again",
        ) from None


def _published(where: str) -> PublishedProcessor:
    require_pillow(f"the processor of {where}")
    from transformers import AutoProcessor

    try:
        with quiet():
            processor = AutoProcessor.from_pretrained(
                where, trust_remote_code=False, local_files_only=Path(where).is_dir()
            )
    except Exception as problem:  # any library may fail on files from outside
        said = " ".join(str(problem).split())[:160] or type(problem).__name__
        raise EngramError(
            f"the processor of {where} cannot be opened: {said}",
            hint="save it beside the model: processor.save_pretrained(folder)",
        ) from None
    if not hasattr(processor, "image_processor"):
        raise EngramError(
            f"{where} has no image processor",
            hint="save the model's own processor beside it: processor.save_pretrained(folder)",
        )
    return PublishedProcessor(processor)


def check_size(image: Pixels, side: int) -> None:
    """Refuse a picture of another size than the model's."""
    if image.shape[:2] != (side, side):
        raise EngramError(
            f"an image has {image.shape[0]} x {image.shape[1]} pixels, but the model takes "
            f"{side} x {side}",
            hint="scale the pictures first, or train a model of that size",
        )


def check_no_mark(prompt: str, mark: str) -> None:
    """Refuse a prompt that would take a place of the picture."""
    if mark in prompt:
        raise EngramError(
            f"a prompt holds {mark!r}, which stands for the picture ({prompt[:60]!r})",
            hint="take it out: every record has one picture, and its place is known",
        )


def _filled(name: str, tensor: Tensor, length: int, width: int) -> Tensor:
    """What is said of each token of the prompt, for the answer's tokens too."""
    if tensor.ndim < 2 or tensor.shape[:2] != (1, length):
        return tensor
    if tensor.ndim > 2:
        raise EngramError(
            f"the model's processor gives {name!r} of shape {tuple(tensor.shape)}, several "
            "numbers a token, which is not understood here",
            hint="models of the LLaVA, PaliGemma, Idefics or Qwen-VL kind have none of that",
        )
    return torch.nn.functional.pad(tensor, (0, width - length))
