"""One epoch of `finetune-lm` beside a bare PyTorch loop on the same batches.

`bare` reads the batches that were made before, and does nothing but forward, backward, clipping
and AdamW. `engram` is the recipe as users run it: tokenising, batching, schedule, seeded dropout,
trace and checkpoints. Both run in turn in one process, and each is said by its middle run. The
clock is the processor's by default, which other work on the machine disturbs least.

Peak memory is that of processes of their own, which open a larger base from the disk and take a
few steps.

    python benchmarks/finetune_throughput.py
    python benchmarks/finetune_throughput.py --runs 3 --json results.json
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file, save_file

from engram.core import Split, stream
from engram.engine import EngineRun
from engram.families.causal_lm import FAMILY, tiny
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.parts.token_examples import IGNORED
from engram.parts.training import Epochs

BATCH = 8
SPEED = {"layers": 4, "width": 128, "heads": 4, "context": 128, "vocabulary": 2048}
MEMORY = {"layers": 6, "width": 512, "heads": 8, "context": 128, "vocabulary": 2048}
NAMES = ("tokens", "labels")
WORDS = (
    "the", "of", "a", "in", "was", "with", "patient", "day", "ward", "fever", "note", "pressure",
    "blood", "left", "right", "came", "seen", "for", "letter", "after", "before", "no", "chest",
)  # fmt: skip


def texts(n: int) -> Split:
    """Records of 10 to 60 words, all different."""
    rng = stream(0, "benchmark")
    return Split.of(
        "texts",
        text=[
            " ".join(f"{w}{rng.integers(99)}" for w in rng.choice(WORDS, rng.integers(10, 60)))
            for _ in range(n)
        ],
    )


def saved_base(folder: Path, split: Split, size: dict[str, int]) -> Path:
    """A random model in a folder."""
    FAMILY.save(tiny(split.texts, seed=0, dropout=0.1, **size), folder)
    return folder


def recipe_on(base: Path) -> FinetuneLm:
    """One epoch, everything else by default."""
    return FinetuneLm(base=str(base), epochs=1, batch_size=BATCH)


def engram(base: Path, split: Split, root: Path) -> None:
    """The recipe through the engine, in a store of its own."""
    run = EngineRun(root=root, scratch=root / "scratch")
    recipe_on(base)(split, run)


def watched(base: Path, split: Split, aside: Split, root: Path, observe: bool) -> None:
    """As many epochs as are the default, looked at or not; validation records are set aside."""
    run = EngineRun(root=root, scratch=root / "scratch", validation=aside)
    FinetuneLm(base=str(base), batch_size=BATCH, observe=observe)(split, run)


def monitor(args: argparse.Namespace) -> dict[str, object]:
    """What looking adds to a training at default settings, as a share of its seconds."""
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    both = texts(2 * args.records)
    split, aside = both.take(range(args.records)), both.take(range(args.records, len(both)))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        base = saved_base(root / "base", split, SPEED)
        for turn in range(args.runs + 1):
            for observe in seconds:
                begun = clock()
                watched(base, split, aside, root / f"{observe}-{turn}", observe)
                seconds[observe].append(clock() - begun)
    pairs = zip(*(each[1:] for each in seconds.values()), strict=True)  # the first warms up
    added = median(looked / plain for plain, looked in pairs) - 1
    return {"seconds": [median(each[1:]) for each in seconds.values()], "share": added}


def bare(base: Path, split: Split, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Forward, backward, clip, AdamW; the mean over the tokens of a batch."""
    lm = FAMILY.load(base)
    model = lm.model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=True)
    for tokens, labels in batches:
        mask = (tokens != IGNORED).long()
        logits = model(input_ids=tokens.clamp(min=0), attention_mask=mask, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        loss.item()


def batches_of(base: Path, split: Split, root: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The very batches that the recipe takes."""
    examples = FAMILY.examples(FAMILY.load(base), split)
    epochs = Epochs(examples, BATCH, EngineRun(root=root))
    return [examples.padded(epochs.rows(step)) for step in range(epochs.per_epoch)]


def speed(args: argparse.Namespace) -> dict[str, object]:
    """Seconds of each contender's middle run, and their ratio."""
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    split = texts(args.records)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        base = saved_base(root / "base", split, SPEED)
        batches = batches_of(base, split, root)
        contenders: dict[str, Callable[[Path], None]] = {
            "bare": lambda _: bare(base, split, batches),
            "engram": lambda own: engram(base, split, own),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(args.runs + 1):
            for name, work in contenders.items():
                begun = clock()
                work(root / f"{name}-{turn}")
                seconds[name].append(clock() - begun)
    middle = {name: median(each[1:]) for name, each in seconds.items()}  # the first one warms up
    ratios = [a / b for a, b in zip(seconds["engram"][1:], seconds["bare"][1:], strict=True)]
    return {"seconds": middle, "ratio": median(ratios), "steps": len(batches), "clock": args.clock}


def peak(who: str, base: Path, batches: Path, records: int) -> int:
    """Peak memory, in bytes, of a process of its own that trains."""
    command = [sys.executable, __file__, "--peak", who, "--base", str(base)]
    command += ["--batches", str(batches), "--records", str(records)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["bytes"])


def trained_alone(args: argparse.Namespace) -> None:
    """What a process of its own does; prints its peak."""
    split = texts(args.records)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if args.peak == "engram":
            engram(args.base, split, root)
        else:
            made = load_file(args.batches)
            pairs = range(len(made) // 2)
            bare(args.base, split, [(made[f"tokens {k}"], made[f"labels {k}"]) for k in pairs])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"bytes": used * (1 if sys.platform == "darwin" else 1024)}))


def memory(args: argparse.Namespace) -> dict[str, object]:
    """Peaks of both, and their ratio."""
    records = 4 * BATCH
    with tempfile.TemporaryDirectory() as name:
        root, split = Path(name), texts(records)
        base, stored = saved_base(root / "base", split, MEMORY), root / "batches.safetensors"
        made = enumerate(batches_of(base, split, root))
        tensors = {
            f"{each} {k}": tensor
            for k, pair in made
            for each, tensor in zip(NAMES, pair, strict=True)
        }
        save_file(tensors, stored)
        found = {who: peak(who, base, stored, records) for who in ("bare", "engram")}
    return {"bytes": found, "ratio": found["engram"] / found["bare"]}


def main() -> None:
    """Time both, weigh both, and say so."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each is timed")
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", choices=("bare", "engram"), help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak:
        trained_alone(args)
        return
    found = {"speed": speed(args), "monitor": monitor(args), "memory": memory(args)}
    quick, large = found["speed"], found["memory"]
    for name, seconds in quick["seconds"].items():
        print(f"{name:>7}: {seconds:7.2f} s ({quick['clock']}) for {quick['steps']} steps")
    print(f"  ratio: {quick['ratio']:.3f} (at most 1.05)")
    print(f"monitor: {found['monitor']['share']:7.3f} of training is added (at most 0.15)")
    for name, size in large["bytes"].items():
        print(f"{name:>7}: {size / 2**20:7.0f} MiB at the peak")
    print(f"  ratio: {large['ratio']:.3f} (at most 1.10)")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
