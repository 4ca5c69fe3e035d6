"""See through any published vision encoder: a Hugging Face model folder, read without its code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.core import EngramError
from engram.parts.model_folder import check_safe_weights, read_config
from engram.parts.protection import Pictures

CONFIG, READER = "config.json", "preprocessor_config.json"
MIDDLE = 0.5
"""Mean and spread of pixels, where the folder says nothing of them."""


def has_encoder(where: str) -> bool:
    """Whether a Hugging Face model lies in this folder."""
    path = Path(where) / CONFIG
    return path.is_file() and "model_type" in read_config(path)


def opened_encoder(
    where: str, pictures: Pictures, device: str = "cpu"
) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, "n k"]]:
    """What the encoder makes of pixels from 0 to 1, in the order of the records' features.

    Pictures are made as large as the encoder takes them, grey ones in three channels, and
    standardised as its `preprocessor_config.json` says.

    Raises:
        EngramError: The folder holds no vision encoder, no safetensors, or asks to run code.
    """
    folder = Path(where)
    check_safe_weights(folder)
    model = _vision_part(folder).to(device).eval().requires_grad_(False)
    config = model.config
    side, channels = _number(config, "image_size"), _number(config, "num_channels") or 3
    reader = read_config(folder / READER) if (folder / READER).is_file() else {}
    mean, spread = (_per_channel(reader, k, channels) for k in ("image_mean", "image_std"))

    def seen(flat: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        rows = pictures.rows_of_pixels(flat)
        if rows.shape[1] != channels:
            rows = rows.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        if side:
            rows = nn.functional.interpolate(
                rows, size=(side, side), mode="bilinear", align_corners=False
            )
        return _pooled(model(pixel_values=(rows.to(device) - mean) / spread)).to(flat.device)

    return seen


def _vision_part(folder: Path) -> Any:
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as problem:
        said = " ".join(str(problem).split())[:160]
        raise EngramError(
            f"{folder} cannot be opened as an encoder ({said})",
            hint="give the folder that save_pretrained(folder) wrote",
        ) from None
    model = getattr(model, "vision_model", model)
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise EngramError(
            f"{folder} holds a {type(model).__name__}, which does not look at pictures",
            hint="ViT, DINOv2, CLIP, ResNet and ConvNeXT folders are vision encoders",
        )
    return model


def _number(config: Any, name: str) -> int:
    value = getattr(config, name, 0)
    return int(value) if isinstance(value, int) and value > 0 else 0


def _per_channel(reader: dict[str, Any], name: str, channels: int) -> Float[Tensor, "1 c 1 1"]:
    stated = reader.get(name)
    fits = isinstance(stated, list) and len(stated) == channels
    return torch.tensor(stated if fits else [MIDDLE] * channels).reshape(1, -1, 1, 1)


def _pooled(answer: Any) -> Float[Tensor, "n k"]:
    """One vector a picture: the encoder's own summary, else the mean over places."""
    pooled = getattr(answer, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    last = answer.last_hidden_state
    return last.mean(1) if last.ndim == 3 else last.mean((2, 3))
