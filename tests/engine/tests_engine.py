"""What the engine's tests share, also with the processes that they start."""

from engram import catalog

LETTERS = "demo:letters?n=60&seed=3"


def method(kind: str, name: str, **fields: object) -> object:
    """A method by name, with these fields."""
    return catalog.find(kind, name).load()(**fields)
