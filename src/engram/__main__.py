"""`python -m engram` is the same as `engram`."""

from engram.cli import main

main()
