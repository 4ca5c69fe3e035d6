"""The battery for residual knowledge: scales by hand, parts by slow readings, verdicts."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, Target, stream
from engram.methods.measures.residual_knowledge import ResidualKnowledge
from engram.parts.guards import Guard
from engram.parts.layer_states import states_after
from engram.parts.residual import answer_scores, asked_of, lens_ranks, relearnt, rounded
from engram.parts.residual.asking import heads_of
from engram.parts.residual.distance import DISTANCE
from engram.parts.residual.rounding import to_nearest
from engram.stats.residual import (
    Part,
    behavioural_forgetting,
    minus_steps,
    residual,
    residuals,
    tells,
    verdict,
    weight_distance,
)

ALONE = np.arange(4)


def shares(*rows):
    return np.array(rows, np.float64)


@pytest.fixture
def asked():
    """Eight questions of four owners, each with another wording."""
    table = pa.table(
        {
            "id": [f"q{i}" for i in range(8)],
            "owner": [f"owner-{i // 2}" for i in range(8)],
            "prompt": [f"Who wrote letter {i}?" for i in range(8)],
            "response": [f" It was Mara {i}." for i in range(8)],
            "text": [f"Who wrote letter {i}? It was Mara {i}." for i in range(8)],
        }
    )
    rephrased = pa.array([[f"Letter {i} is by whom?"] for i in range(8)], pa.list_(pa.string()))
    return Split.from_table("asked", table.append_column("rephrased", rephrased))


@pytest.fixture
def taught(make_lm, asked):
    """A function: seed -> a tiny model that was tuned on some of the answers."""

    def make(rows, seed=3, steps=60):
        lm = make_lm(seed)
        texts = [f"{asked.texts[row]}" for row in rows]
        optimiser = torch.optim.Adam(lm.model.parameters(), lr=5e-3)
        for step in range(steps):
            ids = torch.tensor([lm.tokenizer(texts[step % len(texts)])["input_ids"]])
            optimiser.zero_grad()
            lm.model(ids, labels=ids).loss.backward()
            optimiser.step()
        lm.model.eval()
        return lm

    return make


class TestScales:
    def test_by_hand(self):
        assert residual(0.5, 0.2, 0.8) == pytest.approx(0.5)
        assert residual(0.1, 0.2, 0.8) == 0.0
        assert residual(0.9, 0.2, 0.8) == 1.0

    def test_index_is_the_largest_residual_and_mean_their_mean(self):
        half = Part("half", shares([1, 1, 0, 0]), shares([0, 0, 0, 0]), shares([1, 1, 1, 1]))
        none = Part("none", shares([0, 0, 0, 0]), shares([0, 0, 0, 0]), shares([1, 1, 1, 1]))
        dumb = Part("dumb", shares([1, 0, 1, 0]), shares([1, 1, 0, 0]), shares([0, 1, 0, 1]))
        found = residuals([half, none, dumb], ALONE, ALONE, stream(0))
        assert [p.value for p in found.parts] == [0.5, 0.0, None]
        assert found.index.value == 0.5
        assert found.mean.value == 0.25
        assert found.index.low < 0.5 < found.index.high
        assert "too little" in found.parts[2].note

    def test_the_best_layer_counts(self):
        part = Part(
            "layers",
            shares([0, 0, 0, 0], [1, 1, 1, 0]),
            shares([0, 0, 0, 0], [0, 0, 0, 0]),
            shares([1, 1, 1, 1], [0, 0, 0, 0]),
        )
        assert part.numbers() == (0.75, 0.0, 1.0)

    def test_steps_become_a_share_of_the_controls(self):
        looks = shares([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1])
        never = np.zeros((4, 4))
        part = Part("steps", looks, never, np.ones((4, 4)), minus_steps(0.5, every=3))
        # Reached at the third look, after 6 steps; the control never, which counts as 12.
        assert part.numbers() == (-6.0, -12.0, -0.0)
        assert residuals([part], ALONE, ALONE, stream(0)).parts[0].value == pytest.approx(0.5)

    def test_a_control_with_other_questions_is_drawn_on_its_own(self):
        part = Part("other", np.ones((1, 4)), np.zeros((1, 6)), np.ones((1, 4)), paired=False)
        found = residuals([part], ALONE, np.arange(6), stream(0))
        assert found.index.value == 1.0

    def test_lengths_must_agree(self):
        part = Part("short", np.ones((1, 3)), np.zeros((1, 3)), np.ones((1, 3)))
        with pytest.raises(EngramError, match="owners"):
            residuals([part], ALONE, ALONE, stream(0))

    def test_nothing_that_tells_gives_no_index(self):
        same = Part("same", np.ones((1, 4)), np.ones((1, 4)), np.ones((1, 4)))
        assert not tells(same)
        found = residuals([same], ALONE, ALONE, stream(0))
        assert found.index.value is None
        assert found.mean.value is None

    def test_behavioural_forgetting_is_what_is_answered_no_more(self):
        found = behavioural_forgetting(
            shares(0, 0, 0, 1), np.zeros(4), np.ones(4), ALONE, ALONE, stream(0)
        )
        assert found.value == pytest.approx(0.75)
        assert found.low <= 0.75 <= found.high

    @settings(max_examples=15)
    @given(st.lists(st.sampled_from([0.0, 1.0]), min_size=8, max_size=8))
    def test_everything_stays_between_0_and_1(self, hits):
        part = Part("any", np.array([hits]), np.zeros((1, 8)), np.ones((1, 8)))
        found = residuals([part], np.arange(8) // 2, np.arange(8), stream(1)).parts[0]
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.value == pytest.approx(np.mean(hits))

    def test_verdicts(self):
        assert verdict(0.9, 0.1) == "removed"
        assert verdict(0.8, 0.2) == "removed"
        assert verdict(0.9, 0.3) == "suppressed"
        assert verdict(0.5, 0.1) == "not forgotten"
        assert verdict(0.9, None) == "unknown"
        assert verdict(None, 0.1) == "unknown"

    def test_distance_of_weights(self):
        zero, one, two = ({"w": np.full(4, x)} for x in (0.0, 1.0, 2.0))
        assert weight_distance(two, one, zero) == 2.0
        with pytest.raises(EngramError, match="names or shapes"):
            weight_distance({"v": np.ones(4)}, one, zero)
        with pytest.raises(EngramError, match="never saw"):
            weight_distance(two, zero, zero)


class TestParts:
    def test_scores_are_those_of_greedy_writing(self, make_lm, asked, logprobs_of):
        lm = make_lm(3)
        questions = asked_of(asked, 8, stream(0)).questions
        found = answer_scores(lm, lm.model, questions.prompts, questions.right, whole=False)
        for row, (prompt, answer) in enumerate(
            zip(questions.prompts, questions.right, strict=True)
        ):
            ids, table = logprobs_of(lm, prompt + answer)
            spans = lm.tokenizer(prompt + answer, return_offsets_mapping=True)["offset_mapping"]
            start = len(prompt) + len(answer) - len(answer.lstrip())
            places = [
                i
                for i, (first, last) in enumerate(spans)
                if last > max(start, first) and not (prompt + answer)[first:start].strip()
            ]
            hits = [table[i - 1].argmax() == ids[i] for i in places]
            assert found[row] == pytest.approx(np.mean(hits))

    def test_whole_answers_and_shares_of_tokens(self, taught, asked):
        lm = taught(range(4))
        questions = asked_of(asked, 8, stream(0)).questions
        part = answer_scores(lm, lm.model, questions.prompts, questions.right, whole=False)
        whole = answer_scores(lm, lm.model, questions.prompts, questions.right, whole=True)
        assert ((part > 1 - 1e-6) == (whole == 1)).all()
        assert whole.sum() >= 1

    def test_a_guard_silences_answers(self, taught, asked):
        lm = taught(range(8))
        questions = asked_of(asked, 8, stream(0)).questions
        guard = Guard.of(asked.texts, (), words=2, share=0.2, refusal="No.", salt="s")
        said = answer_scores(
            lm, lm.model, questions.prompts, questions.right, whole=False, guard=guard
        )
        assert said.sum() == 0

    def test_the_lens_of_the_last_layer_is_the_model_itself(self, make_lm, asked):
        lm = make_lm(3)
        questions = asked_of(asked, 8, stream(0)).questions
        states = states_after(lm, heads_of(lm, asked_of(asked, 8, stream(0)))[0])
        assert states.shape[:2] == (3, 8)
        wanted = np.arange(8) + 5
        found = lens_ranks(lm.model, states, wanted)
        for row, (prompt, answer) in enumerate(
            zip(questions.prompts, questions.right, strict=True)
        ):
            ids = lm.tokenizer(prompt + answer, return_offsets_mapping=True)
            start = len(prompt) + 1
            place = next(i for i, (a, b) in enumerate(ids["offset_mapping"]) if b > max(start, a))
            with torch.no_grad():
                said = lm.model(torch.tensor([ids["input_ids"]]), output_hidden_states=True)
            logits = said.logits[0, place - 1]
            rank = 1 + int((logits > logits[wanted[row]]).sum())
            assert found[-1, row] == pytest.approx(1 / rank)
            middle = lm.model.lm_head(
                lm.model.transformer.ln_f(said.hidden_states[1][0, place - 1])
            )
            rank = 1 + int((middle > middle[wanted[row]]).sum())
            assert found[1, row] == pytest.approx(1 / rank)

    def test_rounding_by_hand(self):
        weight = torch.tensor([[0.7, -0.26, 0.1], [14.0, 3.0, -1.1]])
        found = to_nearest(weight, 4)  # steps of 0.1 and 2
        assert torch.allclose(found, torch.tensor([[0.7, -0.3, 0.1], [14.0, 4.0, -2.0]]))
        assert torch.equal(to_nearest(torch.zeros(1, 3), 4), torch.zeros(1, 3))

    def test_rounding_leaves_the_model_and_its_embeddings(self, make_lm):
        lm = make_lm(3)
        before = lm.model.transformer.h[0].mlp.c_fc.weight.clone()
        copy = rounded(lm.model, 4)
        assert torch.equal(lm.model.transformer.h[0].mlp.c_fc.weight, before)
        assert torch.equal(copy.transformer.wte.weight, lm.model.transformer.wte.weight)
        columns = copy.transformer.h[0].mlp.c_fc.weight.T
        assert max(len(row.unique()) for row in columns) <= 15

    def test_relearning_looks_before_and_after_every_few_steps(self, taught, asked, run):
        lm = taught(range(8))
        kept = {k: v.clone() for k, v in lm.model.state_dict().items()}
        questions = asked_of(asked, 8, stream(0))
        found = relearnt(
            lm, questions.only([0, 1]), questions.only([2, 3, 4]), whole=False, steps=4, every=2,
            learning_rate=1e-4, threshold=0.9, run=run, purpose="tests",
        )  # fmt: skip
        assert found.shape == (3, 3)
        again = answer_scores(
            lm, lm.model, questions.questions.prompts[2:5], questions.questions.right[2:5],
            whole=False,
        )  # fmt: skip
        assert np.allclose(found[0], again)
        assert all(torch.equal(kept[k], v) for k, v in lm.model.state_dict().items())


class TestVerdicts:
    @pytest.fixture
    def trio(self, taught, asked):
        """A model that knows all, one that never saw half, and the splits."""
        before = Target("before", "causal-lm", taught(range(8), steps=240), "before")
        never = Target("never", "causal-lm", taught(range(4), steps=240), "never")
        splits = {"forgotten": asked.take([4, 5, 6, 7], "gone"), "members": asked.take(range(4))}
        return before, never, splits

    def found(self, target, trio, run, **fields):
        before, never, splits = trio
        run.others.update(before=before, never=never)
        measure = ResidualKnowledge(
            original="before", retrained="never", steps=6, learning_rate=1e-3, **fields
        )
        return {f.name: f for f in measure(target, splits, run)}

    def test_the_model_before_has_forgotten_nothing(self, trio, run):
        found = self.found(trio[0], trio, run)
        assert found["behavioural forgetting"].value == 0.0
        assert found["suppression index"].value == 1.0
        assert found["suppression index"].note.startswith("not forgotten")

    def test_the_model_that_never_saw_them_holds_nothing(self, trio, run):
        found = self.found(trio[1], trio, run)
        assert found["behavioural forgetting"].value == 1.0
        assert found["suppression index"].value == 0.0
        assert found["suppression index"].note.startswith("removed")
        assert found[DISTANCE].value == pytest.approx(1.0)

    def test_a_guard_suppresses(self, trio, run, asked):
        before = trio[0]
        guard = Guard.of(
            trio[2]["forgotten"].texts, (), words=2, share=0.2, refusal="No.", salt="s"
        )
        guarded = replace(before, model=replace(before.model, guard=guard), fingerprint="guarded")
        found = self.found(guarded, trio, run)
        assert found["behavioural forgetting"].value == 1.0
        assert found["suppression index"].note.startswith("suppressed")
        assert found["4-bit weights"].value == 1.0

    def test_held_out_records_are_the_control_where_nothing_was_retrained(self, trio, run, taught):
        before, _, splits = trio
        run.others["before"] = before
        measure = ResidualKnowledge(original="before", steps=4, learning_rate=1e-3)
        others = Split.from_table(
            "others",
            pa.table(
                {
                    "prompt": [f"Who saw number {i}?" for i in range(6)],
                    "response": [f" Abel {i} did." for i in range(6)],
                    "text": [f"Who saw number {i}? Abel {i} did." for i in range(6)],
                }
            ),
        )
        found = {f.name: f for f in measure(before, {**splits, "outsiders": others}, run)}
        assert found["suppression index"].value == 1.0
        assert "relearning from all" not in found
        assert found[DISTANCE].value is None

    def test_what_is_missing_is_said(self, trio, run):
        before, _, splits = trio
        found = ResidualKnowledge()(before, splits, run)
        assert all(f.value is None and "--original" in f.note for f in found)
        run.others.update(before=before)
        few = {"forgotten": splits["forgotten"].take([0], "one")}
        found = ResidualKnowledge(original="before")(before, few, run)
        assert "it takes 2 questions" in found[0].note


@pytest.mark.parametrize(
    ("field", "value"),
    [("most", 1), ("steps", 0), ("every", 0), ("shots", -1), ("share", 0.0), ("share", 1.0),
     ("learning_rate", 0.0), ("bits", (1,)), ("most_kept", -1)],
)  # fmt: skip
def test_fields_out_of_range(field, value):
    with pytest.raises(EngramError, match=field):
        ResidualKnowledge(**{field: value})


def test_rephrased_must_be_lists(asked):
    table = asked.records.drop_columns(["rephrased"])
    flat = table.append_column("rephrased", pa.array(["x"] * 8))
    with pytest.raises(EngramError, match="rephrased"):
        asked_of(Split("flat", flat, asked.ids), 8, stream(0))
