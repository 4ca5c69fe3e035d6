"""Text access: all that somebody has who may only ask a language model to write."""

import math

from engram import families
from engram.core import EngramError, Sampler, Target
from engram.engine.run import EngineRun


def sampler(target: Target, temperature: float, run: EngineRun) -> Sampler:
    """A sampler over a language model, here or behind a server.

    What it writes after a prompt depends on the state of the generator that it is given, the
    prompt, the number of tokens, and how often these two stood before in the same call: not on
    the other prompts, nor on their order.

    Args:
        target: A target whose family writes text.
        temperature: 1 samples from the model's own distribution; 0 writes greedily.
        run: Whom to tell how far it is.

    Raises:
        EngramError: The temperature is negative or not a number, or the target does not write.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise EngramError(
            f"the temperature is {temperature}, but must be a number of at least 0",
            hint="1 samples from the model's own distribution, 0 writes greedily",
        )
    write = getattr(families.find(target.family), "sampler", None)
    if write is None:
        raise EngramError(
            f"target {target.name!r} is a {target.family}, which writes no text",
            hint="`engram ls attacks` says what each attack needs",
        )
    target.require("text", "writing")
    return write(target.model, temperature, run.progress)
