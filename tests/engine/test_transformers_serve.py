"""The server that comes with transformers, where what it needs is installed: it tells text only."""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from engram.core import Target
from engram.engine import EngineRun, load
from engram.families.causal_lm import FAMILY as CAUSAL
from engram.families.causal_lm import LanguageModel

NEEDED = ("fastapi", "uvicorn", "openai", "accelerate")


@pytest.fixture
def folder(make_lm, tmp_path):
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"transformers serve needs {', '.join(missing)}")
    lm = make_lm(1)
    CAUSAL.save(LanguageModel(lm.model, lm.tokenizer), tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def address(folder, tmp_path):
    """The server's address; it runs in a process of its own, without a network."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from transformers.cli.transformers import main; main()",
         "serve", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float64"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(600):
            assert process.poll() is None, "the server has stopped"
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"openai://127.0.0.1:{port}/{folder}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_writes_greedily_what_the_model_writes_here(address, folder, make_lm, tmp_path):
    served, run = load(address, root=tmp_path / "runs"), EngineRun(root=tmp_path / "runs")
    assert served.access == "text"
    assert served.name == str(folder)
    here = Target("tiny", "causal-lm", make_lm(1), "here")
    prompts, rng = ["Patient Mara Quill", "The river was", "no"], np.random.default_rng(0)
    theirs = run.sampler(served, 0.0).write(prompts, 6, rng)
    assert theirs == run.sampler(here, 0.0).write(prompts, 6, rng)
