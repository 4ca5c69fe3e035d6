"""Published language models: opened, saved and told apart in one way by every family of texts.

Only safetensors are read, and no code that comes with a model is run.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub.constants import ENDPOINT
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from engram.core import EngramError
from engram.parts.fingerprints import arrays_fingerprint, weights
from engram.parts.model_folder import check_model_folder, read_config

SANE = 10**6
"""A tokenizer that claims a longer context than this knows of no limit."""
OTHER_HEADS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
    "ForMultipleChoice", "ForNextSentencePrediction", "RewardModel",
)  # fmt: skip
"""Models that end like these read a text, and say how likely it is no more."""
VOLATILE = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")
"""Entries of a configuration that say nothing of the model's answers."""


def open_published(
    where: str | Path, device: str, auto: Any, kind: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Open a model folder, or a published model by its name. Weights keep their saved type.

    Args:
        where: A folder, or a name such as `gpt2`.
        device: Where the weights are put.
        auto: The class of transformers that opens models of this kind.
        kind: What these models are called in messages: "causal language model".

    Raises:
        EngramError: There is no such model, or it is not whole, or not safe to open.
    """
    folder = Path(where)
    if folder.exists():
        check_model_folder(folder)
        _check_kind(where, read_config(folder / "config.json"), kind)
    elif _is_path(str(where)):
        raise EngramError(f"there is no folder {folder}", hint="is the path right?")
    model, tokenizer = _opened(str(where), folder.exists(), auto, kind)
    return _moved(model, device), tokenizer


def save_published(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a folder that `from_pretrained` opens."""
    with quiet():
        model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer that `from_pretrained` opens."""
    with quiet():
        tokenizer.save_pretrained(folder)


def published_fingerprint(
    model: Any, tokenizer: Any, more: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """Hash of weights, configuration and tokenizer, and of `more` facts."""
    facts = {
        "config": _lasting(model.config.to_diff_dict()),
        "tokenizer": tokenizer_facts(tokenizer),
        "special": sorted(map(str, tokenizer.all_special_tokens)),
        **more,
    }
    return arrays_fingerprint(weights(model), json.loads(json.dumps(facts, default=str)))


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and those inside of it, without what says nothing of the answers."""
    return {
        key: _lasting(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in VOLATILE
    }


def tokenizer_facts(tokenizer: Any) -> dict[str, Any]:
    """All that decides how a tokenizer cuts a text."""
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    # How the last call padded or cut its texts is kept there too, and is no fact.
    return {k: v for k, v in facts.items() if k not in ("padding", "truncation")}


def describe_published(model: Any, context: int) -> Mapping[str, Any]:
    """Architecture, size, vocabulary, context and number type."""
    config = model.config.get_text_config()
    return {
        "architecture": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": int(config.vocab_size),
        "context": context,
        "layers": int(getattr(config, "num_hidden_layers", 0)),
        "width": int(getattr(config, "hidden_size", 0)),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def context_of(model: Any, tokenizer: Any) -> int:
    """The most tokens that a model sees at once, by its configuration and its tokenizer."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    return min((int(x) for x in limits if x and 1 < x < SANE), default=2048)


def published_family(where: str | Path) -> str:
    """The family of a model folder or name, as its configuration says.

    "masked-lm" and "vision-language-lm" (one with a tower for pictures) say so of themselves; all
    others are "causal-lm".
    """
    try:
        if (Path(where) / "config.json").is_file():
            config = read_config(Path(where) / "config.json")
        elif Path(where).exists() or _is_path(str(where)):
            config = {}
        else:
            config = _named_config(str(where)).to_dict()
    except Exception:  # whatever is wrong with it is told when it is opened
        config = {}
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForMaskedLM") for name in names):
        return "masked-lm"
    writes = any(name.endswith("ForConditionalGeneration") for name in names)
    return "vision-language-lm" if writes and config.get("vision_config") else "causal-lm"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and remarks of transformers, which are put back afterwards."""
    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _is_path(where: str) -> bool:
    return where.startswith((".", "/", "~")) or "\\" in where or where.count("/") > 1


def _named_config(name: str) -> Any:
    """The configuration of a published model: from the disk if it is there."""
    try:
        return AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except Exception:  # not there: the hub is asked
        _check_reachable()
        return AutoConfig.from_pretrained(name, trust_remote_code=False)


def _opened(where: str, is_folder: bool, auto: Any, kind: str) -> tuple[Any, Any]:
    """Read model and tokenizer: from the disk if they are there, else by the model's name."""
    problems: list[BaseException] = []
    for local in (True,) if is_folder else (True, False):
        try:
            if not local:
                _check_reachable()
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(
                    where, local_files_only=local, trust_remote_code=False
                )
                model, report = auto.from_pretrained(
                    where,
                    local_files_only=local,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype="auto",
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # so that `_check_complete` can name them
                )
        except Exception as problem:  # any library may fail on files from outside
            problems.append(problem)
            continue
        _check_kind(where, model.config.to_dict(), kind)
        _check_complete(where, report, tokenizer, kind)
        return model.eval(), tokenizer
    raise _unreadable(where, is_folder, problems[-1], kind) from problems[-1]


def _check_reachable() -> None:
    """Fail at once without a network, where the libraries would try again for a minute."""
    if not getproxies():
        host = urlsplit(ENDPOINT).hostname
        try:
            socket.getaddrinfo(host, 443)
        except OSError as problem:
            raise OSError(f"{host} cannot be reached ({problem.strerror})") from None


def _check_kind(where: str | Path, config: Mapping[str, Any], kind: str) -> None:
    """Refuse what transformers would open all the same, with a head that nobody trained."""
    names = [str(name) for name in config.get("architectures") or ()]
    other = [name for name in names if name.endswith(OTHER_HEADS)]
    if config.get("is_encoder_decoder") and not kind.startswith("vision"):
        other = names or [str(config.get("model_type"))]
    if other:
        raise EngramError(
            f"{where} holds a {other[0]}, which is no {kind}",
            hint="export one loss a record and audit the numbers: engram audit --scores losses.csv",
        )


def _check_complete(where: str, report: Mapping[str, Any], tokenizer: Any, kind: str) -> None:
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise EngramError(
            f"the weights of {where} do not fit its configuration: {len(lost)} are missing or of "
            f"another shape ({lost[0]})",
            hint=f"copy or save the model again; is it a {kind}?",
        )
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise EngramError(
            f"the tokenizer of {where} has no fast version",
            hint="convert it to a tokenizer.json first",
        )


def _unreadable(where: str, is_folder: bool, problem: BaseException, kind: str) -> EngramError:
    said = " ".join(str(problem).split())[:160] or type(problem).__name__
    if is_folder:
        model = read_config(Path(where) / "config.json").get("model_type", "without a type")
        return EngramError(
            f"{where} (a model {model!r}) cannot be opened: {said}",
            hint=f"it must be a {kind} whose architecture transformers has",
        )
    return EngramError(
        f"there is no folder {where!r}, and no model of that name could be had: {said}",
        hint="is the name right, and is there a network? A folder works without one",
    )


def _moved(model: PreTrainedModel, device: str) -> PreTrainedModel:
    try:
        return model.to(device)  # type: ignore[return-value,arg-type]
    except (RuntimeError, AssertionError) as problem:
        raise EngramError(
            f"the model cannot be put on device {device!r} ({str(problem).splitlines()[0]})",
            hint="--device cpu always works, if slowly",
        ) from None
