"""`spv-mia`: its score by closed forms and slow loops, its paraphrases, and its self-prompting."""

import inspect
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, Lineage, Sampler, Split, Target, stream
from engram.methods.attacks.spv_mia import SpvMia
from engram.methods.attacks.spv_mia.noise import noisy_logprobs
from engram.methods.attacks.spv_mia.reference import half_the_targets
from engram.methods.attacks.spv_mia.scoring import Likelihoods, calibrated, peak
from engram.methods.attacks.spv_mia.self_prompt import Prompts, self_prompted
from engram.methods.attacks.spv_mia.spans import Spans, paraphrased, words_of
from engram.parts.paraphrasers.fillers import RandomFiller
from engram.parts.paraphrasers.models import CausalFiller, MaskedFiller
from engram.parts.paraphrasers.plan import Cut
from engram.stats.roc import auc_value

PLAIN = SpvMia(reference="base", paraphrases=4)


def likelihood(lm, text, logprobs_of, space="probability"):
    """exp of the mean log-probability of a token, or that mean."""
    ids, table = logprobs_of(lm, text)
    mean = sum(table[place - 1][ids[place]] for place in range(1, len(ids))) / (len(ids) - 1)
    return math.exp(mean) if space == "probability" else mean


def slow_variation(lm, text, paraphrases, logprobs_of, space):
    near = [likelihood(lm, other, logprobs_of, space) for other in paraphrases]
    return sum(near) / len(near) - likelihood(lm, text, logprobs_of, space)


@pytest.fixture
def taught(run, make_lm, monkeypatch):
    """What is given to `run.fit`; it answers with a random model that was trained on nothing."""
    given = []

    def fit(self, recipe, split, *path):
        given.append((recipe, split, path))
        return Target("taught", "causal-lm", make_lm(9), "taught")

    monkeypatch.setattr(type(run), "fit", fit)
    return given


class Scribe:
    """Writes what it was asked for; it has no other member than a sampler's one."""

    def __init__(self, text=" and so on"):
        self.text, self.asked = text, []

    def write(self, prompts, tokens, rng):
        self.asked += zip(prompts, tokens, strict=True)
        return [f"{self.text} {int(rng.integers(1000))}" if self.text else "" for _ in prompts]


# The score


def test_score_by_hand():
    """One text, two paraphrases; the target's p is 0.5, 0.25, 0.125, the reference's 0.25, ..."""
    rows = np.array([0, 0])
    target = Likelihoods(np.log([0.5]), np.log([0.25, 0.125]), rows)
    reference = Likelihoods(np.log([0.25]), np.log([0.25, 0.125]), rows)
    peaks = [peak(each, "probability", True) for each in (target, reference)]
    np.testing.assert_allclose(peaks, [[0.5 - 0.1875], [0.25 - 0.1875]])
    np.testing.assert_allclose(calibrated(*peaks), [0.25])
    logs = [peak(each, "log", True)[0] / math.log(2) for each in (target, reference)]
    np.testing.assert_allclose(logs, [1.5, 0.5])  # -1 + (2 + 3) / 2, and -2 + (2 + 3) / 2
    alone = peak(target, "probability", False)
    np.testing.assert_allclose(calibrated(alone, None), [0.5])


def test_given_logits_give_the_closed_form(run, lms):
    """A model whose next token depends on the last alone: p follows from its table by hand."""
    import torch

    tokenizer = lms[0].tokenizer
    tables = [stream(0, "table", k).normal(size=(len(tokenizer),) * 2) for k in (0, 1)]

    def bigram(table):
        logits = torch.tensor(table)
        answer = lambda ids: SimpleNamespace(logits=logits[ids])  # noqa: E731
        return SimpleNamespace(tokenizer=tokenizer, model=answer)

    models = [bigram(table) for table in tables]
    target = Target("t", "causal-lm", models[0], "t", lineage=Lineage(base="b"))
    run.others["b"] = Target("b", "causal-lm", models[1], "b")
    split = Split.of("two", text=["the river was low that summer", "she never came back to us"])
    method = replace(PLAIN, paraphraser="random-tokens")
    made = method.paraphrased(target, split, run)
    expected = []
    for row, text in enumerate(split.texts):
        near = [t for t, r in zip(made.split.texts, made.owner_row, strict=True) if r == row]
        score = 0.0
        for table, sign in zip(tables, (1, -1), strict=True):
            found = []
            for each in (text, *near):
                ids = tokenizer(each)["input_ids"]
                steps = [
                    table[a][b] - math.log(sum(math.exp(x) for x in table[a]))
                    for a, b in pairwise(ids)
                ]
                found.append(math.exp(sum(steps) / len(steps)))
            score -= sign * (sum(found[1:]) / len(found[1:]) - found[0])
        expected.append(score)
    np.testing.assert_allclose(method(target, split, run).values, expected, rtol=1e-9)


@pytest.mark.parametrize("space", ["probability", "log"])
def test_is_the_difference_of_two_variations(target, base, split, run, logprobs_of, space):
    method = replace(PLAIN, space=space)
    made = method.paraphrased(target, split, run)
    texts = dict(zip(made.split.ids, made.split.texts, strict=True))
    expected = []
    for record, text in zip(split.ids, split.texts, strict=True):
        near = [texts[f"{record}~p{k}"] for k in (1, 2, 3, 4)]
        ours, theirs = (
            slow_variation(each.model, text, near, logprobs_of, space) for each in (target, base)
        )
        expected.append(-(ours - theirs))
    found = method(target, split, run)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    assert found.unit == ("probability" if space == "probability" else "nats/token")


def test_each_model_is_asked_once_for_all_paraphrases(target, split, run):
    PLAIN(target, split.take([0, 1]), run)
    assert len(run.asked) == 1 + 2 * 2  # a look at the texts, then texts and paraphrases


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"space": "log"},
        {"variation": False},
        {"paraphraser": "random-tokens"},
        {"paraphraser": "embedding"},
    ],
    ids=str,
)
def test_calibration_with_itself_gives_exactly_nothing(target, split, run, fields):
    run.others["itself"] = target
    found = replace(PLAIN, reference="itself", **fields)(target, split.take([0, 2, 5]), run)
    np.testing.assert_array_equal(found.values, 0.0)


def test_every_ablation_is_what_it_says(target, base, split, run, logprobs_of):
    some = split.take([0, 1])
    ours, theirs = (
        np.array([likelihood(each.model, text, logprobs_of, "log") for text in some.texts])
        for each in (target, base)
    )
    plain = replace(PLAIN, variation=False)
    cases = {
        replace(plain, reference="none", space="log"): ours,
        replace(plain, reference="none"): np.exp(ours),
        replace(plain, space="log"): ours - theirs,
        plain: np.exp(ours) - np.exp(theirs),
    }
    for method, expected in cases.items():
        np.testing.assert_allclose(method(target, some, run).values, expected, atol=1e-12)
    alone = replace(PLAIN, reference="none")
    made = alone.paraphrased(target, some, run)
    near = np.array(made.split.texts).reshape(2, 4)
    expected = [
        -slow_variation(target.model, text, others, logprobs_of, "probability")
        for text, others in zip(some.texts, near, strict=True)
    ]
    np.testing.assert_allclose(alone(target, some, run).values, expected, atol=1e-12)


def test_members_and_outsiders_swapped_turn_the_auc_round(by_heart, run):
    knows, members, outsiders = by_heart
    method = replace(PLAIN, paraphrases=2)
    high, low = (method(knows, each, run).values for each in (members, outsiders))
    scores, is_member = np.concatenate([high, low]), np.repeat([True, False], [12, 12])
    assert auc_value(scores, is_member) > 0.9
    assert auc_value(scores, ~is_member) == pytest.approx(1 - auc_value(scores, is_member))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_members_have_the_sharper_peak_at_every_strength(by_heart, run, share):
    knows, members, outsiders = by_heart
    method = replace(PLAIN, reference="none", paraphrases=2, share=share)
    sharp, flat = (method(knows, each, run).values for each in (members, outsiders))
    assert np.mean(sharp[:, None] > flat) > 0.9
    assert (sharp > 0).all()


def test_a_stronger_mask_leaves_less_of_the_likelihood(by_heart, run):
    """Where nothing is left of it, minus the variation is the likelihood itself."""
    knows, members, _ = by_heart
    whole = replace(PLAIN, reference="none", variation=False)(knows, members, run).values
    falls = [
        replace(PLAIN, reference="none", paraphrases=2, share=share, buffer=0)(knows, members, run)
        for share in (0.1, 0.5, 1.0)
    ]
    left = [1 - (fall.values / whole).mean() for fall in falls]
    assert left[0] > left[1] > left[2]
    assert left[2] < 0.2


def test_a_text_too_short_for_a_span_is_neutral(target, run):
    split = Split.of("short", text=["ab", "the gate was shut and nobody came by at noon"])
    scores = PLAIN(target, split, run).values
    assert scores[0] == 0.0 != scores[1]
    assert replace(PLAIN, variation=False)(target, split, run).values[0] != 0.0
    alone = PLAIN(target, split.take([0]), run).values
    np.testing.assert_array_equal(alone, [0.0])


# What is compared with what


def test_needs_to_know_the_base(target, split, run, taught):
    unknown = replace(target, lineage=Lineage())
    for reference in ("self-prompt", "base"):
        with pytest.raises(EngramError, match="does not say which base") as caught:
            SpvMia(reference=reference)(unknown, split, run)
        assert "spv-mia.base" in caught.value.hint
    assert not taught
    run.others["public"] = run.others["base"]
    told = replace(PLAIN, base="public")(unknown, split.take([0]), run)
    np.testing.assert_array_equal(told.values, PLAIN(target, split.take([0]), run).values)


@pytest.mark.parametrize("reference", ["self-prompt", "base", "coarse"])
def test_refuses_another_tokenizer(target, split, run, lms, taught, reference):
    from engram.families.causal_lm import LanguageModel, byte_tokenizer

    coarse = byte_tokenizer(split.texts, 270, 192)
    other = Target("coarse", "causal-lm", LanguageModel(lms[1].model, coarse), "c")
    run.others.update(base=other, coarse=other)
    with pytest.raises(EngramError, match="cuts the texts into other tokens") as caught:
        SpvMia(reference=reference)(target, split, run)
    assert "tokenizer" in caught.value.hint
    assert not taught


def test_refuses_a_reference_of_another_kind(target, classifier, split, run):
    run.others["other"] = classifier
    with pytest.raises(EngramError, match="is a classifier"):
        SpvMia(reference="other")(target, split, run)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"paraphraser": "mlm"}, "has no model"),
        ({"paraphrases": 0}, "paraphrases is 0"),
        ({"paraphraser": "embedding", "paraphrases": 5}, "paraphrases is 5"),
        ({"share": 0.0}, "share is 0.0"),
        ({"span": 0}, "span is 0"),
        ({"buffer": -1}, "buffer is -1"),
        ({"scale": math.nan}, "scale is nan"),
        ({"prompt_count": 0}, "prompt_count is 0"),
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"length": 1}, "length is 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
    ],
)
def test_refuses_bad_fields(fields, message):
    with pytest.raises(EngramError, match=message) as caught:
        SpvMia(**fields)
    assert caught.value.hint


# Self-prompting


def test_the_targets_own_texts_teach_the_reference(target, split, run, taught, logprobs_of):
    method = SpvMia(prompt_count=3, length=6, paraphrases=2, space="log")
    found = method(target, split.take([0, 1]), run)
    ((recipe, texts, _),) = taught
    rng = run.stream("spv-mia writing")
    expected = run.sampler(target).write([""] * 3, 6, rng)
    assert list(texts.texts) == [text for text in expected if text.strip()]
    assert (recipe.base, recipe.epochs, recipe.batch_size) == ("base", 2, 4)
    reference = run.fit(recipe, texts)
    made = method.paraphrased(target, split.take([0, 1]), run)
    near = np.array(made.split.texts).reshape(2, 2)
    for row, value in enumerate(found.values):
        ours, theirs = (
            slow_variation(each.model, split.texts[row], near[row], logprobs_of, "log")
            for each in (target, reference)
        )
        assert value == pytest.approx(theirs - ours, abs=1e-12)


def test_only_a_sampler_is_needed_to_self_prompt():
    wanted = inspect.signature(self_prompted).parameters
    assert wanted["sampler"].annotation is Sampler
    assert not any("Target" in str(p.annotation) for p in wanted.values())
    scribe = Scribe()
    found = self_prompted(scribe, Prompts(("She said", "It was"), (5, 7)), stream(0, "x"))
    assert scribe.asked == [("She said", 5), ("It was", 7)]
    assert [text[:13] for text in found] == ["She said and ", "It was and so"]


def test_prompts_are_beginnings_continued_to_the_texts_length(target, split):
    tokenizer = target.model.tokenizer
    prompts = Prompts.beginnings(tokenizer, split.texts, 16)
    long = [t for t in split.texts if len(tokenizer(t)["input_ids"]) - 1 > 16]
    assert 0 < len(prompts.texts) == len(long) < len(split)
    for prompt, tokens, text in zip(prompts.texts, prompts.tokens, long, strict=True):
        ids = tokenizer(text)["input_ids"][1:]
        assert text.startswith(prompt)
        assert prompt == tokenizer.decode(ids[:16])
        assert tokens == len(ids) - 16


def test_named_prompts_are_used_and_members_among_them_refused(target, split, run, taught):
    others = Split.of("others", text=[f"Line {i} of another letter, with more to say." * 2
                                      for i in range(9)])  # fmt: skip
    run.others["letters"] = others
    method = SpvMia(prompts="letters", prompt_count=4, prompt_tokens=5, paraphrases=1)
    method(target, split.take([0, 1]), run)
    ((_, texts, _),) = taught
    starts = [Prompts.beginnings(target.model.tokenizer, [t], 5).texts[0] for t in others.texts]
    assert len(texts) == 4
    assert all(any(text.startswith(s) for s in starts) for text in texts.texts)
    run.others["letters"] = Split.of("leak", text=[*others.texts, split.texts[1]])
    with pytest.raises(EngramError, match=r"prompt source.*overlaps the members") as caught:
        method(target, split.take([0, 1]), run)
    assert caught.value.hint


def test_prompts_that_are_too_short_are_refused(target, split, run, taught):
    run.others["words"] = Split.of("words", text=["one", "two", ""])
    with pytest.raises(EngramError, match="longer than 16 tokens") as caught:
        SpvMia(prompts="words")(target, split, run)
    assert "prompts=none" in caught.value.hint


def test_a_target_that_writes_nothing_is_named(target, split, run, taught, monkeypatch):
    monkeypatch.setattr(type(run), "sampler", lambda self, target, temperature=1.0: Scribe(""))
    with pytest.raises(EngramError, match="wrote nothing after 7 prompts") as caught:
        SpvMia(prompt_count=7)(target, split, run)
    assert "reference=base" in caught.value.hint


@pytest.mark.parametrize(
    ("config", "rate"),
    [({"learning_rate": 1e-3}, 5e-4), ({}, 5e-5), ({"learning_rate": "much"}, 5e-5)],
)
def test_the_reference_learns_at_half_the_targets_rate(target, config, rate):
    assert half_the_targets(replace(target, lineage=Lineage(config=config))) == rate


def test_the_reference_is_trained_once_and_found_again(tmp_path, make_lm, split, monkeypatch):
    from engram.engine.run import EngineRun
    from engram.families.causal_lm import FAMILY

    lm = make_lm(4)
    FAMILY.save(make_lm(5), tmp_path / "base")
    lineage = Lineage(base=str(tmp_path / "base"))
    target = Target("tuned", "causal-lm", lm, "tuned", lineage=lineage)
    method = SpvMia(prompt_count=6, length=8, epochs=1, paraphrases=2, learning_rate=1e-2)
    monkeypatch.setattr(EngineRun, "sampler", lambda self, target, temperature=1.0: Scribe())
    some = split.take([0, 1, 2])
    first = method(target, some, EngineRun(root=tmp_path / "runs", scratch=tmp_path / "s"))

    def refuse(*_):
        raise AssertionError("the target was asked to write again, or the reference trained again")

    monkeypatch.setattr(EngineRun, "sampler", refuse)
    monkeypatch.setattr("engram.parts.training.Training.steps", refuse)
    again = EngineRun(root=tmp_path / "runs", scratch=tmp_path / "s")
    np.testing.assert_array_equal(method(target, some, again).values, first.values)
    against_base = replace(method, reference="base")(target, some, again).values
    assert (against_base != first.values).all()
    # Other records, same reference: it does not depend on who is audited.
    method(target, split.take([5]), again)


# Paraphrases


def by_rejection(words, spans, rng):
    """The rule in the words of the paper's code: draw a start, and refuse it near a mask."""
    wanted = max(1, int(spans.share * words / (spans.span + 2 * spans.buffer)))
    masked, found = set(), []
    while len(found) < wanted:
        start = int(rng.integers(words - spans.span + 1))
        near = range(start - spans.buffer, start + spans.span + spans.buffer)
        if not masked & set(near):
            masked |= set(range(start, start + spans.span))
            found.append(start)
    return tuple(found)


def test_spans_are_distributed_as_by_rejection():
    spans, words, draws = Spans(0.9, 2, 1), 9, 3_000
    fast, slow = (
        Counter(rule(words, rng) for _ in range(draws))
        for rng, rule in (
            (stream(0, "fast"), lambda n, rng: tuple(spans.starts(n, rng))),
            (stream(0, "slow"), lambda n, rng: by_rejection(n, spans, rng)),
        )
    )
    assert set(fast) == set(slow)
    assert sum(abs(fast[key] - slow[key]) for key in slow) / draws < 0.15


@given(
    st.integers(0, 60), st.floats(0.01, 1), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99)
)
def test_spans_keep_their_distance(words, share, span, buffer, seed):
    spans = Spans(share, span, buffer)
    starts = sorted(spans.starts(words, stream(seed, "spans")))
    if words < span + 2:
        assert not starts
        return
    assert 1 <= len(starts) <= max(1, int(share * words / (span + 2 * buffer)))
    assert starts[0] >= 0
    assert starts[-1] + span <= words
    assert all(b - a >= span + buffer for a, b in pairwise(starts))


def test_the_papers_number_of_spans():
    spans = Spans(0.3, 2, 1)
    counts = [len(spans.starts(words, stream(0, "n"))) for words in (3, 4, 26, 27, 40, 100)]
    assert counts == [0, 1, 1, 2, 3, 7]


def test_words_are_found_with_all_their_tokens(target):
    text = "  two  spaces,\nunaccountably long words"
    cut = Cut.of(target.model.tokenizer, text)
    words = words_of(cut, range(len(cut.ids)), 4)
    said = ["".join(text[slice(*cut.spans[t])] for t in word).strip() for word in words]
    assert said == text.split()
    # Without spaces, tokens are counted instead.
    line = Cut.of(target.model.tokenizer, "日本語も少し")
    assert len(words_of(line, range(len(line.ids)), 4)) >= 4


def test_only_spans_are_replaced(target, split, run):
    spans = Spans(0.3, 2, 1)
    made = paraphrased(RandomFiller(target.model.tokenizer), split.take([3, 4]), 3, spans, run)
    for row, text in zip(made.owner_row, made.split.texts, strict=True):
        own = split.texts[[3, 4][row]]
        assert text != own
        assert set(own.split()) & set(text.split())


def test_each_paraphraser_is_the_filler_of_its_name(tmp_path, target, base, split, run):
    from engram.families.masked_lm import FAMILY, tiny_masked

    folder, some = str(tmp_path / "masked"), split.take([0, 1])
    FAMILY.save(tiny_masked(split.texts, seed=1, vocabulary=400, layers=1, width=16, heads=2),
                tmp_path / "masked")  # fmt: skip
    fillers = {
        "causal": CausalFiller(base.model.tokenizer, base.model.model, "cpu"),
        "mlm": MaskedFiller.load(folder, "cpu"),
        "random-tokens": RandomFiller(target.model.tokenizer),
    }
    found = set()
    for name, filler in fillers.items():
        method = replace(PLAIN, paraphraser=name, model=folder if name == "mlm" else "")
        expected = paraphrased(filler, some, 4, Spans(0.3, 2, 1), run).split.texts
        assert method.paraphrased(target, some, run).split.texts == expected
        found.add(expected)
    assert len(found) == 3
    scores = replace(PLAIN, paraphraser="mlm", model=folder)(target, some, run).values
    assert (np.isfinite(scores) & (scores != 0)).all()


class Stubborn(RandomFiller):
    """Draws what stood there, for the first few times that it is asked about a record."""

    def draws(self, cuts, planned, again):
        assert again, "the token that stood there may be drawn"
        Stubborn.asked += 1
        if Stubborn.asked > Stubborn.times:
            return super().draws(cuts, planned, again)
        return {
            (row, number, place): cut.ids[place]
            for row, cut in enumerate(cuts)
            for number, plan in enumerate(planned[row])
            for place in plan.places
        }


@pytest.mark.parametrize(("times", "asked"), [(0, 1), (2, 3), (99, 5)])
def test_a_paraphrase_that_says_the_same_is_made_anew(target, split, run, times, asked):
    Stubborn.asked, Stubborn.times = 0, times
    some, filler = split.take([0, 1]), Stubborn(target.model.tokenizer)
    made = paraphrased(filler, some, 3, Spans(0.3, 2, 1), run)
    assert Stubborn.asked == asked
    kept = [made.split.texts[k] == some.texts[made.owner_row[k]] for k in range(6)]
    assert kept == [times == 99] * 6


# Noise in the embeddings


def test_noise_comes_in_pairs_of_both_signs(target, base, split, run):
    """Every copy alone, in float64, from the tables of the two models."""
    import torch

    method = replace(PLAIN, paraphraser="embedding", scale=0.5)
    some, unit = split.take([0, 6]), None
    scores = np.zeros(2)
    for each, sign in ((target, 1), (base, -1)):
        network, tokenizer = each.model.model, each.model.tokenizer
        table = network.get_input_embeddings().weight.detach()
        unit = unit or math.sqrt(float((table**2).mean()))  # the target's, for both
        for row, (record, text) in enumerate(zip(some.ids, some.texts, strict=True)):
            ids = tokenizer(text)["input_ids"]
            rng = run.stream("spv-mia noise", record)
            noise = rng.standard_normal((2, len(ids), 32), np.float32)
            values = []
            for z in (0 * noise[0], noise[0], noise[1], -noise[0], -noise[1]):
                moved = table[ids] + 0.5 * unit * torch.tensor(z, dtype=torch.float64)
                with torch.no_grad():
                    logits = network(inputs_embeds=moved[None]).logits[0]
                steps = torch.log_softmax(logits, -1)[:-1][range(len(ids) - 1), ids[1:]]
                values.append(math.exp(float(steps.mean())))
            scores[row] -= sign * (sum(values[1:]) / 4 - values[0])
    np.testing.assert_allclose(method(target, some, run).values, scores, atol=1e-7)
    assert (np.abs(scores) > 1e-6).all()


def test_noise_needs_the_weights(target, split, run):
    method = replace(PLAIN, paraphraser="embedding")
    with pytest.raises(EngramError, match="needs weights"):
        method(replace(target, access="logits"), split, run)
    replace(method, paraphraser="causal")(replace(target, access="logits"), split.take([6]), run)


def test_of_a_long_text_the_beginning_is_read(target, run):
    def draw(record, shape):
        return stream(0, "noise").standard_normal((1, *shape), np.float32)

    words = "one two three four five six " * 60
    tokenizer = target.model.tokenizer
    begun = tokenizer.decode(tokenizer(words)["input_ids"][1 : target.model.context])
    found = [
        noisy_logprobs(target.model, Split.of("long", text=[text]), 0.1, draw, run)
        for text in (words, begun)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
