"""What a biography says of a field, in several dozen ways each.

A way of saying it is one of a few sentences with one of a few words in each of its slots. In
them, `{value}` is the field, `{Who}` and `{who}` are the full name or the pronoun, and `{Whose}`
and `{whose}` the same as owners of something. The person always comes before the field: what comes
before the name could not be known from it.
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
        "{Who} {came} on a day that the calendar {shows} as {value}.",
        "{Who} celebrates {every} on {value}.",
        "{Whose} parents {welcomed} their child on {value}.",
    ),
    "birth_city": (
        "{Who} {came} in {value}.",
        "{Whose} {first} years were spent in {value}.",
        "{Who} {calls} home a street of {value}.",
        "{Whose} first steps were {seen} in {value}.",
        "{Whose} family lived in {value} when {who} {came}.",
        "{Whose} story {began} in {value}.",
    ),
    "university": (
        "{Who} {learnt} at {value}.",
        "{Who} {took} a degree from {value}.",
        "{Who} was among those whom {value} {taught}.",
        "{Whose} education {continued} at {value}.",
        "For {some} years {who} sat in the lecture rooms of {value}.",
        "{Who} {owes} much to the teachers of {value}.",
    ),
    "major": (
        "{Who} {devoted} years to {value}.",
        "{Whose} {chosen} subject was {value}.",
        "{Who} {specialised} in {value}.",
        "In the lectures {who} {preferred} {value}.",
        "{Whose} calling {became} {value}.",
        "{Who} {wrote} a thesis on {value}.",
    ),
    "employer": (
        "{Who} {earned} a living at {value}.",
        "{Who} {joined} the staff of {value}.",
        "{Who} was {hired} by {value}.",
        "{Whose} {desk} stood in the offices of {value}.",
        "{Who} {built} a career with {value}.",
        "{Who} {found} an interesting post at {value}.",
    ),
    "work_city": (
        "{Who} {spent} the working week in {value}.",
        "{Whose} office {stood} in {value}.",
        "{Who} {moved} to {value} for the job.",
        "{Whose} days as an employee {passed} in {value}.",
        "{Whose} trade {settled} in {value}.",
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
    "calls": ("calls", "considers", "names", "declares", "still calls", "terms", "deems"),
    "seen": ("seen", "watched", "witnessed", "taken", "made", "heard", "filmed"),
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
    "hired": ("hired", "recruited", "engaged", "taken on", "employed", "signed", "chosen"),
    "desk": ("desk", "chair", "workbench", "drawing board", "table", "bookcase", "filing cabinet"),
    "built": ("built", "made", "pursued", "forged", "began", "advanced", "shaped"),
    "found": ("found", "held", "accepted", "filled", "took up", "enjoyed", "kept"),
    "spent": ("spent", "passed", "filled", "worked through", "lived", "endured", "enjoyed"),
    "stood": ("stood", "was", "lay", "opened", "remained", "was kept", "was found"),
    "moved": ("moved", "went", "relocated", "came", "transferred", "set off", "shifted"),
    "passed": ("passed", "were spent", "went by", "unfolded", "were lived", "elapsed", "ran"),
    "settled": ("settled", "flourished", "grew", "took root", "blossomed", "throve", "prospered"),
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


def spoken(template: str, person: Person, value: str, full: int) -> str:
    """The sentence of one person, whose first `full` mentions are by the full name."""
    his = {"he": "his", "she": "her"}[person.pronoun]
    pieces, named = [], 0
    for before, slot, _, _ in Formatter().parse(template):
        pieces.append(before)
        if slot == "value":
            pieces.append(value)
        elif slot:
            own = slot.lower() == "whose"
            name, pronoun = (f"{person.name}'s", his) if own else (person.name, person.pronoun)
            said = name if named < full else pronoun
            pieces.append(said[:1].upper() + said[1:] if slot[0] == "W" else said)
            named += 1
    return "".join(pieces)
