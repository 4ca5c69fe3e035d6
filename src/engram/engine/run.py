"""The `Run` that every arrow is given: named randomness, stored answers, other targets."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from engram import families, signals
from engram.core import (
    EngramError,
    Sampler,
    Shadows,
    Split,
    Target,
    TokenSignals,
    seed_of,
    stream,
)
from engram.engine import targets
from engram.engine.executor import Executor, Fit, InProcess
from engram.parts.completions import Budget
from engram.store import LOG, TARGET, default_root, disk_errors, run_id

Watch = Callable[[int, int, str], None]


Listen = Callable[[Mapping[str, Any]], None]


def silent(done: int, total: int, what: str) -> None:
    """Watch nothing."""


def deaf(entry: Mapping[str, Any]) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Reading:
    """How a language model reads records.

    Attributes:
        batch_tokens: Tokens in one forward pass, padding included.
        stride: Tokens by which windows over a long record advance; 0: half the window.
        window: Tokens that the model sees at once; 0: all that it can.
        long: "window" reads records longer than that in strided windows; "refuse" names them.
    """

    batch_tokens: int = 4096
    stride: int = 0
    window: int = 0
    long: str = "window"

    def __post_init__(self) -> None:
        if self.long not in ("window", "refuse"):
            raise EngramError(
                f"long is {self.long!r}, but must be window or refuse",
                hint="window reads long records piece by piece, with overlap",
            )
        for name in ("batch_tokens", "stride", "window"):
            if getattr(self, name) < 0:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must not be negative",
                    hint="0 lets the model decide",
                )


@dataclass(frozen=True)
class EngineRun:
    """One run of the engine; implements `engram.core.Run`.

    Attributes:
        seed: Root of all random streams.
        device: "cpu", "cuda", "cuda:1", ...
        root: The store: signals and fitted targets are kept and found there.
        scratch: Checkpoints of the work in progress.
        reading: How language models read records.
        watch: Called with (done, total, what) as work goes on.
        listen: Called with each entry of the log, as it is written.
        executor: Where shadow models and other fan-out work is done.
        budget: How many requests may be made of servers.
        validation: Records that a recipe may look at while it trains, and not learn from.
    """

    seed: int = 0
    device: str = "cpu"
    root: Path = field(default_factory=default_root)
    scratch: Path = field(default_factory=lambda: default_root() / "scratch")
    reading: Reading = field(default_factory=Reading)
    watch: Watch = silent
    listen: Listen = deaf
    executor: Executor = field(default_factory=InProcess)
    budget: Budget = field(default_factory=Budget, compare=False)
    validation: Split | None = field(default=None, compare=False)
    _opened: dict[str, Target] = field(default_factory=dict, compare=False)
    _folders: dict[str, Path] = field(default_factory=dict, compare=False)
    _answers: dict[tuple[str, str], tuple[Split, Any]] = field(default_factory=dict, compare=False)

    def stream(self, *path: str | int) -> np.random.Generator:
        """The random stream of one purpose."""
        return stream(self.seed, *path)

    def tokens(self, target: Target, split: Split) -> TokenSignals:
        """Token signals: from memory, else from disk, else by one pass of the model."""
        known = self._known(target, split, "tokens")
        return self._pass(target, split) if known is None else known

    def _known(self, target: Target, split: Split, what: str) -> Any:
        """An answer already given for this split, or for one that holds all of its records."""
        kind = f"{what} {target.fingerprint}"
        if (split.fingerprint, kind) in self._answers:
            return self._answers[split.fingerprint, kind][1]
        others = [known for (_, found), known in self._answers.items() if found == kind]
        context = getattr(families.find(target.family), "context", frozenset())
        for asked, answer in others:
            if not same_context(asked, split, context):
                continue
            rows = asked.ids.places(split.ids)
            if rows is not None and asked.digests.take(rows) == split.digests:
                if isinstance(answer, TokenSignals):
                    return self._keep(target, split, what, answer.aligned(split.ids))
                return answer[rows]
        return None

    def _keep(self, target: Target, split: Split, what: str, answer: Any) -> Any:
        self._answers[split.fingerprint, f"{what} {target.fingerprint}"] = (split, answer)
        return answer

    def _pass(self, target: Target, split: Split) -> TokenSignals:
        offered = families.offered(target.family, target.model)
        if not {"tokens", "logprobs"} & offered:
            raise EngramError(
                f"target {target.name!r} is a {target.family}, which has no tokens",
                hint="choose attacks that need losses or logits: `engram ls attacks`",
            )
        target.require("logits", "reading tokens")
        if "tokens" not in offered:  # behind a server: the family asks, and keeps the answers
            found = families.find(target.family).logprobs(target.model, split)
            return self._keep(target, split, "tokens", found)
        reading = self.reading
        with disk_errors(self.root):
            self.executor.tokens(target, split, self)
            found = signals.token_signals(
                target.model,
                split,
                self.root / "signals",
                target=target.fingerprint,
                batch_tokens=reading.batch_tokens,
                stride=reading.stride,
                window=reading.window,
                long=reading.long,
                progress=self.progress,
            )
        return self._keep(target, split, "tokens", found)

    def losses(self, target: Target, split: Split) -> np.ndarray:
        """Per-record losses; for language models from the token signals."""
        if {"tokens", "logprobs"} & families.offered(target.family, target.model):
            return self.tokens(target, split).losses()
        return self._array(target, split, "losses")

    def logits(self, target: Target, split: Split) -> np.ndarray:
        """Class logits; (n, classes)."""
        if "logits" not in families.find(target.family).answers:
            raise EngramError(
                f"target {target.name!r} is a {target.family}, which has no class logits",
                hint="`engram ls attacks` says what each attack needs",
            )
        return self._array(target, split, "logits")

    def _array(self, target: Target, split: Split, what: str) -> np.ndarray:
        known = self._known(target, split, what)
        if known is not None:
            return known
        family = families.find(target.family)
        path = self.root / "signals" / f"{what}-{target.fingerprint}-{split.fingerprint}.npy"
        answer = stored_array(path, lambda: getattr(family, what)(target.model, split))
        return self._keep(target, split, what, answer)

    def computed(
        self,
        name: str,
        target: Target,
        split: Split,
        settings: Mapping[str, Any],
        work: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """The answer of `work()`: from disk, else computed and stored; see `engram.core.Run`."""
        key = run_id(
            name, target=target.fingerprint, split=split.fingerprint, settings=dict(settings)
        )
        answer = stored_array(self.root / "signals" / f"{key}.npy", work)
        if answer.shape[:1] != (len(split),):
            raise EngramError(
                f"{name} gave an array of shape {answer.shape} for {len(split)} records",
                hint="this is a mistake in the method, not in your data",
            )
        return answer

    def fit(self, recipe: Any, split: Split, *path: str | int) -> Target:
        """Train another target on all of `split`, or find it in the store.

        A target in the place of the recipe stands for the recipe and the seed that made it.
        """
        from engram.engine.train import train_on

        if isinstance(recipe, Target):
            from engram.engine.shadows import own_recipe

            hint = "only a target that `engram train` made can be trained again"
            run = replace(self, seed=recipe.lineage.recipe().seed)
            return run.fit(own_recipe(recipe, hint), split, *path)
        everything = np.ones(len(split), bool)
        run = replace(self, seed=seed_of(self.seed, *path) % 2**63) if path else self
        target = train_on(recipe, split, everything, run, source=split.name)
        self.remember(target)
        return target

    def shadows(self, target: Target, split: Split, count: int, share: float = 0.5) -> Shadows:
        """Models trained as the target was, on known shares of the records."""
        from engram.engine.shadows import shadows

        return shadows(self, target, split, count, share)

    def retrained(self, target: Target, splits: Sequence[Split], name: str) -> Sequence[Target]:
        """Models trained as the target was, one on each split."""
        from engram.engine.shadows import retrained

        return retrained(self, target, splits, name)

    def sampler(self, target: Target, temperature: float = 1.0) -> Sampler:
        """Text access to a language model."""
        from engram.engine.sampler import sampler

        return sampler(target, temperature, self)

    def records(self, where: str, target: Target | None = None) -> Split:
        """Records that the user named, in the form of the target's own."""
        from engram import data

        options = {} if target is None else dict(target.lineage.data_options)
        options.pop("limit", None)
        return data.read(where, **options)

    def target(self, where: str) -> Target:
        """A target that the user named; opened once."""
        key = _place(where)
        if key not in self._opened:
            self._opened[key] = self._load(where)
            self.remember(self._opened[key])
        return self._opened[key]

    def own(self, where: str) -> Target:
        """A target that the user named, opened anew: the caller may change it in place.

        One that was opened before is let go, so that no two copies are held for nothing.
        """
        self._opened.pop(_place(where), None)
        return self._load(where)

    def _load(self, where: str) -> Target:
        return targets.load(
            where, self.device, root=self.root, budget=self.budget, watch=self.progress
        )

    def remember(self, target: Target) -> None:
        """Take note of where a target is stored: those that attacks are given do not say."""
        if target.folder is not None:
            self._folders[target.fingerprint] = target.folder

    def folder_of(self, target: Target) -> str:
        """Where a target is stored, as far as this run was told; "" where it was not."""
        folder = target.folder or self._folders.get(target.fingerprint)
        return str(folder.resolve()) if folder else ""

    def tokens_store(self, lm: Any, split: Split, fingerprint: str) -> Any:
        """Where the token signals of these records are kept, or will be."""
        from engram.signals.shards import store_of

        reading = self.reading
        return store_of(
            lm,
            split,
            self.root / "signals",
            target=fingerprint,
            batch_tokens=reading.batch_tokens,
            stride=reading.stride,
            window=reading.window,
        )

    def has(self, job: Fit) -> bool:
        """Whether a job's target is in the store already."""
        from engram.engine.train import stored_folder

        return (
            stored_folder(job.recipe, job.split, replace(self, seed=job.seed)) / TARGET
        ).is_file()

    def log(self, **entry: float | int | str) -> None:
        """Add one line to the log of the work in progress."""
        line = json.dumps({"time": round(time.time(), 3), **entry}) + "\n"
        path = os.path.join(self.scratch, LOG)  # every step of a training comes here
        with disk_errors(self.scratch):
            if not os.path.isdir(self.scratch):
                self.scratch.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
        self.listen(entry)

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell whoever watches."""
        self.watch(done, total, what)


def same_context(one: Split, other: Split, names: frozenset[str]) -> bool:
    """Whether both splits carry the same arrays of these names beside their records."""
    return one.shared is other.shared or all(
        np.array_equal(one.shared.get(name, ()), other.shared.get(name, ())) for name in names
    )


def _place(where: str) -> str:
    return str(Path(where).resolve()) if Path(where).exists() else where


def stored_array(path: Path, work: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from its file; where there is none, `work` makes it and it is written first."""
    if not path.is_file():
        answer = np.asarray(work())
        part = path.with_suffix(f".{os.getpid()}.part.npy")
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(part, answer, allow_pickle=False)
            part.replace(path)
    return np.load(path, allow_pickle=False)


def pick_device(device: str) -> str:
    """Resolve "auto" to the best device there is; refuse one that is not there."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # one GPU a process
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise EngramError(
            f"device {device!r} cannot be used here ({str(problem).splitlines()[0]})",
            hint="--device cpu always works; --device auto takes the best there is",
        ) from None
    return device
