"""Every attack, asked through the real engine, scores as it does on plain whole distributions."""

import numpy as np
import pytest

from engram.catalog import entries

LANGUAGE = {"tokens", "logprobs", "losses"}
DRAWN = ("recall", "spv-mia")
"""What these ask about is written by a model, and not the same for the slow run."""


def comparable(name, attack) -> bool:
    """Whether an attack only asks for stored answers: no shadows, and nobody else's records."""
    alone = not getattr(attack, "relative", False) and not getattr(attack, "requires", ())
    return attack.needs <= LANGUAGE and alone and name not in DRAWN


ATTACKS = [
    pytest.param(entry.load(), id=name)
    for name, entry in entries("attacks").items()
    if comparable(name, entry.load())
]


@pytest.fixture
def engine(tmp_path, base):
    """The engine's own run, which knows the base."""
    from engram.engine.run import EngineRun

    return EngineRun(root=tmp_path / "store", scratch=tmp_path / "work", _opened={"base": base})


@pytest.mark.parametrize("attack", ATTACKS)
def test_engine_and_plain_answers_give_the_same_scores(attack, target, split, run, engine):
    fast = attack()(target, split, engine).values
    np.testing.assert_allclose(fast, attack()(target, split, run).values, rtol=1e-5, atol=1e-5)
