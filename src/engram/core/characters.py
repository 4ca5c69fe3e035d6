"""Characters that do not show themselves, and change how others are shown."""

TURNING = frozenset(
    chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
)
"""Marks that turn the direction of the text around them."""
