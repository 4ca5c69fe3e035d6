"""Forget quality and utility from exported losses, without any model."""

from engram.core import Finding, stream
from engram.data.answer_logs import AnswerLog
from engram.stats.unlearning import (
    chance_of_answer,
    forget_quality,
    model_utility,
    truth_ratio,
    truthfulness,
)

PARTS = ("kept records", "real authors", "world facts")


def judge_logs(unlearned: AnswerLog, retrained: AnswerLog, seed: int = 0) -> tuple[Finding, ...]:
    """Forget quality of one model beside a retrained one, and the utility of both.

    Args:
        unlearned: Of the model in question.
        retrained: Of the model that was trained without the forgotten records.
        seed: Root of the intervals' streams.
    """
    ratios = [
        truth_ratio(log.forgotten.paraphrased, log.forgotten.wrong)
        for log in (unlearned, retrained)
    ]
    quality = forget_quality(ratios[0], ratios[1], stream(seed, "forget quality"))
    utilities = [
        utility_of(log, seed).tagged(split=name)
        for name, log in (("unlearned", unlearned), ("retrained", retrained))
    ]
    found = (*(finding.tagged(split="forgotten") for finding in quality), *utilities)
    methods = ["forget-quality"] * 2 + ["model-utility"] * 2
    return tuple(f.tagged(method=m) for f, m in zip(found, methods, strict=True))


def utility_of(log: AnswerLog, seed: int = 0) -> Finding:
    """TOFU's model utility, from nine numbers; missing where the log lacks some of them."""
    lacking = [part for part in PARTS if part not in log.others or log.others[part].rouge is None]
    if lacking:
        n = sum(len(part.right) for part in log.others.values())
        return Finding.missing("model utility", f"no answers about {', '.join(lacking)}", n)
    numbers = {}
    for part in PARTS:
        said = log.others[part]
        wrong = None if part == PARTS[0] else said.wrong
        numbers[f"{part}: probability"] = chance_of_answer(said.right, wrong)
        numbers[f"{part}: ROUGE-L"] = said.rouge
        numbers[f"{part}: truth"] = truthfulness(truth_ratio(said.paraphrased, said.wrong))
    return model_utility(numbers, stream(seed, "utility", log.name))
