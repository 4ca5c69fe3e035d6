"""The measures of forgetting, against slow second implementations and by hand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from engram.core import EngramError, Split, Target, stream
from engram.methods.measures.answer_overlap import AnswerOverlap
from engram.methods.measures.extraction_strength import ExtractionStrength
from engram.methods.measures.forget_quality import ForgetQuality
from engram.methods.measures.forgotten_privacy import ForgottenPrivacy
from engram.methods.measures.model_utility import ModelUtility
from engram.methods.measures.truth_ratio import TruthRatio
from engram.parts.questions import answer_losses, answered, questions_of


@pytest.fixture
def asked() -> Split:
    """Six questions with right, paraphrased and wrong answers."""
    table = pa.table(
        {
            "id": [f"q{i}" for i in range(6)],
            "prompt": [f"Who wrote letter {i}?" for i in range(6)],
            "response": [f" It was Mara {i}." for i in range(6)],
            "paraphrased": [f"Mara wrote {i}." for i in range(6)],
            "perturbed": [[f"Abel wrote {i}.", f"Ida wrote {i}."] for i in range(6)],
        }
    )
    texts = pa.array([f"Who wrote letter {i}? It was Mara {i}." for i in range(6)])
    return Split.from_table("asked", table.append_column("text", texts))


def slow_loss(logprobs_of, lm, prompt, answer):
    """Mean over the tokens that reach into the answer, one by one."""
    ids, logprobs = logprobs_of(lm, prompt + answer)
    spans = lm.tokenizer(prompt + answer, return_offsets_mapping=True)["offset_mapping"]
    start = len(prompt) + len(answer) - len(answer.lstrip())
    places = [i for i, (first, last) in enumerate(spans) if last > max(start, first)]
    assert not any((prompt + answer)[spans[i][0] : start].strip() for i in places)
    return -np.mean([logprobs[i - 1][ids[i]] for i in places])


def test_losses_of_answers_are_those_of_a_slow_reading(run, target, asked, logprobs_of):
    questions = questions_of(asked, stream(0))
    assert not questions.notes
    assert questions.paraphrased[0] == " Mara wrote 0."
    found = answered(target, questions, run)
    for row, prompt in enumerate(questions.prompts):
        for value, answer in (
            (found.right[row], questions.right[row]),
            (found.paraphrased[row], questions.paraphrased[row]),
            (found.wrong[row][1], questions.wrong[row][1]),
        ):
            expected = slow_loss(logprobs_of, target.model, prompt, answer)
            assert value == pytest.approx(expected, abs=1e-5)


def test_prompts_are_never_counted(run, target):
    # The same answer after a prompt that is repeated: only the context changes, not the count.
    one = answer_losses(target, ["a b", "a b"], [" c", " c d"], run)
    assert len(one) == 2
    assert np.isfinite(one).all()


def test_an_answer_without_room_is_left_out(run, target, asked):
    questions = questions_of(asked, stream(0))
    long = ("word " * 600, *questions.prompts[1:])
    found = answered(target, replace(questions, prompts=long), run)
    assert len(found.right) <= 6


def test_what_stands_in_is_said(target, run, split):
    questions = questions_of(split, stream(0), wrong=2)
    assert questions.notes == (
        "the right answer stands for its paraphrase",
        "answers of other records stand for wrong ones",
    )
    for right, wrong in zip(questions.right, questions.wrong, strict=True):
        assert right not in wrong
        assert len(set(wrong)) == len(wrong)
    found = TruthRatio()(target, {"members": split}, run)
    assert "stands for its paraphrase" in found[0].note


def test_truth_ratio_is_that_of_the_slow_losses(run, target, asked, logprobs_of):
    found = TruthRatio()(target, {"members": asked}, run)
    ratios = []
    for i in range(6):
        prompt, lm = f"Who wrote letter {i}?", target.model
        said = slow_loss(logprobs_of, lm, prompt, f" Mara wrote {i}.")
        wrong = [
            slow_loss(logprobs_of, lm, prompt, f" {who} wrote {i}.") for who in ("Abel", "Ida")
        ]
        ratios.append(np.exp(said - np.mean(wrong)))
    assert found[0].value == pytest.approx(np.mean(ratios), rel=1e-4)
    assert found[1].value == pytest.approx(np.mean(np.maximum(0, 1 - np.array(ratios))), abs=1e-4)


def test_forget_quality_asks_for_the_retrained_model(run, target, asked):
    found = ForgetQuality()(target, {"members": asked}, run)
    assert all(f.value is None and "--retrained" in f.note for f in found)
    found = ForgottenPrivacy()(target, {"members": asked, "outsiders": asked}, run)
    assert all(f.value is None and "--retrained" in f.note for f in found)


def test_a_model_compared_with_itself(run, target, base, asked):
    same = ForgetQuality(retrained="base")(base, {"members": asked}, run)
    assert (same[0].value, same[1].value) == (1, 0)
    other = ForgetQuality(retrained="base")(target, {"members": asked}, run)
    assert other[1].value > 0
    sides = {"members": asked, "outsiders": asked.take(range(3), "o")}
    assert ForgottenPrivacy(retrained="base")(base, _apart(sides), run)[0].value == 0


def _apart(sides):
    outsiders = Split.of("outsiders", text=["one other text", "and one more", "a third of them"])
    return {"members": sides["members"].take(range(3), "m"), "outsiders": outsiders}


def test_another_family_is_refused(run, target, asked):
    with pytest.raises(EngramError, match="is a classifier, but the target a causal-lm"):
        ForgetQuality(retrained="base classifier")(target, {"members": asked}, run)


def test_forgotten_records_go_before_members(run, base, target, asked):
    sides = {"members": asked.take([0, 1], "m"), "forgotten": asked.take([2, 3, 4], "f")}
    found = ForgetQuality(retrained="base")(target, sides, run)
    assert found[0].split == "forgotten"
    assert found[0].n == 6


def strength_by_writing(lm, ids, first):
    """The slow way: told more and more, the model writes on and is compared."""
    for told in range(first, len(ids)):
        mine = list(ids[:told])
        with torch.no_grad():
            while len(mine) < len(ids):
                mine.append(int(lm.model(torch.tensor([mine])).logits[0, -1].argmax()))
        if mine == list(ids):
            return 1 - (told - first) / (len(ids) - first)
    return 0.0


def test_extraction_strength_is_that_of_writing(by_heart, tmp_path):
    from engram.engine.run import EngineRun

    target, members, outsiders = by_heart
    some = {"members": members.take(range(4), "m"), "outsiders": outsiders.take(range(4), "o")}
    found = ExtractionStrength()(target, some, EngineRun(root=tmp_path))
    for finding, side in zip(found, some.values(), strict=True):
        ids = [target.model.tokenizer(text)["input_ids"] for text in side.texts]
        expected = [strength_by_writing(target.model, each, 1) for each in ids]
        assert finding.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert found[0].value > found[1].value


def test_extraction_strength_of_responses_counts_them_alone(run, target, asked):
    found = ExtractionStrength()(target, {"members": asked}, run)
    lm = target.model
    expected = []
    for text, prompt in zip(asked.texts, asked.column("prompt").to_pylist(), strict=True):
        made = lm.tokenizer(text, return_offsets_mapping=True)
        first = next(
            i for i, (_, last) in enumerate(made["offset_mapping"]) if last > len(prompt) + 1
        )
        expected.append(strength_by_writing(lm, made["input_ids"], first))
    assert found[0].value == pytest.approx(np.mean(expected), abs=1e-9)


class Scripted:
    def __init__(self, answers):
        self.answers = answers

    def write(self, prompts, tokens, rng):
        return [self.answers[prompt] for prompt in prompts]


def test_overlap_by_hand(run, target, asked):
    answers = {f"Who wrote letter {i}?": said for i, said in enumerate(
        [" It was Mara 0.", " it was", "", " 3 Mara was it", "Mara", " It was not Mara 5."]
    )}  # fmt: skip
    object.__setattr__(run, "sampler", lambda target, temperature=1.0: Scripted(answers))
    found = AnswerOverlap()(target, {"members": asked}, run)
    assert found[0].value == pytest.approx(np.mean([1, 0.5, 0, 0.25, 0.25, 1]))
    assert found[0].n == 6


def test_what_was_learnt_by_heart_is_answered(by_heart, tmp_path):
    from engram.engine.run import EngineRun

    target, members, outsiders = by_heart
    run = EngineRun(root=tmp_path)
    sides = {"members": members, "outsiders": outsiders}
    found = AnswerOverlap()(target, sides, run)
    assert found[0].value > found[1].value + 0.2
    utility = {
        name: ModelUtility()(target, {"members": side}, run)[0].value
        for name, side in sides.items()
    }
    assert utility["members"] > utility["outsiders"]


def test_utility_is_the_harmonic_mean_of_its_parts(by_heart, tmp_path):
    from engram.engine.run import EngineRun

    target, members, _ = by_heart
    found = ModelUtility()(target, {"members": members}, EngineRun(root=tmp_path))
    parts = [f.value for f in found[1:]]
    assert len(parts) == 3
    assert found[0].value == pytest.approx(3 / sum(1 / value for value in parts))


@pytest.mark.parametrize("measure", [AnswerOverlap, ModelUtility])
def test_a_sample_of_one_is_refused(measure):
    with pytest.raises(EngramError, match="sample is 1"):
        measure(sample=1)


def test_columns_of_the_wrong_kind(asked):
    table = asked.to_table().drop_columns(["perturbed"])
    wrong = table.append_column("perturbed", pa.array(["x"] * 6))
    with pytest.raises(EngramError, match="not lists of strings"):
        questions_of(Split.from_table("w", wrong), stream(0))


def test_a_privacy_gap_is_found_in_both_directions(by_heart, tmp_path):
    from engram.engine.run import EngineRun

    target, members, outsiders = by_heart

    class Two(EngineRun):
        def target(self, where):
            return other

    other = Target("never", "causal-lm", target.model, "never")
    run = Two(root=tmp_path)
    fake = stream(1).normal(size=24)

    def losses(which, split):
        return fake if which is other else np.where(np.arange(24) < 12, fake + 9, fake)

    object.__setattr__(run, "losses", losses)
    sides = {"members": members, "outsiders": outsiders}
    gap, leak = ForgottenPrivacy(retrained="x")(target, sides, run)
    assert gap.value > 0.2
    assert leak.value < 0
