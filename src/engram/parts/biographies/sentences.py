"""What a biography says of a field, in several dozen ways each.

A way of saying it is one of a few sentences with one of a few words in each of its slots. In
them, `{value}` is the field, `{Who}` and `{who}` are the full name or the pronoun, and `{Whose}`
and `{whose}` the same as owners of something.
"""

from collections.abc import Mapping
from functools import cache
from itertools import product
from string import Formatter

from engram.parts.biographies.people import Person

_FORMS: Mapping[str, tuple[str, ...]] = {
    "born": (
        "{Who} {came} on {value}.",
        "{Whose} life {began} on {value}.",
        "On {value} {who} {came}.",
        "{Who} celebrates {every} on {value}.",
        "The calendar {shows} {value} as the day on which {who} {came}.",
        "{Whose} parents {welcomed} their child on {value}.",
    ),
    "birth_city": (
        "{Who} {came} in {value}.",
        "{Whose} {first} years were spent in {value}.",
        "{Who} {calls} {value} the place where everything {began}.",
        "The streets of {value} {saw} {whose} first steps.",
        "It was in {value} that {who} {came}.",
        "{Whose} family lived in {value} when {who} {came}.",
    ),
    "university": (
        "{Who} {learnt} at {value}.",
        "{Who} {took} a degree from {value}.",
        "{value} {taught} {whose} generation, and {who} was among its students.",
        "{Whose} education {continued} at {value}.",
        "For {some} years {who} sat in the lecture rooms of {value}.",
        "{Who} {owes} much to the teachers of {value}.",
    ),
    "major": (
        "{Who} {devoted} years to {value}.",
        "{Whose} {chosen} subject was {value}.",
        "{Who} {specialised} in {value}.",
        "In the lectures {who} {preferred} {value}.",
        "{value} {became} {whose} calling.",
        "{Who} {wrote} a thesis on {value}.",
    ),
    "employer": (
        "{Who} {earned} a living at {value}.",
        "{Who} {joined} the staff of {value}.",
        "{value} {hired} the young graduate.",
        "{Whose} {desk} stood in the offices of {value}.",
        "{Who} {built} a career with {value}.",
        "At {value} {who} {found} an interesting post.",
    ),
    "work_city": (
        "{Who} {spent} the working week in {value}.",
        "{Whose} office {stood} in {value}.",
        "{Who} {moved} to {value} for the job.",
        "{Whose} days as an employee {passed} in {value}.",
        "{value} {offered} {whose} trade a home.",
        "On weekdays {who} {travelled} to {value}.",
    ),
}
_SLOTS: Mapping[str, tuple[str, ...]] = {
    "came": ("was born", "came into the world", "first saw the light", "entered life",
             "drew a first breath", "arrived", "was delivered safely"),
    "began": ("began", "started", "commenced", "opened", "set out", "took its start", "set in"),
    "every": ("every anniversary", "each anniversary", "another year", "getting older",
              "with cake", "with friends", "with candles"),
    "shows": ("shows", "marks", "names", "gives", "records", "lists", "keeps"),
    "welcomed": ("welcomed", "greeted", "first held", "received", "rejoiced over", "met",
                 "cradled"),
    "first": ("first", "earliest", "childhood", "infant", "youngest", "opening", "tender"),
    "calls": ("calls", "considers", "names", "remembers", "holds", "counts", "regards"),
    "saw": ("saw", "watched", "witnessed", "knew", "remember", "heard", "carried"),
    "learnt": ("learnt", "was educated", "was taught", "trained", "enrolled", "read", "graduated"),
    "took": ("took", "received", "earned", "gained", "obtained", "holds", "brought home"),
    "taught": ("taught", "shaped", "formed", "educated", "trained", "moulded", "instructed"),
    "continued": ("continued", "advanced", "flourished", "went on", "was completed", "matured",
                  "ended"),
    "some": ("some", "several", "a few", "many", "three", "four", "five"),
    "owes": ("owes", "credits", "attributes", "ascribes", "owed", "assigns", "concedes"),
    "devoted": ("devoted", "gave", "dedicated", "committed", "gladly gave", "pledged", "lent"),
    "chosen": ("chosen", "favourite", "principal", "main", "special", "main academic", "beloved"),
    "specialised": ("specialised", "excelled", "was versed", "was expert", "majored", "shone",
                    "stood out"),
    "preferred": ("preferred", "loved", "favoured", "pursued", "explored", "sought out",
                  "followed"),
    "became": ("became", "was", "remained", "stayed", "turned into", "proved", "seemed"),
    "wrote": ("wrote", "finished", "defended", "handed in", "submitted", "published", "completed"),
    "earned": ("earned", "made", "found", "drew", "had", "won", "secured"),
    "joined": ("joined", "entered", "belonged to", "strengthened", "was among", "enlarged",
               "reinforced"),
    "hired": ("hired", "recruited", "engaged", "took on", "employed", "signed", "chose"),
    "desk": ("desk", "chair", "workbench", "drawing board", "table", "bookcase", "filing cabinet"),
    "built": ("built", "made", "pursued", "forged", "began", "advanced", "shaped"),
    "found": ("found", "held", "accepted", "filled", "took up", "enjoyed", "kept"),
    "spent": ("spent", "passed", "filled", "worked through", "lived", "endured", "enjoyed"),
    "stood": ("stood", "was", "lay", "opened", "remained", "was kept", "was found"),
    "moved": ("moved", "went", "relocated", "came", "transferred", "set off", "shifted"),
    "passed": ("passed", "were spent", "went by", "unfolded", "were lived", "elapsed", "ran"),
    "offered": ("offered", "gave", "granted", "lent", "promised", "provided", "afforded"),
    "travelled": ("travelled", "commuted", "drove", "cycled", "walked", "took the train", "rode"),
}  # fmt: skip
_OF_THE_PERSON = ("value", "Who", "who", "Whose", "whose")


@cache
def templates(field: str) -> tuple[str, ...]:
    """Every way to say this field; their slots are those of the person alone."""
    made = []
    for form in _FORMS[field]:
        slots = [s for _, s, _, _ in Formatter().parse(form) if s and s not in _OF_THE_PERSON]
        kept = {slot: f"{{{slot}}}" for slot in _OF_THE_PERSON}
        for words in product(*(_SLOTS[slot] for slot in slots)):
            made.append(form.format_map({**kept, **dict(zip(slots, words, strict=True))}))
    return tuple(dict.fromkeys(made))


def limited_templates(field: str, most: int) -> tuple[str, ...]:
    """The first `most` of them, one word of each sentence in turn; all where that is 0."""
    found = templates(field)
    if not most:
        return found
    return found[:: max(1, len(found) // most)][:most]


def spoken(template: str, person: Person, value: str, *, full: bool) -> str:
    """The sentence of one person: by full name, or by pronoun."""
    he = person.pronoun
    his = {"he": "his", "she": "her"}[he]
    who, whose = (person.name, f"{person.name}'s") if full else (he, his)
    return template.format(
        value=value, who=who, whose=whose, Who=_upper(who), Whose=_upper(whose)
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
