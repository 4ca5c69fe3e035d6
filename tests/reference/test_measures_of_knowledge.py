"""`qa-accuracy`, `in-template-recall`, `p-probing` and `q-probing` on models of known knowledge."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from engram.core import EngramError, Split, Target, stream
from engram.families.causal_lm import LanguageModel, word_tokenizer
from engram.methods.measures.in_template_recall import InTemplateRecall
from engram.methods.measures.p_probing import LATER, PProbing
from engram.methods.measures.q_probing import QProbing
from engram.methods.measures.qa_accuracy import QaAccuracy
from engram.parts.biographies import Telling, World, biographies, questions, trained_people
from engram.parts.probing import UNKNOWN, Probe, ProbePlan, Readings, classes_of, probed
from engram.parts.stated_places import stated

FIELDS = ("birth_city", "major", "employer")
WORLD = World(count=120, fields=FIELDS, values=4)


@pytest.fixture(scope="module")
def people():
    return biographies(WORLD, Telling(permute=1), stream(0, "knowledge"))


def table(**columns):
    return Split.from_table("table", pa.table(columns))


def by_name(findings):
    return {finding.name: finding for finding in findings}


# ---- probes: a network whose state is what we put there


class Oracle(nn.Module):
    """A "language model" whose state at a token is the sum of the embeddings up to there.

    The embedding of the last name is one-hot in each of its person's fields; all other words have
    none, unless they are noise.
    """

    def __init__(self, embedding):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.tensor(embedding), freeze=False)

    def get_input_embeddings(self):
        return self.embedding

    @property
    def base_model(self):
        return lambda inputs_embeds, attention_mask=None, use_cache=False: SimpleNamespace(
            last_hidden_state=inputs_embeds.cumsum(1)
        )


def oracle(people, knows):
    """A target whose state after a person's name holds these fields; all else is noise."""
    tokenizer = word_tokenizer(people.texts, 5000, 128)
    rng = stream(3, "oracle")
    width = 4 * len(FIELDS)
    embedding = rng.normal(size=(len(tokenizer), width)).astype(np.float32) * 0.01
    values = {f: sorted(set(people.column(f).to_pylist())) for f in FIELDS}
    for row in people.records.to_pylist():
        for spelling in (row["name"], f"{row['name']}'s"):
            last = tokenizer(spelling)["input_ids"][3]  # after begin, first and middle
            for place, field in enumerate(FIELDS):
                seen = row[field] if field in knows else rng.choice(values[field])
                embedding[last, 4 * place + values[field].index(seen)] = 1
    lm = LanguageModel.__new__(LanguageModel)
    object.__setattr__(lm, "model", Oracle(embedding))
    object.__setattr__(lm, "tokenizer", tokenizer)
    lm.__dict__["context"] = 128
    return Target("oracle", "causal-lm", lm, "oracle")


@pytest.fixture(scope="module")
def unlike():
    """People no two of whom have a last name in common, so that it can be anything."""
    made = biographies(World(240, FIELDS, values=4), Telling(permute=1), stream(0, "knowledge"))
    lasts = [name.split()[2] for name in made.column("name").to_pylist()]
    return made.take(sorted({last: row for row, last in enumerate(lasts)}.values()))


@pytest.mark.parametrize("rank", [0, 4])
def test_a_q_probe_finds_what_the_name_holds_and_chance_where_it_holds_nothing(unlike, rank, run):
    known = oracle(unlike, knows=("birth_city", "major"))
    probe = QProbing(rank=rank, steps=150, learning_rate=0.05, weight_decay=0.0)
    found = by_name(probe(known, {"people": unlike}, run))
    assert found["Q-probe accuracy, birth_city"].value == 1
    assert found["Q-probe accuracy, major"].value == 1
    chance = found["Q-probe accuracy, employer"]
    assert chance.low - 0.1 < 1 / 4 < chance.high + 0.1
    assert chance.n == (~trained_people(unlike.owners)).sum()
    whole = found["Q-probe accuracy"]
    assert whole.value == pytest.approx((2 + chance.value) / 3)


def test_a_p_probe_finds_later_facts_where_the_name_holds_them(unlike, run):
    probe = PProbing(places=1, steps=150, rank=0, learning_rate=0.05, weight_decay=0.0)
    everything = by_name(probe(oracle(unlike, FIELDS), {"people": unlike}, run))
    assert everything[LATER].value == 1
    nothing = by_name(probe(oracle(unlike, ()), {"people": unlike}, run))
    assert nothing[LATER].value == pytest.approx(1 / 4, abs=0.13)
    assert not any("place 2" in name for name in nothing)


def test_a_p_probe_reads_before_a_fact_and_sees_it_after(unlike, run):
    """The network knows nothing by name, but the words of the facts themselves are in its state."""
    target = oracle(unlike, ())
    lm = target.model
    values = sorted(set(unlike.column("birth_city").to_pylist()))
    with torch.no_grad():
        for place, value in enumerate(values):
            lm.model.embedding.weight[lm.tokenizer(value)["input_ids"][1]] = (
                20 * torch.eye(12)[place]
            )
    rows = [r for r, t in enumerate(unlike.texts)
            if t.index(unlike.column("birth_city")[r].as_py()) < t.index(
                unlike.column("major")[r].as_py())]  # fmt: skip
    first = unlike.take([r for r in rows if unlike.texts[r].index(
        unlike.column("birth_city")[r].as_py()) < unlike.texts[r].index(
            unlike.column("employer")[r].as_py())])  # fmt: skip
    probe = PProbing(steps=200, rank=0, learning_rate=0.05, weight_decay=0.0)
    found = by_name(probe(target, {"people": first}, run))
    assert found["P-probe accuracy at place 1, birth_city"].value < 0.6, "not mentioned yet"
    assert found["P-probe accuracy at place 2, birth_city"].value > 0.95
    assert found["P-probe accuracy at place 3, birth_city"].value > 0.95


def test_places_by_hand():
    tokenizer = word_tokenizer(["Mara Quill was born in Oldwick. She read Logic at Bex."], 99, 64)
    lm = SimpleNamespace(tokenizer=tokenizer, context=64)
    texts = [
        "Mara Quill was born in Oldwick. She read Logic.",  # tokens 0 begin, 1 Mara, ... 6 Oldwick
        "Mara Quill read Logic. She was born in Oldwick.",
        "Mara Quill was born in Oldwick.",  # no major
        "Logic. Mara Quill was born in Oldwick.",  # a fact first: its place is the begin token
    ]
    people = table(text=texts, city=["Oldwick"] * 4, major=["Logic"] * 4)
    found = stated(lm, people, ("city", "major"))
    assert found.rows.tolist() == [0, 1, 3]
    assert found.places.tolist() == [[5, 9], [3, 9], [0, 7]]
    assert found.order.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert [len(ids) for ids in found.tokens] == [10, 10, 8], "nothing after the last place is kept"
    assert stated(lm, people, ("city", "major"), 1).tokens[1] == found.tokens[1][:4]
    short = SimpleNamespace(tokenizer=tokenizer, context=9)
    assert stated(short, people, ("city", "major")).rows.tolist() == [3]


def test_classes_are_those_of_the_people_to_learn_from():
    labels, sizes = classes_of([["b", "a", "c", "a"], [3, 1, 1, 2]], np.array([1, 1, 0, 0], bool))
    assert labels.tolist() == [[1, 1], [0, 0], [UNKNOWN, 0], [0, UNKNOWN]]
    assert sizes == (2, 2)


def test_a_probe_by_the_slow_way(make_lm, run):
    """One text at a time, torch's own modules, and the network's gradients left alone."""
    lm = make_lm(5)
    texts = [lm.tokenizer(t)["input_ids"] for t in ("The river was low", "a blue door", "Abel")]
    places = np.array([[len(ids) - 1, 1] for ids in texts])
    readings = Readings(texts, places, np.array([[0, 1], [1, 0], [1, 1]]), (2, 2))
    plan = ProbePlan(rank=2, steps=3, batch_size=3, learning_rate=0.05, weight_decay=0.1, shared=1)
    before = {name: p.clone() for name, p in lm.model.named_parameters()}
    probe = Probe(lm.model, readings, np.ones(len(texts), bool), plan, run, "probe")
    change = probe.right.detach().clone()

    heads = nn.Parameter(torch.zeros_like(probe.heads))
    bias = nn.Parameter(torch.zeros_like(probe.bias))
    left = nn.Parameter(torch.zeros(len(lm.tokenizer), 2, dtype=torch.float64))
    right = nn.Parameter(change)
    optimiser = torch.optim.AdamW([heads, bias, left, right], lr=0.05, weight_decay=0.1)

    def logits(ids, text):
        given = lm.model.transformer.wte.weight[ids] + left[ids] @ right
        states = lm.model.transformer(inputs_embeds=given[None]).last_hidden_state[0]
        return [states[p] @ heads[k] + bias[k] for k, p in enumerate(places[text])]

    for step in range(3):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / 3)
        losses = [
            nn.functional.cross_entropy(row[2 * f : 2 * f + 2], torch.tensor(label))
            for text, ids in enumerate(texts)
            for row in logits(ids, text)
            for f, label in enumerate(readings.labels[text].tolist())
        ]
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
    lm.model.zero_grad(set_to_none=True)
    expected = [[[int(r[:2].argmax()), int(r[2:].argmax())] for r in logits(ids, t)]
                for t, ids in enumerate(texts)]  # fmt: skip
    seen = probed(lm.model, readings, np.ones(3, bool), plan, run, "probe")
    assert seen.tolist() == expected
    assert all(p.grad is None for p in lm.model.parameters())
    assert all(torch.equal(before[n], p) for n, p in lm.model.named_parameters())


def test_a_probe_steps_as_the_slow_way_does(make_lm, run):
    """The loss before and after training, to rounding: not only the same winners."""
    lm = make_lm(6)
    texts = [lm.tokenizer(t)["input_ids"] for t in ("The river was low", "a blue door")]
    places = np.array([[2], [1]])
    readings = Readings(texts, places, np.array([[0], [1]]), (3,))
    plan = ProbePlan(rank=0, steps=1, batch_size=2, learning_rate=0.05, weight_decay=0.0, shared=1)
    probe = Probe(lm.model, readings, np.ones(len(texts), bool), plan, run, "probe")
    assert float(probe.loss(np.arange(2)).detach()) == pytest.approx(np.log(3))
    with torch.no_grad():
        states = [
            lm.model.transformer(torch.tensor([ids])).last_hidden_state[0, p]
            for ids, (p,) in zip(texts, places, strict=True)
        ]
    np.testing.assert_allclose(probe.states[:, 0].numpy(), torch.stack(states).numpy(), atol=1e-9)


def test_a_name_that_nobody_shares_cannot_be_learnt_by_heart(make_lm, run):
    """Only the token that two texts have, beside the begin token of all, may change."""
    lm = make_lm(7)
    texts = [lm.tokenizer(t)["input_ids"] for t in ("no no", "The no", "blue", "door The")]
    train = np.array([1, 1, 1, 0], bool)
    readings = Readings(texts, np.ones((4, 1), int), np.array([[0], [1], [0], [1]]), (2,))
    plan = ProbePlan(rank=2, steps=1, batch_size=4, learning_rate=0.1, weight_decay=0.0, shared=2)
    probe = Probe(lm.model, readings, train, plan, run, "probe")
    used = np.unique(probe.tokens)
    free = {int(token) for token, open_ in zip(used, probe.free[:, 0] > 0, strict=True) if open_}
    lists = [set(ids) for ids in texts[:3]]
    assert free == {t for t in used.tolist() if sum(t in ids for ids in lists) >= 2}
    assert lm.tokenizer.bos_token_id in free
    with torch.no_grad():
        probe.left.fill_(1.0)
    plain = lm.model.transformer.wte.weight
    given = plain[texts[2]].clone()
    given[0] += probe.right.sum(0).detach()  # of "blue" the begin token alone
    state = lm.model.transformer(inputs_embeds=given[None]).last_hidden_state[0, 1]
    np.testing.assert_allclose(probe._read(np.array([2]))[0, 0].detach(), state.detach(), atol=1e-9)


def test_probes_say_what_they_lack(target, split, run):
    for measure in (QProbing(), PProbing()):
        (found,) = measure(target, {"members": split}, run)
        assert found.value is None
        assert found.method in ("q-probing", "p-probing")
    with pytest.raises(EngramError, match="end with"):
        QProbing(prompt="{name} was")
    with pytest.raises(EngramError, match="rank is -1"):
        PProbing(rank=-1)
    with pytest.raises(EngramError, match="no column 'town'"):
        QProbing(fields=("town",))(target, {"x": table(text=["a"], name=["b"])}, run)


# ---- questions and recall: a network that learnt a few by heart


@pytest.fixture(scope="module")
def learnt(people):
    """A model that was shown the questions of one half, and the biographies of all, often."""
    from engram.families.causal_lm import FAMILY, tiny

    few = people.take(range(8))
    asked = questions(few)
    kept = asked.take(range(12))
    texts = [*few.texts, *asked.texts]
    lm = tiny(texts, seed=1, layers=1, width=48, heads=2, context=64, tokens="words")
    examples = [FAMILY.examples(lm, part) for part in (few, kept)]
    optimiser = torch.optim.AdamW(lm.model.parameters(), lr=1e-2)
    lm.model.train()
    for _ in range(120):
        optimiser.zero_grad()
        for part in examples:
            (part.nll(np.arange(len(part.counts))).sum() / part.counts.sum()).backward()
        optimiser.step()
    lm.model.eval()
    return Target("learnt", "causal-lm", lm, "learnt"), few, asked


def slow_answer(lm, question, most=6):
    """Greedy writing without a cache, one token at a time."""
    ids = lm.tokenizer(question)["input_ids"]
    first = len(ids)
    with torch.no_grad():
        for _ in range(most):
            token = int(lm.model(torch.tensor([ids])).logits[0, -1].argmax())
            if token == lm.tokenizer.eos_token_id:
                break
            ids.append(token)
    return lm.tokenizer.decode(ids[first:], skip_special_tokens=True).strip()


def test_accuracy_against_writing_without_a_cache(learnt, run):
    target, _, asked = learnt
    lm = target.model
    truth = asked.column("answer").to_pylist()
    slow = [slow_answer(lm, q) == a
            for q, a in zip(asked.column("question").to_pylist(), truth, strict=True)]  # fmt: skip
    measure = QaAccuracy(tokens=6)
    assert measure.right(target, asked, run).tolist() == slow
    assert 12 <= sum(slow) < len(asked), "it knows the questions it was shown"
    found = by_name(measure(target, {"asked": asked}, run))
    assert found["QA accuracy"].value == pytest.approx(np.mean(slow))
    for field in FIELDS:
        of = [r for r, f in zip(slow, asked.column("field").to_pylist(), strict=True) if f == field]
        assert found[f"QA accuracy, {field}"].value == pytest.approx(np.mean(of))


def test_first_tokens_against_whole_distributions(learnt, run, logprobs_of):
    target, _, asked = learnt
    hits = []
    for row in asked.records.to_pylist():
        ids = target.model.tokenizer(row["question"])["input_ids"]
        wanted, distribution = logprobs_of(target.model, row["text"])
        hits.append(distribution[len(ids) - 1].argmax() == wanted[len(ids)])
    found = by_name(QaAccuracy()(target, {"asked": asked}, run))
    assert found["first-token accuracy"].value == pytest.approx(np.mean(hits))
    assert found["first-token accuracy"].value >= found["QA accuracy"].value


def test_an_answer_must_end_and_blanks_do_not_count(learnt, run, monkeypatch):
    target, _, asked = learnt
    three = asked.take(range(3))
    truth = three.column("answer").to_pylist()
    written = [f"  {truth[0]} ", f"{truth[1]} and more", truth[2].upper()]
    sampler = SimpleNamespace(write=lambda prompts, tokens, rng: written)
    monkeypatch.setattr(type(run), "sampler", lambda self, target, temperature: sampler)
    assert QaAccuracy().right(target, three, run).tolist() == [True, False, False]


def test_accuracy_says_what_it_lacks(target, split, learnt, run):
    (found,) = QaAccuracy()(target, {"members": split}, run)
    assert found.value is None
    assert "question and answer" in found.note
    other = table(text=["Where?"], question=["Who?"], answer=["me"])
    with pytest.raises(EngramError, match="not its question, a blank and its answer"):
        QaAccuracy()(learnt[0], {"x": other}, run)
    with pytest.raises(EngramError, match="tokens is -1"):
        QaAccuracy(tokens=-1)


def test_intervals_are_by_person(run):
    """Twelve questions about two people who know all or nothing are two trials, not twelve."""
    asked = table(question=["?"] * 12, answer=["a"] * 12, text=["? a"] * 12,
                  owner=["one", "two"] * 6)  # fmt: skip
    right = {"QA accuracy": np.arange(12) % 2 == 0}
    (found,) = QaAccuracy()._findings(right, asked, "x", run)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_recall_against_whole_distributions(learnt, run, logprobs_of):
    target, few, _ = learnt
    tokenizer = target.model.tokenizer
    hits = []
    for row in few.records.to_pylist():
        ids, distribution = logprobs_of(target.model, row["text"])
        for field in FIELDS:
            value = tokenizer(row[field])["input_ids"][1:]
            at = next(i for i in range(len(ids)) if ids[i : i + len(value)].tolist() == value)
            hits.append(all(distribution[at + k - 1].argmax() == v for k, v in enumerate(value)))
    found = by_name(InTemplateRecall(fields=FIELDS)(target, {"bio": few}, run))
    assert found["in-template recall"].value == pytest.approx(np.mean(hits))
    assert found["in-template recall"].n == 24
    assert found["in-template recall"].value > 0.9
    (nothing,) = InTemplateRecall()(target, {"x": Split.of("x", text=["a b c"])}, run)
    assert nothing.value is None


def test_splits_of_probes_are_by_person(unlike, run):
    """Several biographies of one person: one is read, and people are on one side alone."""
    twice = biographies(World(240, FIELDS, values=4), Telling(multi=3), stream(0, "knowledge"))
    names = set(unlike.column("name").to_pylist())
    rows = [r for r, n in enumerate(twice.column("name").to_pylist()) if n in names]
    twice = twice.take(rows)
    probe = QProbing(steps=5, rank=0)
    found = by_name(probe(oracle(twice, FIELDS), {"people": twice}, run))
    owners = sorted(set(twice.owners))
    assert found["Q-probe accuracy, major"].n == (~trained_people(owners)).sum()
