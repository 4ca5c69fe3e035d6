"""Does a score of right n-grams warn before a language model recites, and is it good to stop by?

Fine-tuning goes on getting better at new records of a kind while it learns by heart those that it
is given, most of all those that it is given several times. The validation perplexity does not
show that. A monitor continues a few trained records at every epoch and counts how many runs of
four to six tokens are right.

One seed draws its own letters of a made-up clinic, cut to their first words; some are given
several times over. A small base, the same for all seeds, learnt other letters. It is fine-tuned
plainly, with the n-gram regulariser at several weights, and with the Goldfish loss at several K.
Half of the owners, and half of the validation letters, are what the monitor looks at and stops by;
every rate and perplexity that is reported here is that of the other halves. (When the two signals
cross is seen in the watched half.) A letter that is given several times is continued once.

Differs from the paper: 1. its models have 1.4 to 70 billion parameters, ours about 130,000; so
letters are repeated and epochs many, or nothing would be recited at all. 2. Prompts are of 16
tokens and suffixes of 24. 3. The formula of the regulariser is ours where the paper has words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engram import catalog, data
from engram.core import Finding, Paper, Run, Split, Target
from engram.engine import EngineRun, train
from engram.engine.study import Claim, Study, all_of, equal, mean_at_least, mean_at_most
from engram.parts.lm_tuning import Tuning, examples_of
from engram.parts.memorisation_monitor import MemorisationMonitor
from engram.parts.observation import observations
from engram.parts.partition import choose
from engram.parts.passages import Passages
from engram.parts.stopping import best

CROSSED = 0.05
"""The rise of the n-gram score, and the verbatim rate, that count as a crossing."""
MATCHED = 0.02
"""The largest difference of two verbatim rates that count as the same."""
NEVER = 10**6
"""Steps between two looks, of which no training takes so many."""
Trace = Sequence[Mapping[str, float | int]]


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float | Finding]:
    """When the signals crossed, what stopping chose, and what the defences did, for one seed."""
    letters = Letters.of(settings, run, seed)
    base = _base(settings, run)

    def tuned(recipe: str, **more: Any) -> Trace:
        where = "-".join([recipe, *(f"{key}{value}" for key, value in more.items())])
        return letters.traced(recipe, base, {**settings["tune"], **more}, run, where)

    plain = tuned("finetune-lm")
    found = stopped(plain, settings["tau"])
    end = {"observe_every": NEVER}  # of the defences only what comes out is looked at
    priced = {w: tuned("ngram-regularised-lm", weight=w, **end) for w in settings["weights"]}
    hidden = {k: tuned("goldfish-lm", one_in=k, **end) for k in settings["one_in"]}
    return {**found, **defended(plain, priced, hidden)}


@dataclass(frozen=True, eq=False)
class Letters:
    """The letters of one seed.

    Attributes:
        trained: With their repetitions.
        watched: The owners that the monitor looks at; the others are reported.
        sides: Validation letters to stop by, and others to report.
    """

    trained: Split
    watched: frozenset[str]
    sides: tuple[Split, Split]

    @classmethod
    def of(cls, settings: Mapping[str, Any], run: Run, seed: int) -> "Letters":
        """Draw them, and give the first ones several times."""
        once, several, times = settings["once"], settings["several"], settings["times"]
        private = cut(data.read(f"demo:letters?n={once + several}&seed={2000 + seed}"), settings)
        texts, owners = list(private.texts), list(private.owners or private.ids)
        chosen = range(several)
        texts += [texts[row] for _ in range(times - 1) for row in chosen]
        owners += [owners[row] for _ in range(times - 1) for row in chosen]
        trained = Split.of("letters", text=texts, owners=owners)
        half = choose(trained, 0.5, run.stream("watched"))
        watched = frozenset(o for o, inside in zip(owners, half, strict=True) if inside)
        beside = cut(data.read(f"demo:letters?n={settings['beside']}&seed={3000 + seed}"), settings)
        first = choose(beside, 0.5, run.stream("beside"))
        return cls(trained, watched, (beside.where(first), beside.where(~first)))

    def traced(
        self, recipe: str, base: Target, fields: Mapping[str, Any], run: EngineRun, where: str
    ) -> Trace:
        """What two monitors saw of one training: numbers of the reported side have a prefix."""
        letters = self

        class Watched(catalog.find("recipes", recipe).load()):
            """The recipe, looked at from both sides."""

            def monitor(self, lm: Any, split: Split, run: Run) -> "Both":
                return Both(*(letters.monitor(self, lm, k, run) for k in (0, 1)))

        scratch = run.root / f"ngram-early-stop-{run.seed}" / where
        made = Watched(base=str(base.folder), **fields)(self.trained, replace(run, scratch=scratch))
        return observations(made.trace)

    def monitor(self, recipe: Tuning, lm: Any, side: int, run: Run) -> MemorisationMonitor:
        """A monitor of one half of the owners; letters that are given several times once."""
        seen: dict[str, int] = {}
        for row, (text, owner) in enumerate(
            zip(self.trained.texts, self.trained.owners or (), strict=True)
        ):
            if (owner in self.watched) == (side == 0):
                seen.setdefault(text, row)
        split = self.trained.take(list(seen.values()))
        watch = recipe.watch()
        members, beside = (
            Passages.of_examples(examples_of(recipe, lm, s), watch.prefix)
            for s in (split, self.sides[side])
        )
        everything = 10**9  # what it costs does not matter here
        return MemorisationMonitor.of(watch, lm, members, beside, split, run.seed, everything)


@dataclass(frozen=True, eq=False)
class Both:
    """Two monitors: one to stop by, one to report."""

    watched: MemorisationMonitor
    reported: MemorisationMonitor

    def look(self, lm: Any, step: int, epoch: float) -> Mapping[str, float | int]:
        """The numbers of both."""
        other = self.reported.look(lm, step, epoch)
        return {**self.watched.look(lm, step, epoch), **{f"other_{k}": v for k, v in other.items()}}

    def stop(self, trace: Trace) -> bool:
        """Never: what stopping would have chosen is read off the trace."""
        return False

    def best(self, trace: Trace) -> int | None:
        """The last."""
        return None


def cut(letters: Split, settings: Mapping[str, Any]) -> Split:
    """Each letter's first words."""
    return letters.with_texts([" ".join(t.split()[: settings["words"]]) for t in letters.texts])


def _base(settings: Mapping[str, Any], run: EngineRun) -> Target:
    recipe = catalog.find("recipes", "pretrain-lm").load()(**settings["base"])
    source = f"demo:letters?n={settings['public']}&seed=1000"
    public = cut(data.read(source), settings)
    return train(recipe, public, replace(run, seed=0), source=source, holdout=0.0)


def stopped(plain: Trace, tau: float) -> dict[str, float | Finding]:
    """When the signals crossed, and what the n-gram rule chose."""
    gains = [entry["ngram"] - plain[0]["ngram"] for entry in plain]
    warned = first(gains, CROSSED)
    recited = first([entry["verbatim"] for entry in plain], CROSSED)
    kept, by_perplexity = (best(rule, plain, tau) or 0 for rule in ("ngram", "perplexity"))
    rates = [entry["other_verbatim"] for entry in plain]
    perplexities = [entry["other_validation_perplexity"] for entry in plain]
    last = rates[-1]
    # A rate that never crossed does so after the last epoch, if ever.
    lead = (len(plain) if recited is None else recited) - (len(plain) if warned is None else warned)
    return {
        "lead of the n-gram signal": float(lead),
        "the n-gram signal led by an epoch": float(lead >= 1),
        "epoch of the n-gram signal": float(len(plain) if warned is None else warned),
        "epoch of verbatim recital": float(len(plain) if recited is None else recited),
        "epoch kept by the n-gram rule": float(kept),
        "epoch kept by perplexity": float(by_perplexity),
        "verbatim rate at the end": last,
        "verbatim rate kept": rates[kept],
        "verbatim rate kept by perplexity": rates[by_perplexity],
        "verbatim kept / at the end": rates[kept] / last
        if last
        else Finding.missing("verbatim kept / at the end", "nothing was recited at the end"),
        "perplexity kept / best": perplexities[kept] / min(perplexities),
        "perplexity at the end / best": perplexities[-1] / min(perplexities),
    }


def first(values: Sequence[float], bound: float) -> int | None:
    """The place of the first value that reaches a bound."""
    return next((place for place, value in enumerate(values) if value >= bound), None)


def defended(
    plain: Trace, priced: Mapping[float, Trace], hidden: Mapping[int, Trace]
) -> dict[str, float | Finding]:
    """Verbatim rates and perplexities after all epochs, each beside plain training's."""

    def end(trace: Trace) -> tuple[float, float]:
        return trace[-1]["other_verbatim"], trace[-1]["other_validation_perplexity"]

    rate, perplexity = end(plain)
    found: dict[str, float | Finding] = {"perplexity at the end": perplexity}
    ends = {f"regulariser {w:g}": end(t) for w, t in priced.items()}
    ends |= {f"Goldfish {k}": end(t) for k, t in hidden.items()}
    for name, (own_rate, own_perplexity) in ends.items():
        found[f"verbatim rate, {name}"] = own_rate
        found[f"perplexity, {name} / plain"] = own_perplexity / perplexity
        found[f"verbatim, {name} / plain"] = (
            own_rate / rate if rate else Finding.missing("verbatim", "nothing was recited")
        )
    return {**found, "perplexity, regulariser / Goldfish at equal verbatim": matched(ends)}


def matched(ends: Mapping[str, tuple[float, float]]) -> float | Finding:
    """The regulariser's perplexity over Goldfish's, at the K that is worst for the regulariser.

    For each K the best regulariser counts whose verbatim rate is the same or lower.
    """
    name = "perplexity, regulariser / Goldfish at equal verbatim"
    priced = [pair for arm, pair in ends.items() if arm.startswith("regulariser")]
    ratios = []
    for arm, (rate, perplexity) in ends.items():
        same = [p for r, p in priced if abs(r - rate) <= MATCHED]
        if arm.startswith("Goldfish") and same:
            ratios.append(min(same) / perplexity)
    if not ratios:
        return Finding.missing(name, f"no two of their verbatim rates are within {MATCHED}")
    return float(max(ratios))


TUNE = {"batch_size": 8, "schedule": "constant", "warmup": 0.02, "observe_prefix": 16,
        "observe_suffix": 24, "observe_sample": 60}  # fmt: skip
TINY = {"layers": 1, "width": 32, "heads": 2, "context": 64, "vocabulary": 300, "epochs": 1}
SMALL = {"layers": 2, "width": 64, "heads": 4, "context": 64, "vocabulary": 400, "epochs": 3,
         "batch_size": 16, "learning_rate": 3e-3}  # fmt: skip
LARGE = {"layers": 6, "width": 384, "heads": 6, "context": 128, "vocabulary": 4096, "epochs": 4}
REGULARISED = "regulariser 5"

STUDY = Study(
    name="ngram-early-stop",
    methods=("finetune-lm", "ngram-regularised-lm", "goldfish-lm"),
    paper=Paper(
        title="Early Detection and Reduction of Memorisation for Domain Adaptation and "
        "Instruction Tuning",
        authors="Slack and Al Moubayed",
        year=2025,
        url="https://arxiv.org/abs/2510.11372",
    ),
    claims=(
        Claim(
            "The n-gram score rises by 0.05 at least one epoch before the verbatim rate of the "
            "same records does, at every seed",
            where="early detection",
            test=equal("the n-gram signal led by an epoch", 1.0, 0.0),
        ),
        Claim(
            "The checkpoint that the n-gram rule keeps recites at most half of what the last one "
            "does, at no more than 1.10 times the best validation perplexity",
            where="early stopping; the paper: about half",
            test=all_of(
                mean_at_most("verbatim kept / at the end", 0.5, refuted=1.0),
                mean_at_most("perplexity kept / best", 1.10, refuted=1.25),
            ),
            paper_value="about half",
        ),
        Claim(
            "At equal epochs the regulariser recites at least a quarter less than plain "
            "fine-tuning, at no more than 3 % more validation perplexity",
            where="the n-gram regulariser; the paper: up to 40 % less",
            test=all_of(
                mean_at_most(f"verbatim, {REGULARISED} / plain", 0.75, refuted=1.0),
                mean_at_most(f"perplexity, {REGULARISED} / plain", 1.03, refuted=1.15),
            ),
            paper_value="up to 40 % less",
        ),
        Claim(
            "Where it recites as little as Goldfish (within 0.02), at any K, the regulariser's "
            "perplexity is at most 1.01 times Goldfish's",
            where="the comparison with the Goldfish loss",
            test=mean_at_most(
                "perplexity, regulariser / Goldfish at equal verbatim", 1.01, refuted=1.15
            ),
            paper_value="a smaller loss of performance than Goldfish",
        ),
        Claim(
            "The rates are worth speaking of: at least a tenth is recited at the end (our control)",
            where="ours",
            test=mean_at_least("verbatim rate at the end", 0.10, refuted=0.0),
        ),
    ),
    budgets={
        "smoke": {"words": 16, "public": 20, "once": 12, "several": 4, "times": 3, "beside": 16,
                  "tau": 0.05, "base": TINY, "weights": [5.0], "one_in": [4],
                  "tune": {**TUNE, "epochs": 2, "learning_rate": 2e-3}},
        "small": {"words": 28, "public": 150, "once": 60, "several": 24, "times": 4, "beside": 80,
                  "tau": 0.05, "base": SMALL, "weights": [1.0, 5.0], "one_in": [3, 4, 8, 32],
                  "tune": {**TUNE, "epochs": 16, "learning_rate": 1.5e-3}},
        "full": {"words": 60, "public": 20000, "once": 3000, "several": 1000, "times": 4,
                 "beside": 2000, "tau": 0.05, "base": LARGE,
                 "weights": [0.5, 1.0, 2.0, 5.0, 10.0], "one_in": [3, 4, 8, 32],
                 "tune": {**TUNE, "observe_prefix": 32, "observe_suffix": 32,
                          "observe_sample": 1000, "epochs": 30, "learning_rate": 5e-4}},
    },
    tried="""\
All bounds are those of the claims, and were set before anything was measured; the regulariser that
is judged is that of weight 5, threshold 0.1.

Chosen by looking, on letters of seeds 0 and 7: a base that knows the letters' grammar only half
(150 letters; with 700 the untrained base was already the best on validation letters, and no rule
had anything to choose), letters that are given four times, and a learning rate of 1.5e-3. With
prompts of 12 and suffixes of 16 tokens, both signals of the watched half crossed in the same epoch
at seed 7, at learning rates of 2e-3 and of 1.3e-3: so short a suffix is soon recited whole. With 16
and 24 tokens the lead at seed 7 was two epochs, and that is what was run. Seed 7 is not among the
seeds.

What was seen: at seed 1 both signals crossed at epoch 9, so the first claim fails. About forty
letters are watched, and the first two or three that are recited make a rate of 0.05, so epochs as
coarse as these cannot always part the two. It was not run again with a slower training. The rule
kept epoch 8 at every seed, and so did the validation perplexity alone: the second claim holds of
both, and says nothing of which is the better rule.
""",
    run=run,
)  # fmt: skip
