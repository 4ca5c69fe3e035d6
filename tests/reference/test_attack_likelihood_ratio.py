"""`likelihood-ratio` against one mask at a time in float64, a case by hand, and bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import MaskedLMOutput

from engram.core import EngramError, Lineage, Split, Target, stream
from engram.families.masked_lm import FAMILY, MaskedLanguageModel, tiny_masked
from engram.methods.attacks.likelihood_ratio import LikelihoodRatio
from engram.methods.measures.pseudo_perplexity import PseudoPerplexity
from engram.parts.masking import window_masks

ENERGIES = ("loss", "norm", "raw")
CONTEXT = 40
TEXTS = (
    "Mara Quill was seen on Tuesday for chest pain. No fever.",
    "The river was low that SUMMER, and the boats lay on the sand like fish.",
    "a",
    "one two three four five six seven eight nine ten eleven twelve " * 2,
    "Größe und Gewicht: 1,82 m, 84 kg.",
    "A short one.",
)


def network(tokenizer, seed):
    """A random BERT in float64 with uneven predictions."""
    size = {"layers": 2, "width": 16, "heads": 2, "context": CONTEXT, "vocabulary": 300}
    model = tiny_masked(TEXTS, seed=seed, **size).model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.4, generator=generator)
    return MaskedLanguageModel(model.double(), tokenizer)


@pytest.fixture(scope="module")
def pair():
    """A target whose base is "base", and the base."""
    size = {"layers": 1, "width": 8, "heads": 1, "context": CONTEXT, "vocabulary": 300}
    tokenizer = tiny_masked(TEXTS, seed=0, **size).tokenizer
    lineage = Lineage(method="finetune-mlm", kind="recipes", base="base")
    target = Target("t", "masked-lm", network(tokenizer, 1), "target", lineage=lineage)
    return target, Target("b", "masked-lm", network(tokenizer, 2), "base")


@pytest.fixture
def texts():
    return Split.of("texts", text=TEXTS, owners=[f"owner-{i // 2}" for i in range(len(TEXTS))])


@pytest.fixture
def run(run, pair):
    run.others["base"] = pair[1]
    return run


def plain_windows(lm, text):
    """Framed windows of nearly equal length, from the words of the family's description."""
    tokens = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    room = CONTEXT - 2
    parts = -(-len(tokens) // room)
    pieces = [list(p) for p in np.array_split(np.array(tokens), parts)]
    return [[lm.tokenizer.cls_token_id, *p, lm.tokenizer.sep_token_id] for p in pieces]


def ask(lm, ids, hidden, place):
    """Logits (float64) for one place while the tokens at `hidden` are masked."""
    shown = [lm.tokenizer.mask_token_id if i in hidden else token for i, token in enumerate(ids)]
    with torch.no_grad():
        return lm.model(torch.tensor([shown])).logits[0, place].numpy()


def slow_energy(lm, text, energy, draws, share, seed):
    """The paper's energies, one mask and one token at a time."""
    windows = plain_windows(lm, text)
    if energy != "loss":
        every = [(ask(lm, ids, {i}, i), ids[i]) for ids in windows for i in range(1, len(ids) - 1)]
        if energy == "raw":
            return -sum(logits[token] for logits, token in every)
        return np.mean([np.log(np.exp(o).sum()) - o[token] for o, token in every])
    masks = FAMILY.windows(lm, Split.of("one", text=[text]))
    means = []
    for draw in range(draws):
        losses = []
        for number, ids in enumerate(windows):
            hidden = window_masks(masks, number, draws, share, seed)[draw].tolist()
            assert len(hidden) == max(1, int(share * (len(ids) - 1)))
            assert 0 < min(hidden) <= max(hidden) < len(ids) - 1
            for place in hidden:
                logits = ask(lm, ids, set(hidden), place)
                losses.append(np.log(np.exp(logits).sum()) - logits[ids[place]])
        means.append(np.mean(losses))
    return np.mean(means)


@pytest.mark.parametrize("energy", ENERGIES)
def test_is_the_difference_of_energies_one_mask_at_a_time(energy, pair, texts, run):
    target, base = pair
    how = (energy, 3, 0.3, run.seed)
    expected = [
        slow_energy(base.model, t, *how) - slow_energy(target.model, t, *how) for t in TEXTS
    ]
    scores = LikelihoodRatio(energy=energy, draws=3, share=0.3)(target, texts, run)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-10)
    assert scores.ids == texts.ids
    assert np.ptp(expected) > 0.1


class Unigram(PreTrainedModel):
    """Says the same logits at every place, whatever it is shown."""

    config_class = BertConfig
    base_model_prefix = "nothing"

    def __init__(self, logits):
        super().__init__(BertConfig(vocab_size=len(logits), max_position_embeddings=16))
        self.embeddings = nn.Embedding(len(logits), 1)
        self.logits = torch.tensor(logits, dtype=torch.float64)

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, input_ids, attention_mask):
        assert (input_ids[:, 0] == 1).all()
        return MaskedLMOutput(logits=self.logits.expand(*input_ids.shape, -1))


def words():
    """Seven tokens: four special ones, and the words a, b and c."""
    known = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3, "a": 4, "b": 5, "c": 6}
    made = Tokenizer(models.WordLevel(known, unk_token="c"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def test_a_case_worked_by_hand(run):
    """p(a, b, c) = 1/2, 1/4, 1/4 for the target, its logits shifted by 1; the base: 1/4, 1/4, 1/2.

    For "a a b": norm is (ln 2 + ln 2 + ln 4) / 3 = 4/3 ln 2 against (ln 4) = 2 ln 2, so the score
    is 2/3 ln 2. raw is -(-4 ln 2 + 3) against 6 ln 2, so it is 2 ln 2 + 3. For "b" both give ln 4.
    """
    half, quarter, never = np.log(0.5), np.log(0.25), -1e9
    target_logits = [never] * 4 + [half + 1, quarter + 1, quarter + 1]
    base_logits = [never] * 4 + [quarter, quarter, half]
    models_ = [
        MaskedLanguageModel(Unigram(z).eval(), words()) for z in (target_logits, base_logits)
    ]
    target = Target("t", "masked-lm", models_[0], "t", lineage=Lineage(base="base"))
    run.others["base"] = Target("b", "masked-lm", models_[1], "b")
    split = Split.of("words", text=["a a b", "b", "c c"])
    ln2 = np.log(2)
    norm = LikelihoodRatio(energy="norm")(target, split, run)
    np.testing.assert_allclose(norm.values, [2 / 3 * ln2, 0, -ln2], atol=1e-12)
    raw = LikelihoodRatio(energy="raw")(target, split, run)
    np.testing.assert_allclose(raw.values, [2 * ln2 + 3, 1, -2 * ln2 + 2], atol=1e-12)
    # Every mask of "b" and "c c" hides tokens of one kind, whichever they are.
    loss = LikelihoodRatio(energy="loss")(target, split, run)
    np.testing.assert_allclose(loss.values[1:], [0, -ln2], atol=1e-12)
    assert loss.values[0] == pytest.approx(2 / 3 * ln2, abs=0.4)
    found = PseudoPerplexity()(target, {"members": split.take([0, 1])}, run)
    assert found[0].value == pytest.approx(2 ** (6 / 4))  # 4 tokens: 1, 1, 2 and 2 bits


@pytest.mark.parametrize("energy", ENERGIES)
def test_against_itself_every_score_is_exactly_zero(energy, pair, texts, run):
    run.others["itself"] = replace(pair[0], fingerprint="another name for it")
    scores = LikelihoodRatio("itself", energy=energy)(pair[0], texts, run)
    np.testing.assert_array_equal(scores.values, 0.0)


def test_both_models_are_shown_the_same_tokens(pair, texts, run):
    shown = {}
    hooks = []
    for target in pair:
        seen = shown.setdefault(target.name, [])
        hooks.append(
            target.model.model.register_forward_pre_hook(
                lambda module, args, given, seen=seen: seen.append(given["input_ids"].clone()),
                with_kwargs=True,
            )
        )
        assert target.model._gathers  # tried now, so that it is not seen below
        seen.clear()
    LikelihoodRatio(draws=4)(pair[0], texts, run)
    for hook in hooks:
        hook.remove()
    first, second = shown.values()
    assert len(first) == len(second) > 0
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    masks = sum(int((ids == pair[0].model.mask).sum()) for ids in first)
    assert masks > 4 * len(TEXTS)  # the same ones, and not none


def test_scores_do_not_depend_on_order_company_owners_or_names(pair, texts, run):
    target = pair[0].sealed()
    attack = LikelihoodRatio(draws=5)
    expected = attack(target, texts, run).values
    np.testing.assert_array_equal(attack(target, texts, run).values, expected)
    backwards = attack(target, texts.reversed(), run).values[::-1]
    np.testing.assert_allclose(backwards, expected, rtol=0, atol=1e-11)
    alone = attack(target, texts.take([3]), run).values
    np.testing.assert_allclose(alone, expected[[3]], rtol=0, atol=1e-11)
    renamed = replace(texts.renamed("other"), owners=None)
    np.testing.assert_array_equal(attack(target, renamed, run).values, expected)
    assert attack(target, texts.take([]), run).values.shape == (0,)
    assert not np.allclose(attack(target, texts, replace(run, seed=1)).values, expected)


def test_energies_are_stored_by_what_decides_them(pair, texts, run, monkeypatch):
    asked = []
    own = type(run).computed

    def computed(self, name, target, split, settings, work):
        asked.append((name, target.name, dict(settings)))
        return own(self, name, target, split, settings, work)

    monkeypatch.setattr(type(run), "computed", computed)
    LikelihoodRatio(draws=2)(pair[0], texts, run)
    LikelihoodRatio(energy="norm")(pair[0], texts, replace(run, seed=4))
    loss = {"energy": "loss", "draws": 2, "share": 0.15, "seed": 0}
    assert asked[:2] == [("energies", "b", loss), ("energies", "t", loss)]
    assert asked[2:] == [("energies", n, {"energy": "norm"}) for n in "bt"]


def test_what_was_learnt_by_heart_scores_higher(run):
    """Sixteen texts, half of them seen for a while; the reference learnt neither."""
    from engram.core import torch_seeded
    from engram.parts.training import batch_loss

    rng = stream(0, "notes")
    notes = [" ".join(map(str, rng.integers(100, 999, 6))) for _ in range(16)]
    size = {"vocabulary": 270, "layers": 1, "width": 32, "heads": 2, "context": 32}
    base, lm = (tiny_masked(notes, seed=0, **size) for _ in range(2))
    members, outsiders = Split.of("m", text=notes[:8]), Split.of("o", text=notes[8:])
    examples = FAMILY.examples(lm, members)
    optimiser = torch.optim.Adam(lm.model.parameters(), lr=2e-2)
    with torch_seeded(0, "test"):
        for step in range(70):
            optimiser.zero_grad()
            for part in batch_loss(examples.at(step), np.arange(8)):
                part.backward()
            optimiser.step()
    lm.model.eval()
    run.others["base"] = Target("base", "masked-lm", base, "b")
    target = Target("knows", "masked-lm", lm, "k", lineage=Lineage(base="base"))
    high, low = (LikelihoodRatio()(target, s, run).values for s in (members, outsiders))
    assert np.mean(high[:, None] > low[None, :]) > 0.75


def test_needs_a_base_of_its_own_family_with_its_own_tokenizer(pair, texts, run, target, base):
    with pytest.raises(EngramError, match="does not say which base"):
        LikelihoodRatio()(replace(pair[0], lineage=Lineage()), texts, run)
    with pytest.raises(EngramError, match="is a causal-lm, which has no energies") as caught:
        LikelihoodRatio()(target, texts, run)
    assert "masked" in caught.value.hint
    run.others["causal"] = base
    with pytest.raises(EngramError, match="the reference 'causal' is a causal-lm"):
        LikelihoodRatio("causal")(pair[0], texts, run)
    size = {"vocabulary": 280, "layers": 1, "width": 8, "heads": 1, "context": CONTEXT}
    run.others["other"] = Target("other", "masked-lm", tiny_masked(TEXTS, seed=0, **size), "o")
    with pytest.raises(EngramError, match="has another tokenizer than target") as caught:
        LikelihoodRatio("other")(pair[0], texts, run)
    assert "own tokenizer" in caught.value.hint


def test_the_plain_difference_of_losses_checks_the_tokenizer_too(pair, texts, run):
    from engram.methods.attacks.reference import Reference

    class Asked(type(run)):
        def losses(self, target, split):
            return np.zeros(len(split))

    asked = Asked(run.scratch, others=run.others)
    assert len(Reference()(pair[0], texts, asked).values) == len(texts)
    size = {"vocabulary": 280, "layers": 1, "width": 8, "heads": 1, "context": CONTEXT}
    run.others["base"] = Target("other", "masked-lm", tiny_masked(TEXTS, seed=0, **size), "o")
    with pytest.raises(EngramError, match="has another tokenizer than target"):
        Reference()(pair[0], texts, asked)


def test_texts_with_nothing_to_hide_are_refused_by_name(pair, run):
    split = Split.of("t", text=["a fine text", "", "[MASK] [SEP]"])
    with pytest.raises(EngramError, match=r"no token that can be masked.*\(1 of 3 records\)"):
        LikelihoodRatio()(pair[0], split, run)


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"share": 0.0}, "share is 0.0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"share": float("nan")}, "share is nan"),
    ],
)
def test_bad_fields_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        LikelihoodRatio(**fields)
    assert caught.value.hint


def test_an_unknown_energy_is_refused():
    attack = LikelihoodRatio()
    object.__setattr__(attack, "energy", "free")  # past the type checker of these tests
    with pytest.raises(EngramError, match="energy is 'free', but must be one of loss, norm, raw"):
        attack.__post_init__()


def test_pseudo_perplexity_counts_every_token_once(pair, texts, run):
    lm = pair[0].model
    every = []
    for text in TEXTS:
        for ids in plain_windows(lm, text):
            for i in range(1, len(ids) - 1):
                logits = ask(lm, ids, {i}, i)
                every.append(np.log(np.exp(logits).sum()) - logits[ids[i]])
    (found,) = PseudoPerplexity()(pair[0], {"members": texts}, run)
    assert found.value == pytest.approx(np.exp(np.mean(every)))
    assert found.low < found.value < found.high
    assert (found.method, found.n) == ("pseudo-perplexity", len(TEXTS))
    (missing,) = PseudoPerplexity()(pair[0], {"members": texts.take([0])}, run)
    assert missing.value is None
    with pytest.raises(EngramError, match="resamples is 5"):
        PseudoPerplexity(resamples=5)
