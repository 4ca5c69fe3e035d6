"""Causal language models: opening folders safely, tokenising, losses, greedy continuation."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engram import families
from engram.core import EngramError, Split, stream
from engram.families.causal_lm import FAMILY, LanguageModel, generate_greedy, tiny
from engram.parts import token_examples
from engram.parts.token_examples import IGNORED, TokenExamples, cut

TEXTS = [
    "Mara Quill, born 3 May 1961, was seen on Tuesday. No fever, and no cough either.",
    "",
    "a",
    "Größe 1,82 m · déjà vu; 日本語.",
    "one two three four five six seven eight nine ten " * 12,
    "Dear Dr Ferro, thank you for referring Mr Abel Stone.",
]


@pytest.fixture(scope="module")
def split():
    return Split.of("texts", text=TEXTS, owners=[f"o{i}" for i in range(len(TEXTS))])


@pytest.fixture(scope="module")
def lm():
    """Uneven predictions, so that a wrong position or a padded token would show."""
    made = tiny(TEXTS, seed=1, vocabulary=300, layers=2, width=32, heads=2, context=48)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3, generator=generator)
    return LanguageModel(made.model.double(), made.tokenizer)


@pytest.fixture(scope="module")
def saved(lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    FAMILY.save(lm, folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def slow_nll(lm, text, context=None):
    """Negative log-likelihood of each token after the first; pieces know nothing of each other."""
    ids, found = lm.tokenizer(text)["input_ids"], []
    context = context or lm.context
    for first in range(0, max(len(ids) - 1, 0), context - 1):
        piece = ids[first : first + context]
        for t in range(1, len(piece)):
            with torch.no_grad():
                logits = lm.model(torch.tensor([piece[:t]])).logits[0, -1]
            found.append(float(torch.logsumexp(logits, 0) - logits[piece[t]]))
    return found


def test_it_is_a_family():
    assert families.find("causal-lm") is FAMILY
    assert isinstance(FAMILY, families.Family)


def test_saved_and_opened_again_it_is_the_same(lm, saved, split):
    again = FAMILY.load(saved)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(lm)
    assert again.context == lm.context == 48
    assert again.model.dtype == torch.float64
    np.testing.assert_array_equal(FAMILY.losses(again, split), FAMILY.losses(lm, split))
    assert {p.suffix for p in saved.iterdir()} == {".json", ".safetensors"}


def test_transformers_opens_what_we_save(lm, saved):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(saved)(TEXTS[3])["input_ids"]
    assert ids == lm.tokenizer(TEXTS[3])["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(saved)
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.tensor([ids])).logits, lm.model(torch.tensor([ids])).logits
        )


def test_the_fingerprint_sees_each_weight_and_nothing_of_past_calls(lm, folder):
    before = FAMILY.fingerprint(lm)
    lm.tokenizer(TEXTS, truncation=True, max_length=3, padding=True)
    assert FAMILY.fingerprint(lm) == before
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[-1] += 1e-9
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert FAMILY.fingerprint(FAMILY.load(folder)) != before


def test_weights_keep_their_type(lm, tmp_path):
    half = LanguageModel(
        tiny(
            TEXTS, seed=0, vocabulary=300, layers=1, width=8, heads=1, context=16
        ).model.bfloat16(),
        lm.tokenizer,
    )
    FAMILY.save(half, tmp_path)
    again = FAMILY.load(tmp_path)
    assert again.model.dtype == torch.bfloat16
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(half)
    assert FAMILY.describe(again)["dtype"] == "bfloat16"


def test_a_tokenizer_gives_back_every_text_and_begins_it(lm):
    for text in TEXTS:
        ids = lm.tokenizer(text)["input_ids"]
        assert ids[0] == lm.tokenizer.bos_token_id
        assert lm.tokenizer.decode(ids[1:]) == text


def test_the_same_texts_and_seed_make_the_same_model():
    size = {"vocabulary": 320, "layers": 1, "width": 8, "heads": 1, "context": 16}
    one, two, other = (tiny(TEXTS, seed=s, **size) for s in (4, 4, 5))
    assert FAMILY.fingerprint(one) == FAMILY.fingerprint(two) != FAMILY.fingerprint(other)
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()


def test_losses_equal_one_token_at_a_time(lm, split):
    slow = [np.mean(found) if (found := slow_nll(lm, t)) else 0.0 for t in TEXTS]
    np.testing.assert_allclose(FAMILY.losses(lm, split), slow, rtol=1e-6, atol=1e-6)
    assert len(slow_nll(lm, TEXTS[4])) > 2 * lm.context  # longer than the context


def test_losses_do_not_depend_on_batches(lm, split, monkeypatch):
    expected = FAMILY.losses(lm, split)
    monkeypatch.setattr("engram.families.causal_lm.BATCH_TOKENS", 1)
    np.testing.assert_allclose(FAMILY.losses(lm, split), expected, rtol=1e-6)
    backwards = FAMILY.losses(lm, split.reversed())[::-1]
    np.testing.assert_allclose(backwards, expected, rtol=1e-6)


def test_records_of_fewer_than_two_tokens_are_too_short(lm, split):
    assert FAMILY.outcomes(lm, split) == ("scored", "too-short", *["scored"] * 4)
    assert FAMILY.losses(lm, split)[1] == 0


def test_quality_is_the_perplexity_over_all_tokens(lm, split):
    every = [x for text in TEXTS for x in slow_nll(lm, text)]
    perplexity, loss = FAMILY.quality(lm, split, stream(0))
    assert perplexity.value == pytest.approx(math.exp(np.mean(every)), rel=1e-6)
    assert perplexity.n == loss.n == 5
    assert perplexity.low < perplexity.value < perplexity.high


def test_pieces_overlap_by_one_so_that_no_token_is_lost():
    assert cut([1, 2, 3, 4, 5], 3) == [[1, 2, 3], [3, 4, 5]]
    assert cut([1, 2, 3, 4], 3) == [[1, 2, 3], [3, 4]]
    assert cut([1, 2, 3], 3) == [[1, 2, 3]]
    assert cut([1], 3) == cut([], 3) == []


def test_padding_is_never_a_label(lm, split):
    examples = FAMILY.examples(lm, split)
    rows = np.array([0, 1, len(examples.counts) - 1])
    tokens, labels = examples.padded(rows)
    for row, width in enumerate(examples.counts[rows]):
        assert (labels[row] != IGNORED).sum() == width
        assert (tokens[row, 1 : width + 1] == labels[row, :width]).all()
        assert (tokens[row] != IGNORED).sum() == width + 1
    assert set(examples.record) == set(range(len(TEXTS)))  # the end token makes "" trainable
    ends = [int(examples.tokens[examples.offsets[i + 1] - 1]) for i in rows]
    assert ends[0] != lm.tokenizer.eos_token_id  # cut off, its last piece has the end
    assert ends[1:] == [lm.tokenizer.eos_token_id] * 2


def test_summed_losses_equal_slow_ones_whatever_the_batch(lm, split):
    examples = FAMILY.examples(lm, split, end=False)
    together = examples.nll(np.arange(len(examples.counts))).detach().numpy()
    by_record = np.bincount(examples.record, together, minlength=len(TEXTS))
    expected = [sum(slow_nll(lm, text)) for text in TEXTS]
    np.testing.assert_allclose(by_record, expected, rtol=1e-6)


def test_large_batches_go_in_parts(lm, split, monkeypatch):
    examples = FAMILY.examples(lm, split)
    rows = np.arange(len(examples.counts))
    monkeypatch.setattr(token_examples, "LOGITS", 2 * lm.context * examples.answers)
    parts = list(examples.chunks(rows))
    assert [len(p) for p in parts] == [2] * (len(rows) // 2) + [1] * (len(rows) % 2)
    np.testing.assert_array_equal(np.concatenate(parts), rows)


def test_an_epoch_sees_every_piece_once_in_batches_of_similar_length(lm):
    counts = np.random.default_rng(0).integers(1, 40, 300)
    offsets = np.cumsum([0, *(counts + 1)])
    examples = TokenExamples(lm.model, np.zeros(offsets[-1], np.int32), offsets, np.arange(300))
    one, two = (examples.order(8, stream(0, "batches", e)) for e in (0, 1))
    assert sorted(np.concatenate(one)) == list(range(300))
    assert len(one) == math.ceil(300 / 8)
    assert not np.array_equal(np.concatenate(one), np.concatenate(two))
    spread = np.mean([np.ptp(counts[b]) for b in one])
    assert spread < np.ptp(counts) / 4
    # Buckets are shuffled: the order does not go from short to long.
    assert np.any(np.diff([counts[b].mean() for b in one]) < -10)


def test_greedy_continuation_equals_a_loop_without_a_cache(lm):
    prefix = torch.tensor([[1, 40, 50, 60], [1, 44, 90, 200], [1, 250, 251, 7]])
    expected = prefix
    for _ in range(20):
        with torch.no_grad():
            following = lm.model(expected, use_cache=False).logits[:, -1].argmax(-1)
        expected = torch.cat([expected, following[:, None]], 1)
    assert torch.equal(generate_greedy(lm, prefix, 20), expected[:, 4:])
    assert generate_greedy(lm, prefix, 0).shape == (3, 0)


def test_the_end_token_neither_stops_nor_is_forbidden(lm):
    """A model that always says "end" says it to the end."""
    stubborn = tiny(TEXTS, seed=0, vocabulary=300, layers=1, width=8, heads=1, context=16)
    end = stubborn.tokenizer.eos_token_id
    bias = torch.zeros(len(stubborn.tokenizer))
    bias[end] = 100.0
    hook = stubborn.model.lm_head.register_forward_hook(lambda *args: args[-1] + bias)
    made = generate_greedy(stubborn, torch.tensor([[1, 70, 71]]), 6)
    hook.remove()
    assert made.tolist() == [[end] * 6]


def test_a_continuation_beyond_the_context_is_refused(lm):
    with pytest.raises(EngramError, match="do not fit into a context of 48"):
        generate_greedy(lm, torch.ones((1, 40), dtype=torch.long), 9)


def test_perturbed_texts_keep_their_blanks_and_change_the_right_number_of_words(split):
    near = FAMILY.perturb(split, 0.1, stream(0))
    assert near.ids == split.ids
    assert near.owners == split.owners
    for before, after in zip(TEXTS, near.texts, strict=True):
        old, new = before.split(), after.split()
        assert len(old) == len(new)
        changed = sum(a != b for a, b in zip(old, new, strict=True))
        assert changed <= math.ceil(0.1 * len(old))
        assert changed > 0 or len(old) == 0
    assert FAMILY.perturb(split, 0.1, stream(0)).texts == near.texts
    with pytest.raises(EngramError, match=r"strength is 1\.5"):
        FAMILY.perturb(split, 1.5, stream(0))


def test_canaries_are_distinct_and_marked():
    planted = FAMILY.canaries(50, stream(3))
    assert len(set(planted.texts)) == len(set(planted.owners)) == 50
    assert planted.canaries == (True,) * 50
    secrets = {t.split(" is ")[1] for t in planted.texts}
    assert len(secrets) == 50
    assert all(len(s.replace(" ", "").strip(".")) == 6 for s in secrets)
    assert FAMILY.canaries(50, stream(3)).texts == planted.texts


def test_records_need_a_column_of_text(split):
    FAMILY.check(split)
    assert FAMILY.render(split, 0) == TEXTS[0]
    with pytest.raises(EngramError, match=r"it has texts, note") as caught:
        FAMILY.check(Split.of("x", texts=["a"], note=["b"]))
    assert "texts" in caught.value.hint
    with pytest.raises(EngramError, match="holds int64, not strings"):
        FAMILY.check(Split.of("x", text=[1, 2]))


def remove(name):
    return lambda folder: (folder / name).unlink()


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def with_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))


def with_script(folder):
    (folder / "modeling_evil.py").write_text("raise SystemExit('this must never run')")


def broken_config(folder):
    (folder / "config.json").write_text("{not json")


def other_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_embd": 16}))


def more_layers(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": 3}))


def unknown_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt-999"}))


def lost_shard(folder):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
    )


@pytest.mark.parametrize(
    ("spoil", "fact", "remedy"),
    [
        (remove("config.json"), "no config.json", "save_pretrained"),
        (remove("model.safetensors"), "has no weights", "model.safetensors"),
        (pickled, "only pickled weights", "safetensors"),
        (truncated, "is damaged", "again"),
        (with_code, "code of its own", "never runs"),
        (with_script, r"carries code \(modeling_evil.py\)", "delete"),
        (remove("tokenizer.json"), "no tokenizer", "save_pretrained"),
        (broken_config, "config.json cannot be read", "damaged"),
        (other_shape, "of another shape", "causal"),
        (more_layers, "are missing", "causal"),
        (unknown_type, "gpt-999", "transformers"),
        (lost_shard, "lacks model-2.safetensors", "again"),
    ],
)
def test_a_folder_that_is_not_whole_or_not_safe_is_refused(folder, spoil, fact, remedy):
    spoil(folder)
    with pytest.raises(EngramError, match=fact) as caught:
        FAMILY.load(folder)
    assert remedy in caught.value.hint


def test_a_folder_that_is_not_there_and_a_device_that_is_not_there(tmp_path, saved):
    with pytest.raises(EngramError, match="there is no folder"):
        FAMILY.load(tmp_path / "nowhere")
    with pytest.raises(EngramError, match="cannot be put on device 'warp'"):
        FAMILY.load(saved, "warp")


def test_a_name_without_a_network_is_a_clear_error_at_once(monkeypatch):
    def unknown(host, port):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("engram.parts.published_model.getproxies", dict)
    monkeypatch.setattr("engram.parts.published_model.socket.getaddrinfo", unknown)
    with pytest.raises(EngramError, match=r"no model of that name could be had.*cannot be reached"):
        FAMILY.load("nobody/nothing")


def test_whatever_the_libraries_raise_for_a_name_is_a_clear_error(monkeypatch):
    def refused(*args, **kwargs):
        raise RuntimeError("it is gone")

    monkeypatch.setattr("engram.parts.published_model._check_reachable", lambda: None)
    monkeypatch.setattr("engram.parts.published_model.AutoTokenizer.from_pretrained", refused)
    with pytest.raises(EngramError, match="could be had: it is gone") as caught:
        FAMILY.load("nobody/nothing")
    assert "network" in caught.value.hint
