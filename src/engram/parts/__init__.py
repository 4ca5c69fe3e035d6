"""Pure maths and small blocks that two methods or more share - never one alone."""
