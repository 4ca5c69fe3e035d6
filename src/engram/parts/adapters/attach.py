"""Which adapter a model has, and how it is put in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from engram.core import EngramError, nearest
from engram.parts.adapters import bottleneck, soft_prompts
from engram.parts.adapters.layout import map_names

Kind = Literal["adapter", "lora", "prefix", "prompt"]
PEFT_MISSING = "pip install 'engram[peft]'"


@dataclass(frozen=True)
class Adapter:
    """What was put into a base.

    Attributes:
        kind: "adapter" (bottlenecks), "lora", "prefix" or "prompt".
        settings: All that decides its shape; plain JSON.
        base: Where the base was found.
        fingerprint: Of the base; "" where nobody wrote it down.
    """

    kind: Kind
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    fingerprint: str = ""

    @property
    def virtual_tokens(self) -> int:
        """Places of the context that it takes."""
        return int(self.settings.get("virtual_tokens", 0))

    def facts(self) -> dict[str, Any]:
        """What decides the answers of a model that has it, beside the weights."""
        return {"kind": self.kind, **self.settings}


def attach(model: Any, adapter: Adapter) -> None:
    """Put a new adapter into a model, in place; all else is frozen.

    Weights are drawn by torch's generator.

    Raises:
        EngramError: peft is needed and not installed; the model has no place for the adapter.
    """
    model.requires_grad_(False)
    settings = adapter.settings
    if adapter.kind == "adapter":
        bottleneck.attach_bottlenecks(model, int(settings["reduction"]))
    elif adapter.kind == "lora":
        _attach_lora(model, settings)
    else:
        require_peft(adapter.kind)
        soft_prompts.attach_soft_prompt(model, adapter.kind, adapter.virtual_tokens)
    names = adapter_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def adapter_names(model: nn.Module) -> frozenset[str]:
    """The names of the parameters that adapters brought in."""
    own = (f".{bottleneck.NAME}.", f"{soft_prompts.NAME}.", ".lora_")
    return frozenset(n for n, _ in model.named_parameters() if any(part in n for part in own))


def require_peft(kind: str) -> Any:
    """The package peft.

    Raises:
        EngramError: It is not installed.
    """
    try:
        import peft
    except ImportError as problem:
        raise EngramError(
            f"method {kind} needs peft, which cannot be imported ({problem})", hint=PEFT_MISSING
        ) from None
    return peft


def lora_config(settings: Mapping[str, Any]) -> Any:
    """The settings as peft has them."""
    peft = require_peft("lora")
    kept = {k: v for k, v in settings.items() if k in LORA}
    return peft.LoraConfig(task_type="CAUSAL_LM", **kept)


LORA = ("r", "lora_alpha", "target_modules", "fan_in_fan_out", "use_rslora", "lora_dropout")


def lora_settings(model: Any, rank: int, alpha: float, targets: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a new LoRA; without targets, those that peft knows for the architecture.

    Raises:
        EngramError: No such modules, or an architecture that peft does not know.
    """
    require_peft("lora")
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN
    from transformers.pytorch_utils import Conv1D

    maps = map_names(model)
    short = sorted({name.rpartition(".")[2] for name in maps})
    wanted = targets or tuple(KNOWN.get(model.config.model_type, ()))
    if not wanted:
        raise EngramError(
            f"peft has no usual target modules for a model {model.config.model_type!r}",
            hint=f"name some with --target-modules: {', '.join(short)}",
        )
    for target in wanted:
        if not any(name == target or name.endswith(f".{target}") for name in maps):
            raise EngramError(
                f"the model has no module {target!r} to adapt; it has {', '.join(short)}",
                hint=nearest(target, short, "name one of those with --target-modules"),
            )
    chosen = [maps[n] for n in maps for t in wanted if n == t or n.endswith(f".{t}")]
    turned = isinstance(chosen[0], Conv1D)
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(wanted),
        "fan_in_fan_out": turned,
    }


def _attach_lora(model: Any, settings: Mapping[str, Any]) -> None:
    peft = require_peft("lora")
    peft.inject_adapter_in_model(lora_config(settings), model)
