"""`python -m engram.cli` is the same as `engram`."""

from engram.cli import main

main()
