"""Masked language models: windows and masks, other architectures, and what is not opened."""

import json
import shutil
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from engram import families
from engram.core import EngramError, Split, stream
from engram.families import causal_lm, masked_lm
from engram.families.masked_lm import FAMILY, MaskedLanguageModel, tiny_masked
from engram.parts import masked_examples
from engram.parts.masking import (
    drawn_masks,
    framed_windows,
    mask_count,
    single_masks,
    window_masks,
)

TEXTS = [
    "Mara Quill, born 3 May 1961, was seen on Tuesday. No fever, and no cough either.",
    "",
    "a",
    "Größe 1,82 m · déjà vu; 日本語.",
    "one two three four five six seven eight nine ten " * 12,
    "a literal [MASK] and [SEP] in the middle, and one at the end [MASK]",
]
CONTEXT = 48


@pytest.fixture(scope="module")
def split():
    return Split.of("texts", text=TEXTS, owners=[f"o{i}" for i in range(len(TEXTS))])


def uneven(model):
    """Uneven predictions, so that a wrong position or a padded token would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3, generator=generator)
    return model.double().eval()


@pytest.fixture(scope="module")
def lm():
    made = tiny_masked(TEXTS, seed=1, vocabulary=300, layers=2, width=32, heads=2, context=CONTEXT)
    return MaskedLanguageModel(uneven(made.model), made.tokenizer)


@pytest.fixture(scope="module")
def saved(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    FAMILY.save(lm, folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_it_is_a_family():
    assert families.find("masked-lm") is FAMILY
    assert isinstance(FAMILY, families.Family)
    assert FAMILY.answers == {"losses", "energies"}


def test_saved_and_opened_again_it_is_the_same(lm, saved, split):
    again = FAMILY.load(saved)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(lm)
    assert again.context == lm.context == CONTEXT
    assert again.mask == lm.mask
    np.testing.assert_array_equal(FAMILY.losses(again, split), FAMILY.losses(lm, split))
    assert {p.suffix for p in saved.iterdir()} == {".json", ".safetensors"}
    facts = FAMILY.describe(again)
    assert (facts["architecture"], facts["layers"]) == ("BertForMaskedLM", 2)
    assert facts["vocabulary"] == len(lm.tokenizer)
    assert facts["dtype"] == "float64"


def test_transformers_opens_what_we_save(lm, saved):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(saved)(TEXTS[3])["input_ids"]
    assert ids == lm.tokenizer(TEXTS[3])["input_ids"]
    model = AutoModelForMaskedLM.from_pretrained(saved)
    assert isinstance(model, BertForMaskedLM)
    with torch.no_grad():
        ours = lm.guesses([np.array(ids)], np.zeros(3, int), np.array([1, 3, 5]))
        torch.testing.assert_close(model(torch.tensor([ids])).logits[0, [1, 3, 5]], ours)


def test_the_tokenizer_frames_and_gives_back_every_text(lm):
    for text in TEXTS[:5]:
        ids = lm.tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (lm.tokenizer.cls_token_id, lm.tokenizer.sep_token_id)
        assert lm.tokenizer.decode(ids[1:-1]) == text


def test_the_same_texts_and_seed_make_the_same_model():
    size = {"vocabulary": 320, "layers": 1, "width": 8, "heads": 1, "context": 16}
    one, two, other = (tiny_masked(TEXTS, seed=s, **size) for s in (4, 4, 5))
    assert FAMILY.fingerprint(one) == FAMILY.fingerprint(two) != FAMILY.fingerprint(other)


@given(st.integers(1, 300), st.integers(0, 2), st.integers(0, 2), st.integers(5, 40))
def test_windows_cover_a_text_once(length, before, after, context):
    ids = [*range(1000, 1000 + before), *range(length), *range(2000, 2000 + after)]
    framing = [1] * before + [0] * length + [1] * after
    found = framed_windows(ids, framing, context)
    inside = [window[own].tolist() for window, own in found]
    assert [token for tokens in inside for token in tokens] == list(range(length))
    assert max(len(window) for window, _ in found) <= context
    assert len(found) == ceil(length / (context - before - after))
    assert max(map(len, inside)) - min(map(len, inside)) <= 1
    for window, own in found:
        assert window[~own].tolist() == ids[:before] + ids[before + length :]


def test_a_context_without_room_is_refused():
    with pytest.raises(EngramError, match="a context of 2 tokens has no room beside 2"):
        framed_windows([1, 5, 2], [1, 0, 1], 2)


def test_how_many_tokens_a_mask_hides_by_hand():
    assert mask_count(tokens=21, maskable=19, share=0.15) == 3  # 0.15 * 20, exactly
    assert mask_count(tokens=20, maskable=18, share=0.15) == 2
    assert mask_count(tokens=7, maskable=5, share=0.15) == 1  # int(0.9) is forced to 1
    assert mask_count(tokens=3, maskable=1, share=0.9) == 1
    assert mask_count(tokens=22, maskable=20, share=1.0) == 20


def test_masks_hide_different_places_and_reach_all_of_them():
    places = np.array([1, 2, 5, 6, 9])
    found = drawn_masks(places, 2, 400, stream(0))
    assert found.shape == (400, 2)
    assert (np.diff(found, axis=1) > 0).all()
    used, times = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(used, places)
    assert times.min() > 110  # 160 each on average


def test_masks_never_hide_special_tokens_and_depend_on_text_and_seed_alone(lm, split):
    windows = FAMILY.windows(lm, split)
    special = set(lm.tokenizer.all_special_ids)
    for row in range(len(windows)):
        ids = windows.ids(row)
        hidden = window_masks(windows, row, 50, 0.15, 7)
        assert not special & set(ids[hidden].ravel())
        assert single_masks(windows, row).ravel().tolist() == [
            i for i, token in enumerate(ids) if token not in special
        ]
    alone = FAMILY.windows(lm, split.take([0]))
    first = window_masks(windows, 0, 5, 0.15, 7)
    np.testing.assert_array_equal(window_masks(alone, 0, 5, 0.15, 7), first)
    assert not np.array_equal(window_masks(alone, 0, 5, 0.15, 8), first)


def test_windows_of_one_text_repeated_have_masks_of_their_own(lm):
    windows = FAMILY.windows(lm, Split.of("t", text=["\x01" * 200]))
    assert len(windows) > 2
    assert windows.ids(0).tolist() == windows.ids(1).tolist()
    one, two = (window_masks(windows, row, 5, 0.15, 0) for row in (0, 1))
    assert not np.array_equal(one, two)


def test_records_without_a_token_to_mask_are_too_short(lm, split):
    assert FAMILY.outcomes(lm, split) == ("scored", "too-short", *["scored"] * 4)
    assert FAMILY.losses(lm, split)[1] == 0
    only_special = Split.of("t", text=["[MASK][MASK]", "[SEP]", "[PAD] x"])
    assert FAMILY.outcomes(lm, only_special) == ("too-short", "too-short", "scored")


def test_energies_do_not_depend_on_batches_order_or_company(lm, split, monkeypatch):
    for energy in masked_lm.ENERGIES:
        expected = FAMILY.energies(lm, split, energy)
        backwards = FAMILY.energies(lm, split.reversed(), energy)[::-1]
        alone = FAMILY.energies(lm, split.take([4]), energy)
        np.testing.assert_allclose(backwards, expected, rtol=1e-11)
        np.testing.assert_allclose(alone, expected[[4]], rtol=1e-11)
        with monkeypatch.context() as patched:
            patched.setattr(masked_lm, "BATCH_TOKENS", 500)
            np.testing.assert_allclose(FAMILY.energies(lm, split, energy), expected, rtol=1e-11)


def test_batches_keep_the_masks_of_a_window_together_and_stay_small(lm, split, monkeypatch):
    monkeypatch.setattr(masked_lm, "BATCH_TOKENS", 25 * CONTEXT)
    windows = FAMILY.windows(lm, split)
    order = np.argsort(windows.lengths).tolist()
    batches = list(
        masked_lm._batches(windows, order, lambda i: window_masks(windows, i, 20, 0.15, 0))
    )
    assert [number for batch in batches for number, _ in batch] == order
    for batch in batches:
        widest = max(int(windows.lengths[number]) for number, _ in batch)
        assert widest * sum(len(masks) for _, masks in batch) <= 25 * CONTEXT


def test_the_loss_is_the_energy_of_twenty_fixed_masks(lm, split):
    expected = FAMILY.energies(lm, split, "loss", draws=20, share=0.15, seed=0)
    np.testing.assert_array_equal(FAMILY.losses(lm, split), expected)
    assert not np.allclose(FAMILY.energies(lm, split, "loss", seed=1)[0], expected[0])


def test_more_draws_come_near_the_mean_over_all_masks(lm):
    """With one hidden token a draw, the expected loss energy is the norm energy."""
    split = Split.of("t", text=["a short text"])
    exact = FAMILY.energies(lm, split, "norm")
    one = FAMILY.energies(lm, split, "loss", draws=3000, share=1e-9)
    np.testing.assert_allclose(one, exact, rtol=0.02)


def test_progress_is_told_to_the_end(lm, split):
    told = []
    FAMILY.energies(lm, split, progress=lambda *each: told.append(each))
    windows = len(FAMILY.windows(lm, split))
    assert told[-1] == (windows, windows, "windows")
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)


def test_quality_weighs_records_by_their_length(lm, split):
    losses = FAMILY.losses(lm, split)
    sizes = [len(lm.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in TEXTS]
    sizes[5] -= 3  # the literal special tokens are not counted
    perplexity, loss = FAMILY.quality(lm, split, stream(0))
    assert perplexity.value == pytest.approx(np.exp(np.average(losses, weights=sizes)))
    assert perplexity.low < perplexity.value < perplexity.high
    assert loss.value == pytest.approx(losses[[0, 2, 3, 4, 5]].mean())
    assert perplexity.n == loss.n == 5
    (missing,) = FAMILY.quality(lm, split.take([0, 1]), stream(0))
    assert missing.value is None


SIZE = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
OTHERS = {
    "roberta": (RobertaForMaskedLM, RobertaConfig, {"intermediate_size": 32, "pad_token_id": 0}),
    "distilbert": (
        DistilBertForMaskedLM, DistilBertConfig,
        {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32},
    ),
    "albert": (AlbertForMaskedLM, AlbertConfig, {"embedding_size": 8, "intermediate_size": 32}),
    "electra": (ElectraForMaskedLM, ElectraConfig, {"embedding_size": 8, "intermediate_size": 32}),
    "modernbert": (
        ModernBertForMaskedLM, ModernBertConfig,
        {"intermediate_size": 32, "cls_token_id": 1, "sep_token_id": 2, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_answer_alike_with_and_without_the_short_cut(name, lm, split):
    make, config, fields = OTHERS[name]
    size = {} if name == "distilbert" else SIZE
    made = config(
        vocab_size=len(lm.tokenizer), max_position_embeddings=CONTEXT, **{**size, **fields}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = uneven(make(made))
    quick = MaskedLanguageModel(network, lm.tokenizer)
    assert quick._gathers
    whole = MaskedLanguageModel(network, lm.tokenizer)
    whole.__dict__["_gathers"] = False
    few = split.take([0, 4])
    expected = FAMILY.energies(whole, few)
    np.testing.assert_allclose(FAMILY.energies(quick, few), expected, rtol=1e-9)
    assert not network.base_model._forward_hooks


def test_roberta_numbers_its_positions_from_the_padding_token(lm):
    config = RobertaConfig(
        vocab_size=300, max_position_embeddings=40, pad_token_id=1, intermediate_size=8,
        **{**SIZE, "num_hidden_layers": 1},
    )  # fmt: skip
    found = MaskedLanguageModel(RobertaForMaskedLM(config).eval(), lm.tokenizer)
    assert found.context == 38
    FAMILY.energies(found, Split.of("t", text=["x " * 300]))


def test_an_output_layer_that_mixes_positions_takes_the_long_way(lm, split):
    class Mixing(BertForMaskedLM):
        def forward(self, **shown):
            found = super().forward(**shown)
            found.logits = found.logits - found.logits.mean(1, keepdim=True)
            return found

    mixing = Mixing(lm.model.config).double().eval()
    mixing.load_state_dict(lm.model.state_dict())
    model = MaskedLanguageModel(mixing, lm.tokenizer)
    assert not model._gathers
    assert not np.allclose(FAMILY.losses(model, split)[0], FAMILY.losses(lm, split)[0])


def test_training_shows_masks_exchanges_and_leaves(lm):
    split = Split.of("t", text=[" ".join(str(i) for i in range(k, k + 20)) for k in range(60)])
    examples = FAMILY.examples(lm, split, seed=3)
    hidden = exchanged = chosen = 0
    for number in range(len(examples.counts)):
        shown, places, true = examples.at(5).masked(number)
        ids = examples.windows.ids(number)
        np.testing.assert_array_equal(true, ids[places])
        assert len(places) == examples.counts[number] == max(1, round(0.15 * (len(ids) - 2)))
        rest = np.setdiff1d(np.arange(len(ids)), places)
        np.testing.assert_array_equal(shown[rest], ids[rest])
        assert not {0, len(ids) - 1} & set(places)
        hidden += int((shown[places] == lm.mask).sum())
        exchanged += int(((shown[places] != true) & (shown[places] != lm.mask)).sum())
        chosen += len(places)
    assert hidden / chosen == pytest.approx(0.8, abs=0.05)
    assert exchanged / chosen == pytest.approx(0.1, abs=0.04)


def test_masks_of_a_step_depend_on_seed_and_step_alone(lm, split):
    one, two = (FAMILY.examples(lm, split, seed=3) for _ in range(2))
    for number in (0, 2, 5):
        first = one.at(4).masked(number)
        for mine, theirs in zip(first, two.at(4).masked(number), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert any(not np.array_equal(one.at(4).masked(n)[1], one.at(5).masked(n)[1]) for n in range(6))
    rows = np.arange(len(one.counts))
    with torch.no_grad():
        together = one.at(4).nll(rows)
        apart = torch.cat([one.at(4).nll(rows[[i]]) for i in rows])
    torch.testing.assert_close(together, apart)


def test_training_losses_equal_slow_ones(lm, split):
    examples = FAMILY.examples(lm, split, seed=1).at(9)
    rows = np.arange(len(examples.counts))
    found = examples.nll(rows).detach().double()
    for number in rows:
        shown, places, true = examples.masked(int(number))
        with torch.no_grad():
            logits = lm.model(torch.from_numpy(shown)[None]).logits[0]
        slow = sum(
            float(torch.logsumexp(logits[p], 0) - logits[p, t])
            for p, t in zip(places, true, strict=True)
        )
        assert float(found[number]) == pytest.approx(slow, rel=1e-5)


def test_large_batches_go_in_parts(lm, split, monkeypatch):
    examples = FAMILY.examples(lm, split)
    rows = np.arange(len(examples.counts))
    most = int(examples.counts.max()) * examples.answers
    monkeypatch.setattr(masked_examples, "LOGITS", 2 * most)
    parts = list(examples.chunks(rows))
    assert [len(p) for p in parts] == [2] * (len(rows) // 2) + [1] * (len(rows) % 2)
    assert sorted(np.concatenate(examples.order(4, stream(0)))) == rows.tolist()


def test_records_need_a_column_of_text(split):
    FAMILY.check(split)
    assert FAMILY.render(split, 0) == TEXTS[0]
    assert FAMILY.perturb(split, 0.5, stream(0)).texts[0] != TEXTS[0]
    assert len(set(FAMILY.canaries(5, stream(0)).texts)) == 5
    with pytest.raises(EngramError, match="holds int64, not strings"):
        FAMILY.check(Split.of("x", text=[1, 2]))


def causal(folder):
    shutil.rmtree(folder)
    size = {"vocabulary": 270, "layers": 1, "width": 8, "heads": 1, "context": 16}
    causal_lm.FAMILY.save(causal_lm.tiny(TEXTS, seed=0, **size), folder)


def without_mask(folder):
    """The tokenizer of another model, which has no mask token."""
    for path in folder.glob("tokenizer*.json"):
        path.unlink()
    causal_lm.byte_tokenizer(TEXTS, 270, 16).save_pretrained(folder)


def larger_vocabulary(folder):
    size = {"vocabulary": 320, "layers": 1, "width": 8, "heads": 1, "context": 16}
    tiny_masked(TEXTS, seed=0, **size).tokenizer.save_pretrained(folder)


def decoder(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_decoder": True}))


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def code(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForMaskedLM": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))


def wider(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))


@pytest.mark.parametrize(
    ("spoil", "fact", "remedy"),
    [
        (causal, "gpt2", "masked language model"),
        (without_mask, "no mask token", "own tokenizer"),
        (larger_vocabulary, "numbers tokens up to", "own tokenizer"),
        (decoder, "set up as a decoder", "causal-lm"),
        (pickled, "only pickled weights", "safetensors"),
        (code, "code of its own", "never runs"),
        (wider, "of another shape", "masked language model"),
    ],
)
def test_a_folder_of_another_kind_or_not_safe_is_refused(folder, spoil, fact, remedy):
    spoil(folder)
    with pytest.raises(EngramError, match=fact) as caught:
        FAMILY.load(folder)
    assert remedy in caught.value.hint


def test_a_folder_says_itself_which_family_it_is_of(saved, tmp_path):
    from engram.parts.published_model import published_family

    causal_folder = tmp_path / "causal"
    causal_folder.mkdir()
    causal(causal_folder)
    assert published_family(saved) == "masked-lm"
    assert published_family(causal_folder) == "causal-lm"
    assert published_family(tmp_path / "nowhere") == "causal-lm"
    (causal_folder / "config.json").write_text("{not json")
    assert published_family(causal_folder) == "causal-lm"
