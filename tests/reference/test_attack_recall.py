"""`recall` against two plain passes, and a case worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from engram.core import EngramError, Lineage, Split, Target
from engram.methods.attacks.recall import Recall, leading, placed_after, relative

FOREIGN = ("The mill stood empty.", "Two ferries left at noon.", "Nobody saw the fox.")


@pytest.fixture
def foreign(run):
    run.others["foreign"] = Split.of("foreign", text=FOREIGN)
    return "foreign"


def plain(lm, prefix, text, logprobs_of):
    """Both mean log-probabilities of a text's tokens, one text at a time."""
    own = lm.tokenizer(text)["input_ids"][1:]  # without the token that begins every text
    means = []
    for ids, table in (logprobs_of(lm, prefix + text), logprobs_of(lm, text)):
        first = len(ids) - len(own)
        assert list(ids[first:]) == own
        means.append(np.mean([table[first + t - 1][token] for t, token in enumerate(own)]))
    return means[0] / means[1]


def test_agrees_with_two_plain_passes(target, split, run, foreign, logprobs_of):
    short = split.take([0, 1, 3, 6, 7, 9])
    method = Recall(prefix=foreign, shots=2)
    prefix = "".join(f"{text}\n\n" for text in method.texts(target, short, run))
    assert sum(text in prefix for text in FOREIGN) == 2
    expected = [plain(target.model, prefix, text, logprobs_of) for text in short.texts]
    np.testing.assert_allclose(method(target, short, run).values, expected, rtol=1e-6)


def table_of(lm, ids):
    import torch

    with torch.no_grad():
        return torch.log_softmax(lm.model(torch.tensor([ids])).logits[0].double(), -1).numpy()


@pytest.mark.parametrize("length", [20, 140, 150, 191, 192, 400])
def test_cuts_the_prefix_and_then_the_record(target, run, length):
    # Records that leave room for the whole prefix, a part of it, and nothing.
    lm = target.model
    text = "one two three four five six seven " * 80
    text = lm.tokenizer.decode(lm.tokenizer(text, add_special_tokens=False)["input_ids"][:length])
    ids = lm.tokenizer(text)["input_ids"]
    assert abs(len(ids) - 1 - length) <= 2
    ids = ids[:192]  # the plain run cannot read more
    text = lm.tokenizer.decode(ids[1:])
    record = Split.of("long", text=[text])
    assert lm.tokenizer(text)["input_ids"] == ids
    run.others["mill"] = Split.of("mill", text=["The mill stood empty and still. " * 3])
    found = Recall(prefix="mill", shots=1, room=24)(target, record, run).values
    before = lm.tokenizer("The mill stood empty and still. " * 3 + "\n\n")["input_ids"][1:]
    kept = min(len(before), max(192 - len(ids), 24))
    joined = [ids[0], *before[len(before) - kept :], *ids[1:]][:192]
    above, below = table_of(lm, joined), table_of(lm, ids)
    places = range(1, len(joined) - kept)
    upper = np.mean([above[kept + place - 1, ids[place]] for place in places])
    lower = np.mean([below[place - 1, ids[place]] for place in places])
    np.testing.assert_allclose(found, [upper / lower], rtol=1e-6)


def test_a_worked_case():
    # A member falls from -0.5 to -2 a token, an outsider rises from -4 to -3.
    assert relative(np.array([-3.0, -1.0]), np.array([-0.5, -0.5])) == pytest.approx(4.0)
    assert relative(np.array([-3.0]), np.array([-4.0])) == pytest.approx(0.75)
    assert relative(np.array([0.0]), np.array([0.0])) == 1.0


def test_places_the_prefix_between_the_special_tokens_and_the_record():
    prefix = [1, 2, 3, 4]
    assert placed_after(prefix, [0, 7, 8], 1, 9, 2) == ([0, 1, 2, 3, 4, 7, 8], 5)
    assert placed_after(prefix, [0, 7, 8], 1, 6, 2) == ([0, 2, 3, 4, 7, 8], 4)
    assert placed_after(prefix, [0, 7, 8, 9, 9], 1, 6, 2) == ([0, 3, 4, 7, 8, 9], 3)
    # Without special tokens the record's first token is scored on neither side.
    assert placed_after(prefix, [7, 8], 0, 9, 2) == ([1, 2, 3, 4, 7, 8], 5)
    assert placed_after([], [0, 7], 1, 9, 2) == ([0, 7], 1)


def test_works_with_a_tokenizer_that_adds_nothing(target, split, run, foreign):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from engram.families.causal_lm import LanguageModel

    lm = target.model
    bare = Tokenizer.from_str(lm.tokenizer.backend_tokenizer.to_str())
    bare.post_processor = None
    model = LanguageModel(lm.model, PreTrainedTokenizerFast(tokenizer_object=bare))
    naked = replace(target, model=model)
    assert leading(model.tokenizer) == 0
    assert leading(lm.tokenizer) == 1
    record = split.take([6])
    ids = model.tokenizer(record.texts[0])["input_ids"]
    method = Recall(prefix=foreign, shots=1)
    before = model.tokenizer(method.texts(naked, record, run)[0] + "\n\n")["input_ids"]
    above, below = table_of(model, before + ids), table_of(model, ids)
    upper = np.mean([above[len(before) + t - 1, ids[t]] for t in range(1, len(ids))])
    lower = np.mean([below[t - 1, ids[t]] for t in range(1, len(ids))])
    np.testing.assert_allclose(method(naked, record, run).values, [upper / lower], rtol=1e-6)


def test_agrees_with_the_engine(target, split, run, foreign, tmp_path):
    from engram.engine.run import EngineRun

    class Named(EngineRun):
        def records(self, where, target=None):
            return run.records(where)

    engine = Named(root=tmp_path, scratch=tmp_path)
    method = Recall(prefix=foreign, shots=2)
    first = method(target, split, engine).values
    np.testing.assert_allclose(first, method(target, split, run).values, rtol=1e-5)
    np.testing.assert_array_equal(first, method(target, split, engine).values)


def test_without_a_file_the_base_writes_the_prefix(target, base, split, run):
    texts = Recall(shots=3, shot_tokens=8).texts(target, split, run)
    run.others.clear()
    run.others["base"] = base
    assert Recall(shots=3, shot_tokens=8).texts(target, split, run) == texts
    assert 1 <= len(texts) <= 3
    baseless = replace(target, lineage=Lineage())
    assert Recall(shots=3, shot_tokens=8).texts(baseless, split, run) != texts


def test_refuses_a_base_that_writes_nothing(target, split, run):
    class Silent:
        def write(self, prompts, tokens, rng):
            return ["" for _ in prompts]

    class Mute(type(run)):
        def sampler(self, target, temperature=1.0):
            return Silent()

    with pytest.raises(EngramError, match="writes only empty texts"):
        Recall()(target, split, Mute(run.scratch, others=run.others))


def test_refuses_a_prefix_that_is_audited_empty_or_too_small(target, split, run):
    run.others["same"] = Split.of("same", text=[*FOREIGN, split.texts[1]])
    with pytest.raises(EngramError, match="overlaps the members"):
        Recall(prefix="same", shots=3)(target, split, run)
    run.others["few"] = Split.of("few", text=FOREIGN)
    with pytest.raises(EngramError, match="has 3 records, but at least 4"):
        Recall(prefix="few", shots=4)(target, split, run)
    run.others["blank"] = Split.of("blank", text=["", " ", "\n", "a"])
    with pytest.raises(EngramError, match="has 1 texts that are not empty"):
        Recall(prefix="blank", shots=4)(target, split, run)
    run.others["numbers"] = Split.of("numbers", value=list(range(9)))
    with pytest.raises(EngramError, match="no column 'text'"):
        Recall(prefix="numbers", shots=4)(target, split, run)


@pytest.mark.parametrize("name", ["shots", "shot_tokens", "room"])
def test_refuses_fields_below_one(name):
    with pytest.raises(EngramError, match=f"{name} is 0"):
        Recall(**{name: 0})


def test_refuses_more_room_than_half_the_context(target, split, run):
    with pytest.raises(EngramError, match="reads only 192 tokens"):
        Recall(room=97)(target, split, run)


def test_refuses_another_family(classifier, arrays, tmp_path):
    from engram.engine.run import EngineRun

    run = EngineRun(root=tmp_path, scratch=tmp_path)
    victim = Target("linear", "classifier", None, "linear")
    with pytest.raises(EngramError, match="has no tokens"):
        Recall()(victim, arrays, run)
