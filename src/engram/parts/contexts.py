"""Questions about records, and what may stand before them: definitions, examples, the answer.

What is put before a question is made of statements, a list of texts a record, in columns of their
own. All contexts that are compared have the same number k of statements, so that the effect of
what they say is not that of their length. Where a column has fewer than k statements (one
definition is enough for a concept), others of the same kind fill it up, in random order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from engram.core import EngramError, Split
from engram.parts import text_columns
from engram.parts.response_examples import PROMPT, RESPONSE
from engram.parts.text_columns import strings_of

QUERY, OPTIONS, ALIAS = "query", "options", "alias"
AXIOMS = "axioms"
HINT = "questions and answers are texts; options and contexts are lists of them"


@dataclass(frozen=True)
class Kind:
    """A kind of context.

    Attributes:
        name: What it is called in findings.
        column: Where its statements are.
        filling: The column whose statements bring it to k; "" where it has to have k itself.
        renamed: Whether it gives the answer another name, which is then the right one.
    """

    name: str
    column: str
    filling: str = ""
    renamed: bool = False


SHOTS = Kind("answers to other questions", "shots")
DEFINED = Kind("axioms", AXIOMS, "others")
LEAK = Kind("the answer itself", "leak", "shots")
PARAPHRASED = Kind("axioms in other words", "axioms_paraphrased", "others")
# Other forbidden names beside it would give away what it is about.
RENAMED = Kind("axioms under another name", "axioms_renamed", "irrelevant", renamed=True)
IRRELEVANT = Kind("irrelevant statements", "irrelevant")
POISONED = Kind("wrong axioms", "axioms_poisoned", "irrelevant")
KINDS = (SHOTS, DEFINED, PARAPHRASED, RENAMED, LEAK, POISONED, IRRELEVANT)


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions, the context before each, and the answers that are offered.

    Attributes:
        turns: What is said before each question, one turn a statement.
        queries: The questions.
        right: The right answer of each.
        options: Answers that are offered; the right one is the first.
    """

    turns: tuple[tuple[str, ...], ...]
    queries: tuple[str, ...]
    right: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def prompts(self) -> list[str]:
        """Context and question as one text."""
        pairs = zip(self.turns, self.queries, strict=True)
        return [one_text([*turns, query]) for turns, query in pairs]

    def before(self, turns: Sequence[Sequence[str]]) -> "Asked":
        """The same questions after other statements."""
        return replace(self, turns=tuple(map(tuple, turns)))

    def take(self, rows: Sequence[int] | np.ndarray) -> "Asked":
        """Some of the questions."""

        def some(values: tuple) -> tuple:
            return tuple(values[int(row)] for row in rows)

        return Asked(some(self.turns), some(self.queries), some(self.right), some(self.options))


def one_text(turns: Sequence[str]) -> str:
    """Turns one after another, with a blank where no white space parts them."""
    text = ""
    for turn in turns:
        apart = not text or text[-1:].isspace() or turn[:1].isspace()
        text += turn if apart else f" {turn}"
    return text


def can_be_asked(split: Split) -> str:
    """Why nothing can be asked about these records; "" where something can."""
    wanted = (PROMPT if PROMPT in split.columns else QUERY, RESPONSE, OPTIONS)
    lacking = [name for name in wanted if name not in split.columns]
    if lacking:
        return (
            f"the records have no column {lacking[0]!r}: questions need prompt (or query), "
            "response and options, and contexts such as axioms (`concept-episodes` makes all)"
        )
    return "" if len(split) else "there are no records"


def asked_of(split: Split) -> Asked:
    """The bare questions of a split, without any context.

    Raises:
        EngramError: A column holds something else than texts (options: lists of texts), or a
            record offers no wrong answer.
    """
    queries = texts_of(split, QUERY if QUERY in split.columns else PROMPT)
    right = texts_of(split, RESPONSE)
    options = []
    for row, (answer, given) in enumerate(zip(right, lists_of(split, OPTIONS), strict=True)):
        wrong = [each for each in given if each.strip() != answer.strip()]
        if not wrong:
            raise EngramError(
                f"record {split.ids[row]!r} of split {split.name!r} offers no wrong answer",
                hint="its column options is to list answers that could be taken for right",
            )
        options.append((answer, *(spaced(each, answer) for each in dict.fromkeys(wrong))))
    fewest = min(map(len, options), default=0)
    cut = tuple(each[:fewest] for each in options)
    return Asked(((),) * len(split), tuple(queries), tuple(right), cut)


def in_context(
    split: Split, kind: Kind, k: int, rng: np.random.Generator, bare: Asked | None = None
) -> tuple[Asked | None, str]:
    """The questions after k statements of one kind; or None, and what is lacking.

    Args:
        split: The records.
        kind: Which statements.
        k: How many.
        rng: Decides their order.
        bare: The questions of the split, if they are there already.
    """
    bare = asked_of(split) if bare is None else bare
    for column in (kind.column, kind.filling, ALIAS if kind.renamed else ""):
        if column and column not in split.columns:
            return None, f"the records have no column {column!r}"
    own = lists_of(split, kind.column)
    more = lists_of(split, kind.filling) if kind.filling else [[]] * len(split)
    turns = []
    for mine, others in zip(own, more, strict=True):
        said = [*mine, *others][:k]
        if len(said) < k or not mine:
            return None, f"a record has fewer than {k} statements in {kind.column!r}"
        turns.append([said[place] for place in rng.permutation(k)])
    found = bare.before(turns)
    if kind.renamed:
        pairs = zip(texts_of(split, ALIAS), bare.right, strict=True)
        right = tuple(spaced(alias, answer) for alias, answer in pairs)
        options = zip(right, found.options, strict=True)
        found = replace(
            found, right=right, options=tuple((answer, *each[1:]) for answer, each in options)
        )
    return found, ""


def contexts_of(
    split: Split, ks: Sequence[int], stream: Callable[[str, int], np.random.Generator]
) -> Iterator[tuple[Kind, int, Asked | None, str]]:
    """Every kind of context with every number of statements.

    Args:
        split: The records.
        ks: Numbers of statements.
        stream: The random stream of a kind's name and a number.
    """
    bare = asked_of(split)
    for kind in KINDS:
        for k in ks:
            yield kind, k, *in_context(split, kind, k, stream(kind.name, k), bare)


def spaced(answer: str, like: str) -> str:
    """An answer with the white space before it that another has."""
    return like[: len(like) - len(like.lstrip())] + answer.strip()


def texts_of(split: Split, name: str) -> list[str]:
    """A column of texts."""
    return strings_of(split, name, HINT)


def lists_of(split: Split, name: str) -> list[list[str]]:
    """A column of lists of texts; a column of texts is one of lists of one."""
    kind = split.column(name).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [[text] if text else [] for text in texts_of(split, name)]
    return text_columns.lists_of(split, name, HINT)
