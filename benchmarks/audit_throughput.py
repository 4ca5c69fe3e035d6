"""What a battery of attacks costs beside the forward passes that it cannot avoid.

The battery is the one that `engram audit` runs by default (`standard`): loss, zlib, lowercase,
Min-K%, Min-K%++ and reference. It asks three things: the target about the records, the target about
the records in lower case, the base about the records. `--battery quick` leaves the last two
away. Of every token of every record our signals store log-probability, mean and deviation of the
log-probabilities (the mean is minus the entropy), rank and greedy hit. All ways run in one run and
in turn, so that whatever else the machine does meets all of them alike:

* `bare`: batched forward passes that write whole logits, and nothing else. The limit.
* `engram`: everything that `engram audit` does to a model: tokenise, read, store, score.

The plain way takes one record at a time, log-softmax over the whole vocabulary in float32, and a
Python loop over the tokens. "Plain" can be read in more than one way, and so it is timed in each:

* `plain, counting`: one program that asks each thing once and keeps what all scores need, the same
  five answers as ours; a rank is counted (how many are larger). The cleverest that is still plain:
  nobody published it.
* `plain, sorting`: the same program, but ranks are found by sorting the vocabulary and looking for
  the token, as published code for ranks does (DetectGPT's, and those that took it over).
* `plain, each`: one program an attack, run in turn, each of which asks the model for what its score
  needs: how the papers' own code is used. No score of the battery needs a rank.
* `plain, each and ranks`: the same, and DetectGPT's program for the ranks that ours stores too.

Plain ways are timed on a few records and compared by the token.

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

from engram import data
from engram.core import Lineage, Split, Target
from engram.engine.run import EngineRun
from engram.families.causal_lm import LanguageModel
from engram.methods.attacks.loss import Loss
from engram.methods.attacks.lowercase import Lowercase
from engram.methods.attacks.min_k import MinK
from engram.methods.attacks.min_k_plus_plus import MinKPlusPlus
from engram.methods.attacks.reference import Reference
from engram.methods.attacks.zlib import Zlib
from engram.signals.reduce import pick_route

QUICK = (Loss(), Zlib(), MinK(), MinKPlusPlus())
STANDARD = (Loss(), Zlib(), Lowercase(), MinK(), MinKPlusPlus(), Reference())
BATTERIES = {"quick": QUICK, "standard": STANDARD}
ALL = ("spread", "rank")
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


def language_model(size: Size, layout: str, seed: int = 0) -> LanguageModel:
    """A random model, and a tokenizer of as many words, each with a capital and without."""
    known = [f"{letter}{i}" for i in range(size.vocabulary // 2) for letter in "Ww"]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, "w0"))
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
    torch.manual_seed(seed)
    return LanguageModel(AutoModelForCausalLM.from_config(config).eval(), tokenizer)


def texts(
    records: int, vocabulary: int, low: int, high: int, rng: np.random.Generator
) -> list[str]:
    lengths = rng.integers(low, high + 1, records)
    return [" ".join(f"W{i}" for i in rng.integers(0, vocabulary // 2, n)) for n in lengths]


@dataclass(frozen=True)
class Task:
    """A battery, what it is asked of, and the records."""

    battery: str
    target: LanguageModel
    base: LanguageModel
    split: Split

    def few(self, records: int) -> "Task":
        """The same on the first few records."""
        some = self.split.take(range(min(records, len(self.split))))
        return Task(self.battery, self.target, self.base, some)

    def asked(self) -> list[tuple[LanguageModel, list[str]]]:
        """The passes that the battery cannot avoid: a model, and the texts it is asked about."""
        texts = list(self.split.texts)
        if self.battery == "quick":
            return [(self.target, texts)]
        lowered = [text.lower() for text in texts]
        return [(self.target, texts), (self.target, lowered), (self.base, texts)]


def bare(passes: Sequence[tuple[LanguageModel, list[list[int]]]]) -> None:
    """Batched forward passes over records of one length; whole logits are written."""
    with torch.inference_mode():
        for lm, ids in passes:
            for first in range(0, len(ids), BATCH):
                tokens = torch.tensor(ids[first : first + BATCH])
                lm.model(
                    input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False
                ).logits[0, 0, 0].item()


def engram(task: Task) -> list[np.ndarray]:
    """The whole battery into an empty store."""
    target = Target("timed", "causal-lm", task.target, "timed", lineage=Lineage(base="base"))
    base = Target("base", "causal-lm", task.base, "base")
    with tempfile.TemporaryDirectory() as root:
        run = EngineRun(root=Path(root), _opened={"base": base})
        return [attack(target, task.split, run).values for attack in BATTERIES[task.battery]]


def plain(task: Task, wanted: Sequence[str] = ALL, *, exact: bool = False) -> list[np.ndarray]:
    """The same scores, record by record; each model is asked once about each text."""
    asked, scores = task.asked(), []
    for row, text in enumerate(task.split.texts):
        answers = [plain_record(lm, texts[row], wanted, exact=exact) for lm, texts in asked]
        logprob, mean, deviation = answers[0].T[:3]
        smallest = int(np.ceil(FRACTION * len(logprob) - 1e-9))
        standard = np.sort((logprob - mean) / np.maximum(deviation, 1e-6))[:smallest].mean()
        bits = 8 * len(zlib.compress(text.encode()))
        likeliest = np.sort(logprob)[:smallest].mean()
        found = [logprob.mean(), logprob.sum() / bits, likeliest, standard]
        if task.battery == "standard":
            lowered, base = (-answer[:, 0].mean() for answer in answers[1:])
            found.insert(2, lowered / -logprob.mean())
            found.append(base + logprob.mean())
        scores.append(found)
    return list(np.array(scores).T)


def plain_each(task: Task, *, ranks: bool) -> None:
    """A program for each attack, one after another: each asks the models for what it needs."""
    asked = task.asked()
    own, others = asked[:1], asked[1:]
    programs = [(own, ()), (own, ()), (own, ()), (own, ("spread",))]  # loss, zlib, both Min-K%
    programs += [([*own, other], ()) for other in others]  # lowercase, reference
    programs += [(own, ("sorted rank",))] * ranks
    for passes, wanted in programs:
        for row in range(len(task.split)):
            for lm, texts in passes:
                plain_record(lm, texts[row], wanted)


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
    lms = [language_model(size, args.layout, seed) for seed in (0, 1)]
    records = texts(args.records, size.vocabulary, CONTEXT, CONTEXT, np.random.default_rng(0))
    task = Task(args.battery, *lms, Split.of("timed", text=records))
    few = task.few(args.plain_records)
    passes = [(lm, lm.tokenizer(asked)["input_ids"]) for lm, asked in task.asked()]
    gap = difference(engram(few), plain(few, exact=True))  # and all is warmed up
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(passes),
        "engram": lambda: engram(task),
        "plain, counting": lambda: plain(few),
        "plain, sorting": lambda: plain(few, ("spread", "sorted rank")),
        "plain, each": lambda: plain_each(few, ranks=False),
        "plain, each and ranks": lambda: plain_each(few, ranks=True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    more = len(task.split) / len(few.split)
    for number in range(args.repeats):
        for name, work in ways.items():
            if not name.startswith("plain"):
                times[name].append(seconds(work))
            elif number < 2:
                times[name].append(seconds(work) * more)
    ratios = [ours / limit for ours, limit in zip(times["engram"], times["bare"], strict=True)]
    ours = min(times["engram"])
    return {
        **asdict(size),
        "battery": args.battery,
        "tokens": sum(map(len, passes[0][1])),
        "passes": len(passes),
        "seconds": times,
        "engram_over_bare_best": ours / min(times["bare"]),
        "engram_over_bare_median": statistics.median(ratios),
        "over_engram_best": {n: min(t) / ours for n, t in times.items() if n.startswith("plain")},
        "largest_difference_of_scores": gap,
    }


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference between two sets of scores: the same work must give the same."""
    return float(max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)))


def table(results: list[dict[str, object]]) -> str:
    lines = [
        "| model | way | best s | median s | tokens/s | against bare | engram is faster by |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results:
        size = Size(found["vocabulary"], found["layers"], found["width"])
        limit, ours = min(found["seconds"]["bare"]), min(found["seconds"]["engram"])
        for name, times in found["seconds"].items():
            best = min(times)
            lines.append(
                f"| {size} | {name} | {best:.3f} | {statistics.median(times):.3f} "
                f"| {found['tokens'] / best:,.0f} | {best / limit:.2f}x | {best / ours:.1f}x |"
            )
    return "\n".join(lines)


def memory_child(path: Path) -> None:
    """Audit the short records of a file with the small model; print the peak memory in MiB."""
    lm = language_model(SIZES["small"], "gpt2")
    split = data.read(path)
    records, before = len(split), peak_mib()
    scores = engram(Task("quick", lm, lm, split))
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
    parser.add_argument("--battery", choices=BATTERIES, default="standard")
    parser.add_argument("--records", type=int, default=48, help=f"of {CONTEXT} tokens each")
    parser.add_argument("--plain-records", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
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
