"""An attack for Engram that lives in a package of its own."""
