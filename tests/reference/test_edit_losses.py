"""The unlearners' losses: worked by hand on three tokens, and against a second slow way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays

from engram.methods.edits.dpo import dpo_losses
from engram.methods.edits.gradient_ascent import gradient_ascent_losses
from engram.methods.edits.kl_ascent import divergences
from engram.methods.edits.npo import npo_losses
from engram.methods.edits.random_labels import label_losses
from engram.methods.edits.rank_one_edit import rank_one
from engram.methods.edits.rmu import distances
from engram.methods.edits.satimp import satimp_losses
from engram.methods.edits.simnpo import simnpo_losses
from engram.methods.edits.task_vector import negated
from engram.methods.edits.undial import undial_losses
from engram.methods.edits.wga import wga_losses
from engram.methods.edits.whp import generic_logits, whp_losses
from engram.parts.predictions import Predictions

LN2, LN3 = math.log(2), math.log(3)
HALF = torch.tensor([[0.5, 0.25, 0.25]]).double().log()
UNIFORM = torch.zeros(1, 3).double()


def three_tokens(shift=0.0):
    """One record of three tokens, with p = 1/2, 1/4, 1/4; `shift` moves its raw logits."""
    logits = HALF.repeat(3, 1) + torch.tensor([[shift], [2 * shift], [-5 * shift]]).double()
    place = torch.zeros(3, dtype=torch.long)
    return Predictions(logits, torch.tensor([0, 1, 2]), place, torch.arange(3), 1)


def only(value):
    assert value.shape == (1,)
    return float(value[0])


def test_three_tokens_by_hand():
    said = three_tokens()
    assert only(said.record_logprob) == pytest.approx(-5 * LN2)
    assert only(said.nll) == pytest.approx(5 / 3 * LN2)
    assert only(gradient_ascent_losses(said.nll)) == pytest.approx(-5 / 3 * LN2)
    # before: every token 1/3, so log p_now - log p_before = ln(27 / 32)
    before = torch.tensor([-3 * LN3]).double()
    assert only(npo_losses(said.record_logprob, before, 1.0)) == pytest.approx(
        2 * math.log(59 / 32)
    )
    assert only(simnpo_losses(said.nll, 3.0, 0.0)) == pytest.approx(2 / 3 * math.log(33 / 32))
    assert only(simnpo_losses(said.nll, 3.0, LN2)) == pytest.approx(2 / 3 * math.log(17 / 16))
    assert only(said.means(wga_losses(said.logprob, 1.0))) == pytest.approx(-LN2 / 2)
    assert only(said.means(wga_losses(said.logprob, 0.0))) == pytest.approx(-5 / 3 * LN2)
    assert only(said.means(satimp_losses(said.logprob, 1.0, 1.0))) == pytest.approx(-LN2 / 3)


def test_distributions_by_hand():
    assert only(divergences(UNIFORM, HALF)) == pytest.approx(5 / 3 * LN2 - LN3)
    assert only(divergences(HALF, HALF)) == pytest.approx(0)
    # the teacher (1/3, 1/3, 1/3) with its first logit lowered by ln 2 is (1/5, 2/5, 2/5)
    label = torch.tensor([0])
    assert only(undial_losses(HALF, UNIFORM, label, LN2)) == pytest.approx(9 / 5 * LN2)
    louder = torch.tensor([[3.0, 0.0, -3.0]]).double()
    generic = generic_logits(UNIFORM, louder, 2.0)
    np.testing.assert_allclose(generic.numpy(), [[-6, 0, 0]])
    assert only(whp_losses(UNIFORM, generic)) == pytest.approx(LN3)
    assert only(whp_losses(HALF, UNIFORM)) == pytest.approx(5 / 3 * LN2)
    assert only(label_losses(HALF, torch.tensor([2]))) == pytest.approx(2 * LN2)


def test_preferences_states_and_vectors_by_hand():
    better, worse = torch.tensor([LN2]), torch.tensor([-LN2])
    assert only(dpo_losses(better, worse, 1.0)) == pytest.approx(2 * math.log(5 / 4))
    assert only(dpo_losses(worse, better, 1.0)) == pytest.approx(2 * math.log(5))
    state, goal = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, -2.0]])
    assert only(distances(state, goal)) == pytest.approx((9 + 16) / 2)
    moved = negated({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.5, 1.0])}, 2.0)
    np.testing.assert_allclose(moved["w"].numpy(), [0.0, 4.0])


def test_a_rank_one_edit_by_hand():
    """C = diag(1, 1/4): the value under the key changes by as much as wanted."""
    key, precision = torch.tensor([1.0, 2.0]), torch.diag(torch.tensor([1.0, 4.0]))
    left, right = rank_one(torch.tensor([3.0]), key, precision)
    np.testing.assert_allclose(right.numpy(), [1, 8])
    np.testing.assert_allclose(left.numpy(), [3 / 17], rtol=1e-6)
    update = torch.outer(left, right)
    assert float(update @ key) == pytest.approx(3)
    apart = torch.tensor([8.0, -1.0])  # apart from the key in the sense of C^-1
    assert float(update @ apart) == pytest.approx(0, abs=1e-6)


def test_npo_tends_to_gradient_ascent_as_beta_goes_to_0():
    now = torch.tensor([-5.0, -1.0, -20.0]).double().requires_grad_(True)
    before = torch.tensor([-2.0, -3.0, -4.0]).double()
    gaps = []
    for beta in (1e-1, 1e-2, 1e-4):
        (gradient,) = torch.autograd.grad(npo_losses(now, before, beta).sum(), now)
        gaps.append(float((gradient - 1).abs().max()))  # of plain ascent on log p it is 1
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3


def test_npo_lets_go_of_what_is_forgotten():
    now = torch.tensor([-500.0, -1.0]).requires_grad_(True)
    npo_losses(now, torch.tensor([-1.0, -1.0]), 0.1).sum().backward()
    assert float(now.grad[0]) < 1e-9
    assert float(now.grad[1]) == pytest.approx(1)


def test_raw_logits_would_give_other_values():
    """Logits say nothing by a constant at each token; sums of raw ones, seen elsewhere, do."""
    plain, shifted = three_tokens(), three_tokens(shift=1.0)

    def raw(said):
        return said.sums(said.logits.gather(1, said.labels[:, None]).squeeze(1))

    before = torch.tensor([-3 * LN3]).double()
    ours = [only(npo_losses(said.record_logprob, before, 0.5)) for said in (plain, shifted)]
    theirs = [only(npo_losses(raw(said), before, 0.5)) for said in (plain, shifted)]
    assert ours[0] == pytest.approx(ours[1])
    assert abs(theirs[0] - theirs[1]) > 0.1
    assert abs(theirs[1] - ours[1]) > 0.1
    moved = UNIFORM + 7.0

    def raw_divergence(before, now):
        return float((before.exp() * (before - now)).sum())

    assert only(divergences(moved, HALF)) == pytest.approx(only(divergences(UNIFORM, HALF)))
    assert abs(raw_divergence(moved, HALF) - only(divergences(UNIFORM, HALF))) > 1
    weight = shifted.logits.gather(1, shifted.labels[:, None]).squeeze(1)
    wrong = float((weight.exp() * weight).mean())
    assert abs(only(shifted.means(wga_losses(shifted.logprob, 1.0))) - wrong) > 0.1
    labels = torch.tensor([0])
    assert only(undial_losses(HALF + 3, moved, labels, LN2)) == pytest.approx(9 / 5 * LN2)
    assert torch.allclose(
        torch.softmax(generic_logits(moved, HALF - 4, 2.0), -1),
        torch.softmax(generic_logits(UNIFORM, HALF, 2.0), -1),
    )


def test_weights_of_tokens_are_constants():
    """d/dlogprob is the weight alone: had it a gradient, it would be p (1 + log p) for WGA."""
    logprob = torch.tensor([-LN2, -3.0]).double().requires_grad_(True)
    (found,) = torch.autograd.grad(wga_losses(logprob, 1.0).sum(), logprob)
    np.testing.assert_allclose(found.numpy(), np.exp([-LN2, -3.0]))
    (found,) = torch.autograd.grad(satimp_losses(logprob, 2.0, 0.5).sum(), logprob)
    p = np.exp([-LN2, -3.0])
    np.testing.assert_allclose(found.numpy(), p**2 * (1 - p) ** 0.5)


def test_a_certain_token_has_finite_losses():
    certain = torch.tensor([0.0]).requires_grad_(True)
    satimp_losses(certain, 1.0, 0.1).sum().backward()
    assert float(certain.grad) == 0.0


numbers = st.floats(-8, 8)


@given(random_arrays(np.float64, (4, 5), elements=numbers), st.floats(0.05, 4))
def test_agrees_with_loops_over_records_and_tokens(table, beta):
    """Two records of one and three tokens, as the papers' sums are written."""
    labels, place = torch.tensor([1, 0, 4, 2]), torch.tensor([0, 1, 1, 1])
    said = Predictions(torch.from_numpy(table), labels, place, torch.arange(4), 2)
    p = [np.exp(row[y]) / np.exp(row).sum() for row, y in zip(table, labels, strict=True)]
    records = [p[:1], p[1:]]
    log = [sum(math.log(x) for x in each) for each in records]
    nll = [-total / len(each) for total, each in zip(log, records, strict=True)]
    np.testing.assert_allclose(said.record_logprob.numpy(), log, atol=1e-9)
    sigmoid = [1 / (1 + math.exp(beta * (total + 1.0))) for total in log]
    np.testing.assert_allclose(
        npo_losses(said.record_logprob, torch.full((2,), -1.0).double(), beta).numpy(),
        [-2 / beta * math.log(x) for x in sigmoid],
        atol=1e-7,
    )
    np.testing.assert_allclose(
        simnpo_losses(said.nll, beta, 0.5).numpy(),
        [-2 / beta * math.log(1 / (1 + math.exp(-(beta * x - 0.5)))) for x in nll],
        atol=1e-7,
    )
    np.testing.assert_allclose(
        said.means(satimp_losses(said.logprob, beta, 1.0)).numpy(),
        [sum(x**beta * (1 - x) * math.log(x) for x in each) / len(each) for each in records],
        atol=1e-7,
    )
