"""`neighbourhood`: its proposals and its score against slow second implementations."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engram.core import EngramError, Lineage, Split, torch_seeded
from engram.methods.attacks.neighbourhood import Neighbourhood, excess_loss
from engram.parts.paraphrasers.fillers import RandomFiller, draws_from
from engram.parts.paraphrasers.models import CausalFiller, MaskedFiller
from engram.parts.paraphrasers.plan import Cut, Pieces, plans


def mean_loss(lm, text, logprobs_of):
    ids, table = logprobs_of(lm, text)
    return -sum(table[place - 1][ids[place]] for place in range(1, len(ids))) / (len(ids) - 1)


def by_hand(probabilities, allowed, original, uniform):
    """The token at which the running total of the allowed ones' shares passes `uniform`."""
    open_to = [v for v in range(len(probabilities)) if allowed[v] and v != original]
    whole = math.fsum(probabilities[v] for v in open_to)
    running = 0.0
    for token in open_to:
        running += probabilities[token]
        if running > uniform * whole:
            return token
    return open_to[-1]


def test_score_is_mean_neighbour_loss_minus_own(target, split, run, logprobs_of):
    method = Neighbourhood(neighbours=3)
    made = method.perturbed(target, split, run)
    texts = dict(zip(made.split.ids, made.split.texts, strict=True))
    expected = []
    for record, text in zip(split.ids, split.texts, strict=True):
        near = [mean_loss(target.model, texts[f"{record}~n{k}"], logprobs_of) for k in (1, 2, 3)]
        expected.append(sum(near) / 3 - mean_loss(target.model, text, logprobs_of))
    np.testing.assert_allclose(method(target, split, run).values, expected, atol=1e-10)


def test_asks_the_model_once_for_all_neighbours(target, split, run):
    Neighbourhood()(target, split, run)
    assert run.asked == ["tokens", "tokens"]


def test_causal_proposals_follow_the_bases_distribution(target, base, split, run, logprobs_of):
    method = Neighbourhood(neighbours=4, share=0.2)
    made = iter(method.perturbed(target, split, run).split.texts)
    pieces = Pieces.of(base.model.tokenizer)
    for record, text in zip(split.ids, split.texts, strict=True):
        cut = Cut.of(base.model.tokenizer, text)
        front = len(cut.before)
        ids, table = logprobs_of(base.model, text)
        assert tuple(ids[front:]) == cut.ids
        planned = plans(
            range(1 - front, len(cut.ids)),
            len(cut.ids),
            4,
            0.2,
            run.stream("neighbourhood", record),
        )
        for plan in planned:
            changes = {}
            for place, uniform in zip(plan.places, plan.uniforms, strict=True):
                shares = np.exp(table[front + place - 1])
                token = by_hand(shares, pieces.allowed, cut.ids[place], uniform)
                changes[place] = pieces.texts[token]
            assert cut.replaced(changes) == next(made)
    assert next(made, None) is None


def test_without_a_base_the_target_itself_proposes(target, split, run):
    baseless = replace(target, lineage=Lineage())
    run.others.clear()
    made = Neighbourhood().perturbed(baseless, split.take([0]), run)
    run.others["itself"] = target
    named = Neighbourhood(model="itself").perturbed(baseless, split.take([0]), run)
    assert made.split.texts == named.split.texts


def test_random_proposals_are_uniform_over_all_other_tokens(target, split, run):
    tokenizer = target.model.tokenizer
    pieces = Pieces.of(tokenizer)
    made = iter(RandomFiller(tokenizer).neighbours(split, 3, 0.1, run))
    for row, (record, text) in enumerate(zip(split.ids, split.texts, strict=True)):
        cut = Cut.of(tokenizer, text)
        every = range(len(cut.ids))
        planned = plans(every, len(every), 3, 0.1, run.stream("neighbourhood", record))
        for number, plan in enumerate(planned, start=1):
            assert len(plan.places) == max(1, round(0.1 * len(cut.ids)))
            changes = {}
            for place, uniform in zip(plan.places, plan.uniforms, strict=True):
                flat = np.ones(len(pieces.allowed))
                token = by_hand(flat, pieces.allowed, cut.ids[place], uniform)
                changes[place] = pieces.texts[token]
            assert next(made) == (row, number, cut.replaced(changes))


def test_draws_are_distributed_as_the_model_says():
    rng = np.random.default_rng(0)
    logits, allowed = rng.normal(size=50), rng.random(50) < 0.7
    original = int(np.flatnonzero(allowed)[3])
    grid = (np.arange(20_000) + 0.5) / 20_000
    drawn = np.bincount(draws_from(logits, allowed, original, grid.tolist()), minlength=50)
    expected = np.exp(logits) * allowed
    expected[original] = 0
    np.testing.assert_allclose(drawn / len(grid), expected / expected.sum(), atol=2 / len(grid))


def test_draws_agree_with_a_loop():
    rng = np.random.default_rng(1)
    for _ in range(20):
        logits, allowed = rng.normal(size=12) * 3, rng.random(12) < 0.6
        allowed[:2] = True
        uniforms = rng.random(5).tolist()
        expected = [by_hand(np.exp(logits), allowed, 0, u) for u in uniforms]
        assert draws_from(logits, allowed, 0, uniforms) == expected


def test_a_certain_model_still_proposes_something_else():
    logits = np.array([0.0, -800.0, -801.0])
    assert draws_from(logits, np.ones(3, bool), 0, [0.2, 0.9]) == [1, 2]


def test_spans_cover_the_text_and_pieces_carry_their_own_space(target):
    tokenizer = target.model.tokenizer
    text = "  two  spaces,\nand a new line"
    cut = Cut.of(tokenizer, text)
    assert "".join(text[a:b] for a, b in cut.spans) == text
    assert cut.replaced({}) == text
    pieces = Pieces.of(tokenizer)
    # Token by token, the pieces write the text again.
    assert cut.replaced({i: pieces.texts[t] for i, t in enumerate(cut.ids)}) == text
    assert not pieces.allowed[tokenizer.all_special_ids].any()


def test_long_texts_are_read_window_by_window(target, run, logprobs_of):
    text = "one two three four five six " * 60
    filler = CausalFiller(target.model.tokenizer, target.model.model, "cpu")
    cut = Cut.of(filler.tokenizer, text)
    assert len(cut.ids) > filler.context
    covered = [i for a, b in cut.windows(filler.context) for i in range(a, b)]
    assert covered == list(range(len(cut.ids)))
    made = filler.neighbours(Split.of("long", text=[text]), 2, 0.5, run)
    assert len({made_text for *_, made_text in made}) == 2


def test_neighbours_that_cannot_be_scored_do_not_count():
    own, losses = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    np.testing.assert_allclose(excess_loss(own, losses, np.array([0, 0])), [3.0, 0.0])


@pytest.fixture(scope="module")
def masked_folder(tmp_path_factory):
    """A tiny random BERT with a word-piece tokenizer, saved as safetensors."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["mara", "abel", "quill", "was", "seen", "ill", "well", "on", "monday", "the", ".", ","]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    vocabulary += [x for x in letters if x not in words] + [f"##{x}" for x in letters]
    pieces = BertWordPieceTokenizer({word: i for i, word in enumerate(vocabulary)})
    pieces.save(str(folder / "tokenizer.json"))
    BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24, initializer_range=0.8,
    )  # fmt: skip
    with torch_seeded(3, "bert"):
        BertForMaskedLM(config).save_pretrained(folder)
    return folder


def test_masked_proposals_read_both_sides(masked_folder, run):
    import torch

    text = "Mara Quill was seen on Monday, ill."
    filler = MaskedFiller.load(str(masked_folder), "cpu")
    cut = Cut.of(filler.tokenizer, text)
    rng = run.stream("neighbourhood", "r")
    planned = plans(range(len(cut.ids)), len(cut.ids), 3, 0.3, rng)
    made = filler.neighbours(Split.of("one", text=[text], ids=["r"]), 3, 0.3, run)
    pieces = Pieces.of(filler.tokenizer)
    for plan, (_, _, found) in zip(planned, made, strict=True):
        ids = [*cut.before, *cut.ids, *cut.after]
        for place in plan.places:
            ids[len(cut.before) + place] = filler.tokenizer.mask_token_id
        with torch.no_grad():
            table = filler.network(torch.tensor([ids])).logits[0].double().softmax(-1).numpy()
        changes = {}
        for place, uniform in zip(plan.places, plan.uniforms, strict=True):
            row = table[len(cut.before) + place]
            changes[place] = pieces.texts[by_hand(row, pieces.allowed, cut.ids[place], uniform)]
        assert found == cut.replaced(changes)
        assert ("Mara" in found) == (0 not in plan.places), "capitals elsewhere are kept"


def test_masked_filler_scores_a_target(masked_folder, target, split, run):
    method = Neighbourhood(filler="masked", model=str(masked_folder), neighbours=2)
    scores = method(target, split.take([0, 1, 4]), run)
    assert np.isfinite(scores.values).all()
    assert np.ptp(scores.values) > 0


def test_a_model_without_masks_is_refused(tmp_path):
    with pytest.raises(EngramError, match="cannot be opened as a masked language model") as caught:
        MaskedFiller.load(str(tmp_path), "cpu")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"neighbours": 0}, "neighbours is 0"),
        ({"share": 0.0}, "share is 0.0"),
        ({"filler": "masked"}, "has no model"),
    ],
)
def test_refuses_bad_fields(fields, message):
    with pytest.raises(EngramError, match=message):
        Neighbourhood(**fields)
