"""What a battery of attacks costs beside the forward passes that it cannot avoid.

Three ways to the same scores (loss, zlib, Min-K%, Min-K%++) over the same records, in one run and
in turn, so that whatever else the machine does meets all of them alike:

* `bare`: batched forward passes that write whole logits, and nothing else. The limit.
* `engram`: everything that `engram audit` does to a model: tokenise, read, store, score.
* `plain`: one record at a time, log-softmax over the whole vocabulary in float32, a Python loop
  over the tokens. `plain` asks the model once for all scores. `plain, each` is a program for
  each score and one for ranks, by sorting, run in turn: how published code is mostly used.
  Both are timed on a few records, and compared by the token.

    python benchmarks/audit_throughput.py                      # both sizes
    python benchmarks/audit_throughput.py --memory             # peak memory against records
    python benchmarks/audit_throughput.py --json results.json  # the same numbers for machines
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from engram.core import Split, Target
from engram.engine.run import EngineRun
from engram.families.causal_lm import LanguageModel
from engram.methods.attacks.loss import Loss
from engram.methods.attacks.min_k import MinK
from engram.methods.attacks.min_k_plus_plus import MinKPlusPlus
from engram.methods.attacks.zlib import Zlib
from engram.signals.reduce import pick_route

BATTERY = (Loss(), Zlib(), MinK(), MinKPlusPlus())
CONTEXT, BATCH = 256, 16
FRACTION = 0.2
MEMORY_RECORDS = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Size:
    """A model to be timed: vocabulary, layers, width."""

    vocabulary: int
    layers: int
    width: int

    def __str__(self) -> str:
        return f"{self.vocabulary:,} x {self.layers} x {self.width}"


SIZES = {"small": Size(4_096, 4, 128), "large": Size(32_000, 8, 512)}


def language_model(size: Size, layout: str) -> LanguageModel:
    """A random model, and a tokenizer that knows `size.vocabulary` words."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size.vocabulary)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=CONTEXT)
    common = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": max(1, size.width // 64),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if layout == "llama":
        config = LlamaConfig(**common, intermediate_size=4 * size.width)
    else:
        config = GPT2Config(**common)
    torch.manual_seed(0)
    return LanguageModel(AutoModelForCausalLM.from_config(config).eval(), tokenizer)


def texts(
    records: int, vocabulary: int, low: int, high: int, rng: np.random.Generator
) -> list[str]:
    lengths = rng.integers(low, high + 1, records)
    return [" ".join(f"w{i}" for i in rng.integers(0, vocabulary, n)) for n in lengths]


def bare(lm: LanguageModel, ids: list[list[int]]) -> None:
    """Batched forward passes over records of one length; whole logits are written."""
    with torch.inference_mode():
        for first in range(0, len(ids), BATCH):
            tokens = torch.tensor(ids[first : first + BATCH])
            lm.model(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False
            ).logits[0, 0, 0].item()


def engram(lm: LanguageModel, split: Split) -> list[np.ndarray]:
    """The whole battery into an empty store."""
    target = Target("timed", "causal-lm", lm, "timed")
    with tempfile.TemporaryDirectory() as root:
        run = EngineRun(root=Path(root))
        return [attack(target, split, run).values for attack in BATTERY]


def plain(lm: LanguageModel, split: Split, *, exact: bool = False) -> list[np.ndarray]:
    """The same scores, record by record, from one forward pass over each."""
    scores = []
    for text in split.texts:
        logprob, mean, deviation = plain_record(lm, text, ("spread", "rank"), exact=exact).T[:3]
        smallest = int(np.ceil(FRACTION * len(logprob) - 1e-9))
        standard = np.sort((logprob - mean) / np.maximum(deviation, 1e-6))
        bits = 8 * len(zlib.compress(text.encode()))
        likeliest = np.sort(logprob)[:smallest].mean()
        scores.append((logprob.mean(), logprob.sum() / bits, likeliest, standard[:smallest].mean()))
    return list(np.array(scores).T)


def plain_each(lm: LanguageModel, split: Split) -> None:
    """A program for each score, one after another: each asks the model for what it needs."""
    for wanted in ((), (), (), ("spread",), ("sorted rank",)):
        for text in split.texts:
            plain_record(lm, text, wanted)


def plain_record(
    lm: LanguageModel, text: str, wanted: Sequence[str], *, exact: bool = False
) -> np.ndarray:
    """Log-probability, and on demand mean, deviation, rank and greedy hit, token by token."""
    ids = lm.tokenizer(text)["input_ids"]
    rows = []
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0]
        logprobs = torch.log_softmax(logits.double() if exact else logits.float(), -1)
        for place, token in enumerate(ids[1:]):
            row = logprobs[place]
            found = [row[token].item()]
            if "spread" in wanted:
                p = row.exp()
                mean = (p * row).sum()
                variance = (p * row.square()).sum() - mean.square()
                found += [mean.item(), variance.clamp(min=0).sqrt().item()]
            if "rank" in wanted:
                found += [(row > row[token]).sum().item(), row.argmax().item() == token]
            if "sorted rank" in wanted:
                order = row.argsort(descending=True)
                found += [(order == token).nonzero()[0, 0].item(), order[0].item() == token]
            rows.append(found)
    return np.array(rows, np.float64)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(size: Size, args: argparse.Namespace) -> dict[str, object]:
    """All ways in turn, `repeats` times; the plain ones on fewer records, and less often."""
    lm = language_model(size, args.layout)
    split = Split.of(
        "timed",
        text=texts(args.records, size.vocabulary, CONTEXT, CONTEXT, np.random.default_rng(0)),
    )
    few = split.take(range(min(args.plain_records, len(split))))
    ids = lm.tokenizer(list(split.texts))["input_ids"]
    gap = difference(engram(lm, few), plain(lm, few, exact=True))  # and all is warmed up
    ways = {
        "bare": (lambda: bare(lm, ids), 1.0),
        "engram": (lambda: engram(lm, split), 1.0),
        "plain": (lambda: plain(lm, few), len(split) / len(few)),
        "plain, each": (lambda: plain_each(lm, few), len(split) / len(few)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.repeats):
        for name, (work, times_more) in ways.items():
            if not name.startswith("plain") or number < 2:
                times[name].append(seconds(work) * times_more)
    ratios = [ours / limit for ours, limit in zip(times["engram"], times["bare"], strict=True)]
    return {
        **asdict(size),
        "tokens": sum(map(len, ids)),
        "seconds": times,
        "engram_over_bare": ratios,
        "engram_over_bare_best": min(times["engram"]) / min(times["bare"]),
        "engram_over_bare_median": statistics.median(ratios),
        "plain_over_engram_best": min(times["plain"]) / min(times["engram"]),
        "plain_each_over_engram_best": min(times["plain, each"]) / min(times["engram"]),
        "largest_difference_of_scores": gap,
    }


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference between two sets of scores: the same work must give the same."""
    return float(max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)))


def table(results: list[dict[str, object]]) -> str:
    lines = [
        "| model | way | best s | median s | tokens/s | against bare: best, median |",
        "|---|---|---|---|---|---|",
    ]
    for found in results:
        size = Size(found["vocabulary"], found["layers"], found["width"])
        limit = found["seconds"]["bare"]
        for name, times in found["seconds"].items():
            ratios = [t / b for t, b in zip(times, limit, strict=False)]
            lines.append(
                f"| {size} | {name} | {min(times):.3f} | {statistics.median(times):.3f} "
                f"| {found['tokens'] / min(times):,.0f} "
                f"| {min(times) / min(limit):.3f}x, {statistics.median(ratios):.3f}x |"
            )
    return "\n".join(lines)


def memory_child(path: Path) -> None:
    """Audit the short records of a file with the small model; print the peak memory in MiB."""
    lm = language_model(SIZES["small"], "gpt2")
    split = Split.from_table("short", pq.read_table(path, memory_map=True))
    records, before = len(split), peak_mib()
    scores = engram(lm, split)
    if not all(np.isfinite(values).all() for values in scores):
        raise SystemExit("a score is not finite")
    print(json.dumps({"records": records, "before_mib": before, "peak_mib": peak_mib()}))


def short_records(records: int, vocabulary: int, block: int = 1_000) -> pa.Table:
    """Random words, made a block at a time."""
    rng = np.random.default_rng(0)
    blocks = [
        pa.array(texts(min(block, records - first), vocabulary, 8, 24, rng))
        for first in range(0, records, block)
    ]
    return pa.table({"text": pa.chunked_array(blocks)})


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def memory() -> list[dict[str, float]]:
    """One process for each number of records, which it reads from a file as a user's would."""
    found = []
    for records in MEMORY_RECORDS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "short.parquet"
            pq.write_table(short_records(records, SIZES["small"].vocabulary), path)
            command = [sys.executable, __file__, "--memory-child", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        row = found[-1]
        growth = row["peak_mib"] / found[0]["peak_mib"] - 1
        print(
            f"{records:>8,} records: peak {row['peak_mib']:.0f} MiB ({growth:+.1%}), "
            f"{row['before_mib']:.0f} MiB before the audit",
            flush=True,
        )
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--layout", choices=["gpt2", "llama"], default="gpt2")
    parser.add_argument("--records", type=int, default=64, help=f"of {CONTEXT} tokens each")
    parser.add_argument("--plain-records", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--memory", action="store_true", help="measure memory, not time")
    parser.add_argument("--memory-child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    if args.memory_child:
        return memory_child(args.memory_child)
    document: dict[str, object] = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "route": pick_route("auto", "cpu"),
        "layout": args.layout,
    }
    if args.memory:
        document["memory"] = memory()
    else:
        results = []
        for name in args.sizes:
            results.append(timed(SIZES[name], args))
            print(table(results[-1:]), flush=True)
        document["throughput"] = results
    if args.json:
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
