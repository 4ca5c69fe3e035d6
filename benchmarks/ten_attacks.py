"""A battery of ten attacks beside the bare forward passes that it cannot avoid.

The battery asks a target, and its base, about the records, their lower-case copies, their
neighbours and the records behind a prefix. `bare` is every one of those passes as batched forward
passes that write whole logits and do nothing else; records are sorted by length, so that hardly
anything is padding. `engram` is the ten attacks into an empty store: tokenising, making
neighbours, reading, storing and scoring. Both run in turn in one process, timed by the clock and by
the processor's time, which other work disturbs less; the best of each is compared.

    python benchmarks/ten_attacks.py
    python benchmarks/ten_attacks.py --sizes small --json results.json
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from audit_throughput import BATCH, CONTEXT, SIZES, Size, language_model, texts

from engram import signals
from engram.core import Lineage, Split, Target
from engram.engine.battery import make
from engram.engine.run import EngineRun
from engram.families.causal_lm import LanguageModel
from engram.methods.attacks import recall

TEN: dict[str, dict[str, object]] = {
    "loss": {},
    "zlib": {},
    "lowercase": {},
    "min-k": {},
    "min-k-plus-plus": {},
    "surprising-tokens": {},
    "dc-pdd": {},
    "reference": {"reference": "base"},
    "recall": {"prefix": "outside"},
    "neighbourhood": {"filler": "random", "neighbours": 5},
}


@dataclass(frozen=True)
class TimedRun(EngineRun):
    """A run that finds its base and its outside records in memory."""

    base: Target | None = None
    outside: Split | None = None

    def target(self, where: str) -> Target:
        """The base, whatever it is called."""
        return self.base or super().target(where)

    def records(self, where: str, target: Target | None = None) -> Split:
        """The records outside, whatever they are called."""
        return self.outside or super().records(where, target)


CLOCKS = ("clock", "processor")


def clocks() -> dict[str, float]:
    """Seconds by the clock, and those that the processor gave to this process."""
    return dict(zip(CLOCKS, (time.perf_counter(), time.process_time()), strict=True))


Pass = tuple[LanguageModel, list[list[int]]]
"""A model, and the sequences of tokens that it was asked about."""


@contextmanager
def noted(passes: list[Pass], target: Target) -> Iterator[None]:
    """Take note of every sequence that a model is asked about."""
    asked, gathered = signals.token_signals, recall.gathered

    def noting(lm: LanguageModel, split: Split, *args: object, **more: object) -> object:
        passes.append((lm, lm.tokenizer(list(split.texts))["input_ids"]))
        return asked(lm, split, *args, **more)

    def noting_recall(placed: list) -> object:
        passes.append((target.model, [list(tokens) for tokens, _ in placed]))
        return gathered(placed)

    signals.token_signals, recall.gathered = noting, noting_recall
    try:
        yield
    finally:
        recall.gathered = gathered
        del signals.token_signals


def battery(target: Target, base: Target, split: Split, outside: Split) -> list[Pass]:
    """The ten attacks into an empty store; the passes that they asked for."""
    passes: list[Pass] = []
    attacks = {name: make("attacks", name, fields) for name, fields in TEN.items()}
    with tempfile.TemporaryDirectory() as root, noted(passes, target):
        run = TimedRun(root=Path(root), base=base, outside=outside)
        for attack in attacks.values():
            if not np.isfinite(attack(target, split, run).values).all():
                raise SystemExit("a score is not finite")
    return passes


def bare(passes: list[Pass]) -> int:
    """The same passes as batched forward passes; returns the tokens that were read."""
    total = 0
    for lm, asked in passes:
        ids = sorted(asked, key=len)
        for first in range(0, len(ids), BATCH):
            batch = ids[first : first + BATCH]
            tokens = torch.zeros((len(batch), len(batch[-1])), dtype=torch.long)
            mask = torch.zeros_like(tokens)
            for place, row in enumerate(batch):
                tokens[place, : len(row)] = torch.tensor(row)
                mask[place, : len(row)] = 1
            with torch.inference_mode():
                out = lm.model(input_ids=tokens, attention_mask=mask, use_cache=False)
                out.logits[0, 0, 0].item()
            total += int(mask.sum())
    return total


def timed(size: Size, args: argparse.Namespace) -> dict[str, object]:
    lm, other = language_model(size, "gpt2"), language_model(size, "gpt2")
    lineage = Lineage(base="base")
    target = Target("timed", "causal-lm", lm, "timed", lineage=lineage)
    base = Target("base", "causal-lm", other, "base")
    rng = np.random.default_rng(0)
    half = CONTEXT // 2
    written = texts(args.records, size.vocabulary, half, half, rng)
    # A word in capitals, which the tokenizer does not know: the lower-case copy is another text.
    split = Split.of("timed", text=[f"W{text}" for text in written])
    outside = Split.of("outside", text=texts(24, size.vocabulary, half // 4, half // 4, rng))
    few = split.take(range(4))
    bare(battery(target, base, few, outside))  # all is warmed up
    times: dict[str, list[float]] = {
        f"{who}, {c}": [] for who in ("bare", "engram") for c in CLOCKS
    }
    passes, tokens = [], 0
    for _ in range(args.repeats):
        before = clocks()
        passes = battery(target, base, split, outside)
        middle = clocks()
        tokens = bare(passes)
        after = clocks()
        for clock in CLOCKS:
            times[f"engram, {clock}"].append(middle[clock] - before[clock])
            times[f"bare, {clock}"].append(after[clock] - middle[clock])
    return {
        **asdict(size),
        "records": len(split),
        "passes": [len(asked) for _, asked in passes],
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "seconds": times,
        "best_over_best": {
            clock: min(times[f"engram, {clock}"]) / min(times[f"bare, {clock}"]) for clock in CLOCKS
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--records", type=int, default=48, help=f"of {CONTEXT // 2} tokens each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    found = []
    for name in args.sizes:
        row = timed(SIZES[name], args)
        found.append(row)
        print(
            f"{SIZES[name]}: ten attacks, {len(row['passes'])} passes over "
            f"{sum(row['passes']):,} texts ({row['tokens']:,} tokens): "
            + ", ".join(f"{row['best_over_best'][clock]:.3f}x by {clock}" for clock in CLOCKS)
            + f" of the bare passes (best of {args.repeats}, {row['threads']} threads)",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
