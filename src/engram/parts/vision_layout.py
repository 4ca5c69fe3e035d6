"""Which weights of a vision-language model see, whatever its architecture, and which speak."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from engram.core import EngramError
from engram.parts.adapters.layout import map_names

TOWERS = ("vision_tower", "vision_model", "visual", "vision_encoder", "image_encoder", "vision")
"""What models call the part that sees."""
MERGERS = ("merger", "deepstack_merger_list", "multi_modal_projector", "connector")
"""What some of them keep inside of it, and is not frozen with it: the way to the decoder."""


def sees(name: str) -> bool:
    """Whether a weight or module of this full name is a part of the tower."""
    parts = name.split(".")
    return any(p in TOWERS for p in parts) and not any(p in MERGERS for p in parts)


def vision_parameters(model: nn.Module) -> tuple[str, ...]:
    """The full names of the tower's weights; none where the layout is not known."""
    return tuple(name for name, _ in model.named_parameters() if sees(name))


def freeze_vision(model: nn.Module) -> None:
    """Train nothing of the tower; all other weights stay as they are.

    Raises:
        EngramError: The model has no tower of a name that is known.
    """
    names = set(vision_parameters(model))
    if not names:
        raise EngramError(
            f"{type(model).__name__} has no part of a known name that sees ({', '.join(TOWERS)})",
            hint="finetune-vlm with --method full and --tune-vision trains all weights",
        )
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(False)


def speaking_maps(model: Any) -> Sequence[str]:
    """The full names of all linear maps of decoder and projector, without the output head.

    Raises:
        EngramError: There is none.
    """
    names = tuple(name for name in map_names(model) if not sees(name))
    if not names:
        raise EngramError(
            f"{type(model).__name__} has no linear maps outside of its tower",
            hint="--method full trains all weights",
        )
    return names
