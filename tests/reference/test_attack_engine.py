"""Every attack, asked through the real engine, scores as it does on plain whole distributions."""

import numpy as np
import pytest

from engram.catalog import entries

LANGUAGE = {"tokens", "losses"}
ATTACKS = [
    pytest.param(entry.load(), id=name)
    for name, entry in entries("attacks").items()
    if entry.load().needs <= LANGUAGE
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
