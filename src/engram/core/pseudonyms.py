"""What a forgotten record is called: a name that only who knows the record can check."""

from hashlib import sha256


def pseudonym(name: str, what: str) -> str:
    """What a forgotten record's id, digest or owner is called: whoever knows it can check it.

    Args:
        name: The id, the digest or the owner.
        what: Which of them: "id", "digest" or "owner".
    """
    return f"forgotten-{sha256(f'engram {what} {name}'.encode()).hexdigest()[:32]}"
