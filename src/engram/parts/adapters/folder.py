"""Adapters on disk: a folder with the small weights, and where the base is that they belong to.

LoRA, prefix and prompt tuning are written as peft writes them (`adapter_config.json`,
`adapter_model.safetensors`), so that `PeftModel.from_pretrained(base, folder)` opens them; and
peft's own folders are opened here. `adapter_base.json` beside them holds what peft has no place
for: the fingerprint of the base, and the settings of bottlenecks.

The base is looked for in the subfolder `base`, then where it was, then beside the folder under
its old name, so that a store that moved as a whole still opens. Another model in its place is
refused.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engram.core import EngramError
from engram.parts.adapters import soft_prompts
from engram.parts.adapters.attach import (
    LORA,
    Adapter,
    adapter_names,
    attach,
    lora_config,
    require_peft,
)
from engram.parts.model_folder import check_safetensors, read_config
from engram.parts.published_model import save_published, save_tokenizer

OURS = "adapter_base.json"
PEFT = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
KINDS = {"LORA": "lora", "PREFIX_TUNING": "prefix", "PROMPT_TUNING": "prompt"}
"""peft's names and ours."""
UNKNOWN = (
    "modules_to_save", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform",
    "layer_replication", "trainable_token_indices", "target_parameters", "exclude_modules",
    "prefix_projection", "lora_bias", "megatron_config", "use_qalora", "arrow_config",
)  # fmt: skip
"""Settings of peft that change the answers and that we do not read."""


def is_adapter_folder(where: str | Path) -> bool:
    """Whether this is a folder with an adapter and no model of its own."""
    folder = Path(where)
    found = (folder / PEFT).is_file() or (folder / OURS).is_file()
    return found and not (folder / "config.json").is_file()


def save_adapter(model: Any, adapter: Adapter, folder: Path) -> None:
    """Write the adapter of a model, without the model."""
    state = model.state_dict()
    tensors = {name: state[name].detach().contiguous() for name in sorted(adapter_names(model))}
    if adapter.kind == "lora":
        config = lora_config(adapter.settings)
        tensors = {PREFIX + name.replace(".default.", "."): t for name, t in tensors.items()}
        _save_config(config, adapter, folder)
    elif adapter.kind in ("prefix", "prompt"):
        tensors = {"prompt_embeddings": next(iter(tensors.values()))}
        _save_config(_soft_config(model, adapter), adapter, folder)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    facts = {
        "kind": adapter.kind,
        "settings": dict(adapter.settings),
        "base": adapter.base,
        "fingerprint": adapter.fingerprint,
    }
    (folder / OURS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def save_language_model(lm: Any, folder: Path) -> None:
    """Write a folder that `from_pretrained` opens, of peft where the model has an adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    if lm.adapter is None:
        save_published(lm.model, lm.tokenizer, folder)
    else:
        save_adapter(lm.model, lm.adapter, folder)
        save_tokenizer(lm.tokenizer, folder)


def open_adapter(
    folder: Path,
    open_base: Callable[[str], tuple[Any, Any]],
    fingerprint: Callable[[Any, Any], str],
) -> tuple[Any, Any, Adapter]:
    """The base with the adapter in it, its tokenizer, and what the adapter is.

    Args:
        folder: Where the adapter is.
        open_base: Opens a model and its tokenizer, by folder or published name.
        fingerprint: Of those two.

    Raises:
        EngramError: The base is not found, or is another model; damaged or unknown files.
    """
    adapter = read_adapter(folder)
    where = _base_of(folder, adapter)
    model, tokenizer = open_base(where)
    found = fingerprint(model, tokenizer)
    if adapter.fingerprint and found != adapter.fingerprint:
        raise EngramError(
            f"{folder} holds an adapter of another base: it was trained on a model with the "
            f"fingerprint {adapter.fingerprint}, but {where} has {found}",
            hint=f"put the right base (or a link to it) into {folder / 'base'}",
        )
    with torch.random.fork_rng(devices=[]):  # what is drawn is written over
        attach(model, adapter)
    _fill(model, adapter, folder, where)
    model.eval()
    return model, tokenizer, Adapter(adapter.kind, adapter.settings, where, found)


def read_adapter(folder: Path) -> Adapter:
    """What an adapter folder, of ours or of peft's, says of itself."""
    if not (folder / WEIGHTS).is_file():
        raise EngramError(
            f"{folder} has an adapter's configuration but no {WEIGHTS}",
            hint="copy the folder again; pickled weights are not read: save them as safetensors",
        )
    check_safetensors(folder / WEIGHTS)
    if not (folder / OURS).is_file():
        return _of_peft(folder, read_config(folder / PEFT))
    facts = read_config(folder / OURS)
    kind, settings = facts.get("kind"), facts.get("settings")
    if kind not in ("adapter", *KINDS.values()) or not isinstance(settings, Mapping):
        raise EngramError(
            f"{folder / OURS} says kind {kind!r}, which is not known",
            hint="the file may be damaged, or come from a newer version of Engram",
        )
    return Adapter(kind, settings, str(facts.get("base", "")), str(facts.get("fingerprint", "")))


def _of_peft(folder: Path, config: Mapping[str, Any]) -> Adapter:
    """Somebody else's adapter: only what we can do exactly as peft does is taken."""
    kind = KINDS.get(str(config.get("peft_type")))
    odd = [name for name in UNKNOWN if config.get(name)]
    if config.get("bias", "none") != "none":
        odd.append("bias")
    if kind is None or odd:
        what = f"of type {config.get('peft_type')}" if kind is None else f"with {', '.join(odd)}"
        raise EngramError(
            f"{folder} holds an adapter {what}, which is not read",
            hint="merge it into its base: model.merge_and_unload().save_pretrained(...)",
        )
    if kind == "lora":
        settings = {name: config[name] for name in LORA if name in config}
        settings["lora_dropout"] = 0.0
    else:
        settings = {"virtual_tokens": int(config.get("num_virtual_tokens") or 0)}
    return Adapter(kind, settings, str(config.get("base_model_name_or_path") or ""))  # type: ignore[arg-type]


def _base_of(folder: Path, adapter: Adapter) -> str:
    """Where the base is now."""
    recorded = Path(adapter.base)
    for place in (folder / "base", recorded, folder.parent / recorded.name):
        if adapter.base and place.is_dir() and place.resolve() != folder.resolve():
            return str(place)
    if adapter.base and not recorded.is_absolute() and not adapter.base.startswith("."):
        return adapter.base  # a published name
    raise EngramError(
        f"the base of the adapter in {folder} is not at {adapter.base or '(nowhere written)'}",
        hint=f"put it, or a link to it, into {folder / 'base'}",
    )


def _fill(model: Any, adapter: Adapter, folder: Path, base: str) -> None:
    """Read the small weights into the model that they were made for."""
    saved, own = load_file(folder / WEIGHTS), model.state_dict()
    wanted = {name: _saved_name(name, adapter) for name in adapter_names(model)}
    shapes = {name: tuple(own[name].shape) for name in wanted}
    found = {name: tuple(saved[s].shape) for name, s in wanted.items() if s in saved}
    if found != shapes or set(saved) - set(wanted.values()):
        wrong = sorted(n for n in shapes if found.get(n) != shapes[n]) or sorted(saved)
        raise EngramError(
            f"{folder} holds an adapter of another base: its weights do not fit {base} "
            f"({len(wrong)} differ, the first is {wrong[0]})",
            hint=f"put the right base (or a link to it) into {folder / 'base'}",
        )
    with torch.no_grad():
        for name, theirs in wanted.items():
            own[name].copy_(saved[theirs])


def _saved_name(name: str, adapter: Adapter) -> str:
    if adapter.kind == "lora":
        return PREFIX + name.replace(".default.", ".")
    return name if adapter.kind == "adapter" else "prompt_embeddings"


def _soft_config(model: Any, adapter: Adapter) -> Any:
    """The configuration that peft needs to make the same virtual tokens."""
    peft, made = require_peft(adapter.kind), getattr(model.base_model, soft_prompts.NAME)
    cls = peft.PrefixTuningConfig if adapter.kind == "prefix" else peft.PromptTuningConfig
    heads = made.heads
    width = made.size if adapter.kind == "prompt" else made.size * heads
    return cls(
        task_type="CAUSAL_LM",
        num_virtual_tokens=made.tokens,
        token_dim=width,
        num_layers=made.layers,
        num_attention_heads=heads,
        num_transformer_submodules=1,
    )


def _save_config(config: Any, adapter: Adapter, folder: Path) -> None:
    config.base_model_name_or_path, config.inference_mode = adapter.base, True
    config.save_pretrained(str(folder))
