"""Look at a published model's folder before anything opens it: it comes from outside.

Weights are read from safetensors alone, and no code that a model brings along is ever run.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from engram.core import EngramError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
CONFIGS = ("config.json", "adapter_config.json")
LARGEST_CONFIG = 16 * 2**20
INDEX = "model.safetensors.index.json"


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is not a whole, safe Hugging Face model.

    Raises:
        EngramError: No configuration, no weights or only pickled ones, damaged weights, code,
            or no tokenizer.
    """
    check_safe_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise EngramError(
            f"{folder} has no tokenizer",
            hint="save it beside the model: tokenizer.save_pretrained(folder)",
        )


def check_safe_weights(folder: Path) -> None:
    """The same of a model that reads no text, and so needs no tokenizer."""
    if not folder.is_dir():
        raise EngramError(
            f"{folder} is a file, not a model folder",
            hint="give the folder; a model that has none (scikit-learn, ONNX) is audited by its "
            "losses: engram audit --scores losses.csv",
        )
    _check_config(folder)
    _check_no_code(folder)
    _check_weights(folder)


def _check_config(folder: Path) -> None:
    if (folder / "config.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        raise EngramError(
            f"{folder} holds an adapter, not a whole model",
            hint="merge it into its base first: model.merge_and_unload().save_pretrained(...)",
        )
    inner = sorted({str(p.parent) for name in CONFIGS for p in folder.glob(f"*/{name}")})
    raise EngramError(
        f"{folder} is not a model folder: it has no config.json",
        hint=f"inside of it are some: {', '.join(inner[:4])}"
        if inner
        else "a model folder is what save_pretrained(folder) writes",
    )


def _check_no_code(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_config(folder / name):
            raise EngramError(
                f"{folder / name} asks to run code of its own (auto_map)",
                hint="Engram never runs a model's code: use a model whose architecture "
                "transformers has built in",
            )
    if scripts := sorted(folder.glob("*.py")):
        raise EngramError(
            f"{folder} carries code ({scripts[0].name}), which Engram never runs",
            hint="if the model opens without it, delete the file",
        )


def _check_weights(folder: Path) -> None:
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
        if pickled:
            raise EngramError(
                f"{folder} has only pickled weights ({pickled[0]}), which can run code when read",
                hint="convert them where you trust them: load the model there and call "
                "model.save_pretrained(folder), which writes safetensors",
            )
        raise EngramError(
            f"{folder} has no weights", hint="model.safetensors is missing; copy the folder again"
        )
    if (folder / INDEX).is_file():
        shards = read_config(folder / INDEX).get("weight_map", {})
        if absent := sorted({str(s) for s in shards.values()} - {p.name for p in found}):
            raise EngramError(
                f"{folder} lacks {absent[0]} ({len(absent)} of its weight files)",
                hint="copy the folder again",
            )
    for path in found:
        check_safetensors(path)


def check_safetensors(path: Path) -> None:
    """Refuse a file that is not whole: its header must describe exactly the bytes there are."""
    try:
        with safe_open(path, "np"):
            pass
    except (SafetensorError, OSError) as problem:
        raise EngramError(
            f"{path} is damaged ({problem})", hint="copy or write the file again"
        ) from None


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from outside: limited in size, and an error that names the file."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise EngramError(
                f"{path} has {path.stat().st_size:,} bytes; more than {LARGEST_CONFIG:,} are "
                "not read",
                hint="a configuration is small: is this the right file?",
            )
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise EngramError(
            f"{path} cannot be read ({str(problem)[:120]})", hint="the file may be damaged"
        ) from None
    if not isinstance(found, dict):
        raise EngramError(
            f"{path} holds a {type(found).__name__}, not an object", hint="the file may be damaged"
        )
    return found
