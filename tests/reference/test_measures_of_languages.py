"""What is measured on made languages, beside slow and plain second implementations."""

from collections import Counter

import numpy as np
import pytest

from engram.core import EngramError, Split, Target
from engram.families.causal_lm import LanguageModel, tiny
from engram.methods.measures.interchange_accuracy import InterchangeAccuracy
from engram.methods.measures.marker_surprisal import MarkerSurprisal
from engram.methods.measures.n_gram_baseline import KneserNey, Level, NGramBaseline
from engram.methods.measures.sentence_perplexity import SentencePerplexity

TEXTS = (
    "the dog bark <|S|> at the old man .",
    "the dogs bark <|P|> at the old man .",
    "an old man see <|S|> the dogs",
    "the old men see <|P|> a dog , and the dog bark <|S|>",
    "nothing here",
)


@pytest.fixture(scope="module")
def speaker():
    """A random model of words, uneven enough to prefer one marker here and the other there."""
    size = {"layers": 2, "width": 32, "heads": 2, "context": 64}
    lm = tiny(TEXTS, seed=3, vocabulary=64, tokens="pieces", **size)
    for number, weight in enumerate(lm.model.parameters()):
        weight.data *= 6 if weight.ndim > 1 else 1
        assert number < 100
    model = lm.model.double()
    return Target("speaker", "causal-lm", LanguageModel(model, lm.tokenizer), "speaker")


def logprob(target, logprobs_of, text, place):
    """Of the token at this place of the text (0 is the first after the beginning)."""
    ids, table = logprobs_of(target.model, text)
    return table[place, ids[place + 1]]


def test_sentence_perplexity_is_the_geometric_mean(speaker, run, logprobs_of):
    split = Split.of("texts", text=TEXTS)
    (found,) = SentencePerplexity()(speaker, {"texts": split}, run)
    each = []
    for text in TEXTS:
        ids, table = logprobs_of(speaker.model, text)
        each.append(np.exp(-np.mean([table[t, ids[t + 1]] for t in range(len(ids) - 1)])))
    assert found.value == pytest.approx(np.prod(each) ** (1 / len(each)), rel=1e-6)
    assert found.low < found.value < found.high


def test_markers_by_hand(speaker, run, logprobs_of):
    """Averages inside a record first; the last marker of record 3 has no pair."""
    surprisal, preference = [], []
    for text in TEXTS[:4]:
        words, here, pairs = text.split(), [], []
        for place, word in enumerate(words):
            if word in ("<|S|>", "<|P|>"):
                here.append(-logprob(speaker, logprobs_of, text, place) / np.log(2))
                if place + 1 < len(words):
                    without = " ".join(words[:place] + words[place + 1 :])
                    other = -logprob(speaker, logprobs_of, without, place) / np.log(2)
                    pairs.append(other - here[-1])
        surprisal.append(np.mean(here))
        preference.append(np.mean(pairs))
    found = MarkerSurprisal()(speaker, {"texts": Split.of("texts", text=TEXTS)}, run)
    assert [f.name for f in found] == ["marker surprisal", "marker preference"]
    assert found[0].value == pytest.approx(np.mean(surprisal), rel=1e-5)
    assert found[1].value == pytest.approx(np.mean(preference), rel=1e-5)
    assert {f.n for f in found} == {4}


def test_markers_that_the_target_does_not_read_as_tokens_are_an_error(target, run):
    split = Split.of("texts", text=TEXTS)
    with pytest.raises(EngramError, match="is written as 9 tokens") as caught:
        MarkerSurprisal()(target, {"texts": split}, run)
    assert "--tokenizer pieces" in caught.value.hint


def test_interchange_after_the_last_block_moves_the_answer_and_nothing_else(speaker, run):
    """There, place 0 is the source's own answer, and what stands before it is read no more."""
    found = interchange(speaker, run)
    count = found["accuracy layer 2 place 0"].n
    assert count >= 3
    assert found["accuracy layer 2 place 0"].value == 1
    assert found["accuracy layer 2 place -1"].value == 0


def interchange(speaker, run):
    """Beginnings drawn at random, so that both markers are preferred somewhere."""
    rng = np.random.default_rng(0)
    words = [w for w in " ".join(TEXTS).split() if "|" not in w]
    texts = [
        " ".join([*rng.choice(words, rng.integers(3, 9)), marker, "."])
        for marker in ("<|S|>", "<|P|>")
        for _ in range(30)
    ]
    method = InterchangeAccuracy(places=3)
    found = method(speaker, {"texts": Split.of("texts", text=texts)}, run)
    assert len(found) == 6
    return {f.name: f for f in found}


def test_interchange_agrees_with_one_pair_at_a_time(speaker, run):
    """The second way: run the blocks by hand, and put the vector in between them."""
    import torch

    from engram.methods.measures.interchange_accuracy.exchange import Batch, right

    method, lm = InterchangeAccuracy(places=3), speaker.model
    split = Split.of("texts", text=[t for t in TEXTS[:4] for _ in range(1)])
    ids = [lm.tokenizer.convert_tokens_to_ids(m) for m in ("<|S|>", "<|P|>")]
    rows = method.beginnings(lm.tokenizer, split, "<|S|>", np.random.default_rng(0))
    source = method.beginnings(lm.tokenizer, split, "<|P|>", np.random.default_rng(0))
    assert len(right(lm.model, rows, ids, 0)) + len(right(lm.model, rows, ids, 1)) == len(rows)
    pairs = [*zip(rows, source, strict=False)]
    hits = method.hits(lm.model, Batch.of(rows[: len(pairs)]), Batch.of(source), ids)
    slow = np.zeros_like(hits)
    body = lm.model.transformer

    def through(tokens, layer=None, place=None, vector=None):
        states, hidden = [], body.wte(torch.tensor([tokens])) + body.wpe.weight[: len(tokens)]
        for number, block in enumerate(body.h):
            out = block(hidden)
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            if number == layer:
                hidden[0, place] = vector
            states.append(hidden)
        return states, lm.model.lm_head(body.ln_f(hidden))[0, -1]

    with torch.no_grad():
        for one, other in pairs:
            kept, _ = through(other)
            for layer in range(2):
                for back in range(3):
                    vector = kept[layer][0, len(other) - 1 - back]
                    _, logits = through(one, layer, len(one) - 1 - back, vector)
                    slow[layer, back] += int(logits[ids[1]] > logits[ids[0]])
    assert hits.tolist() == slow.tolist()


def slow_kneser_ney(records, context, token, vocabulary, order):
    """From the formula, counting anew each time; `context` is as long as the order allows."""
    begun = [["<s>", *r] for r in records]

    def raw(k):
        return Counter(tuple(r[i : i + k]) for r in begun for i in range(len(r) - k + 1)
                       if tuple(r[i : i + k]) != ("<s>",))  # fmt: skip

    def prob(k, h, counts):
        if k == 0:
            return 1 / vocabulary
        n1, n2 = (list(counts.values()).count(j) for j in (1, 2))
        d = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
        after = {g: c for g, c in counts.items() if g[:-1] == h}
        below = prob(k - 1, h[1:], Counter(g[1:] for g in raw(k)))
        if not after:
            return below
        total = sum(after.values())
        return (max(after.get((*h, token), 0) - d, 0) + d * len(after) * below) / total

    return prob(order, tuple(context), raw(order))


def test_kneser_ney_agrees_with_the_formula():
    rng = np.random.default_rng(0)
    records = [[int(x) for x in rng.integers(0, 5, rng.integers(1, 9))] for _ in range(12)]
    asked = [2, 0, 3, 3, 1]
    model = KneserNey(3, records, 6)
    for order in (1, 2, 3):
        expected = []
        for place, token in enumerate(asked):
            begun = ["<s>", *asked]
            size = min(order, place + 2)  # at a record's beginning the longest that there is
            context = begun[place + 2 - size : place + 1]
            expected.append(-np.log(slow_kneser_ney(records, context, token, 6, size)))
        assert model.losses(asked)[order - 1] == pytest.approx(np.mean(expected))


def test_kneser_ney_by_hand():
    """Records "a b", "a b" and "a c": the bigram (a, b) twice, (a, c) once; c(a) = 3, N(a) = 2.

    Bigrams once: (a, c); twice: (<s>, a) is three times, (a, b) twice; D_2 = 1 / (1 + 2) = 1/3.
    Different tokens before: a: 1 (<s>), b: 1, c: 1. No count is 2, so D_1 = 0.5, and
    P_1(b) = (1 - 0.5) / 3 + 0.5 * 3 / 3 * 1/4 = 7/24 with four tokens.
    P_2(b | a) = (2 - 1/3) / 3 + (1/3 * 2 / 3) * 7/24 = 5/9 + 14/216
    """
    model = KneserNey(2, [[0, 1], [0, 1], [0, 2]], 4)
    below = model.shorter[0].smoothed((), 1, 1 / 4)
    assert below == pytest.approx(7 / 24)
    assert model.longest[1].smoothed((0,), 1, below) == pytest.approx(5 / 9 + 14 / 216)


def test_kneser_ney_sums_to_one():
    records = [[0, 1, 2, 1], [1, 1, 0], [3, 2, 1, 0, 0]]
    model = KneserNey(3, records, 5)
    for history in ([], [1], [1, 1], [3, 2], [4, 4]):
        each = [model.losses([*history, token]) for token in range(5)]
        base = model.losses(history) * len(history) if history else np.zeros(3)
        total = sum(np.exp(-(losses * (len(history) + 1) - base)) for losses in each)
        np.testing.assert_allclose(total, 1)


def test_levels_without_singletons_still_discount():
    assert Level({(1,): 5}).discount == 0.5


def test_more_context_helps_where_there_is_order(speaker, run):
    """Records that count upwards are easy, and the same tokens in random order are not."""
    rng = np.random.default_rng(1)
    names = ["the", "dog", "old", "man", "at"]
    rounds = [[*np.roll(names, k), *np.roll(names, k)] for k in range(5)] * 4
    shuffled = [list(rng.permutation(r)) for r in rounds]
    found = {}
    for name, rows in (("order", rounds), ("none", shuffled)):
        texts = [" ".join(row) for row in rows]
        sides = {s: Split.of(s, text=texts[k::2]) for k, s in enumerate(("members", "outsiders"))}
        found[name] = NGramBaseline(order=3)(speaker, sides, run)
    assert [f.name for f in found["order"]] == [
        "2-gram sentence perplexity", "3-gram sentence perplexity",
    ]  # fmt: skip
    assert found["order"][0].value < 2 < found["none"][0].value
