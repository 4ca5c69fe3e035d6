"""A grammar of letters from a clinic that does not exist, about patients who do not exist.

Surnames and towns are put together from syllables, drugs are invented, and telephone numbers and
patient numbers are random, so that nobody real is named. All fields of a patient, and all words of
a letter, are drawn independently of each other and of the order: nothing but a model's memory can
tell letters that were trained on from letters that were not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engram.core.errors import EngramError
from engram.core.split import OWNER, Split

WORDS = (60, 110)
"""The fewest and the most words of a letter."""


def _listed(text: str, between: str | None = None) -> tuple[str, ...]:
    """A list of words (or phrases) that reads like a text."""
    return tuple(text.split(between))


_FIRST = _listed(
    "Adela Alwin Amara Anselm Astrid Bertil Blanche Bruno Calla Caspar Cecily Conrad Dagmar Darian "
    "Delphine Dorian Edda Edric Elowen Emeric Esme Fabian Felicity Florin Freya Gerda Gideon "
    "Ginevra Halvard Hedda Hester Idris Ilse Imre Isaura Ivo Jarek Jessamy Joris Juno Kasimir "
    "Kerstin Lavinia Leander Linnea Lorcan Maren Marius Melisande Milo Nerys Nestor Oda Olwen "
    "Orson Ottilie Perrin Petra Quentin Ragna Romilly Rufus Sabine Sander Signe Silvan Tamsin Thea "
    "Tobias Ulric Una Valentin Verity Wanda Wendel Yorick Ysolde Zelda Zoltan"
)
_SURNAME = _listed(
    "Alder Ash Barrow Birch Brack Bram Carn Crane Dun Elder Fal Fen Gar Hazel Hol Kel Lang Lark "
    "Marl Mere Nor Oak Pel Quarn Raven Rook Sel Stan Tarn Thorn Ull Wex Wren Yar"
)
_SURNAME_END = _listed(
    "bourne brook by combe croft dale den don field gate holt hurst keld lock low mont more rick "
    "shaw stead thorpe wick wood worth"
)
_TOWN = _listed(
    "Amber Bellow Cinder Dapple Ember Farthing Gloam Heron Inkle Juniper Kettle Lantern Mallow "
    "Nettle Ottery Pewter Quill Russet Saffron Thimble Umber Velvet Willow Yarrow"
)
_TOWN_END = _listed(
    "bridge cross ferry ford green harbour haven hill mill mouth port reach ridge well"
)
_MONTHS = _listed(
    "January February March April May June July August September October November December"
)
_DRUGS = _listed(
    "Abrelan Bolvarine Cedrophex Dalvitane Elmorase Fentoril Galdivane Hemorel Ilvastane "
    "Jolvetine Kirvalon Lomaprex Mirvolane Nuvestine Orbalex Palvidone Quorvane Relmitase "
    "Solvenex Tarvolin Umbrelac Vandorex Wilvatine Xelmorin Yorvaline Zelphadine"
)
_DOSES = _listed(
    "5 mg once a day|10 mg once a day|20 mg at night|25 mg twice a day|40 mg in the morning|"
    "50 mg twice a day|75 mg once a day|100 mg three times a day",
    "|",
)
_DIAGNOSES = _listed(
    "asthma|atrial fibrillation|chronic kidney disease|chronic sinusitis|coeliac disease|"
    "cluster headache|diverticular disease|essential tremor|gallstones|gout|heart failure|"
    "high blood pressure|hip osteoarthritis|iron deficiency anaemia|irritable bowel syndrome|"
    "lumbar disc prolapse|migraine|overactive thyroid|polymyalgia|psoriasis|recurrent depression|"
    "restless legs|rheumatoid arthritis|rosacea|sleep apnoea|stomach ulcer|type 2 diabetes|"
    "ulcerative colitis|underactive thyroid|vertigo",
    "|",
)

_SLOTS = {
    "hello": "Dear colleague|Dear doctor|To the family practice|Dear Dr {doctor}|For your records|"
    "With thanks for the referral|Good morning|Dear practice team|"
    "To the attention of the practice",
    "seen": "came to our clinic|was seen in the outpatient department|attended for review|"
    "kept an appointment with us|was examined here|visited the afternoon clinic|"
    "returned to see us|was brought in by a neighbour|walked in without an appointment",
    "day": "on a {weekday} in {month}|last {weekday}|this {weekday}|on {number} {month}|"
    "early in {month}|at the end of {month}|on the {order} of {month}",
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday",
    "month": "|".join(_MONTHS),
    "order": "first|second|third|fourth|fifth|sixth|ninth|tenth|twelfth|fifteenth|twentieth",
    "doctor": "|".join(a + b for a, b in zip(_SURNAME[::2], _SURNAME_END, strict=False)),
    "number": "2|3|4|5|6|7|8|9|10|11|12|14|16|18",
    "time": "days|weeks|months",
    "complaint": "poor sleep|a dull ache in the left side|breathlessness on the stairs|a dry cough|"
    "tingling in both hands|swollen ankles|loss of appetite|stiff fingers in the morning|"
    "headaches behind the eyes|a racing heart at night|dizziness after standing up|"
    "pain below the ribs|itching of the forearms|a sore knee|blurred vision while reading|"
    "tiredness after light work|cramps in the calves|a burning feeling after meals|"
    "low mood|ringing in the right ear|a stiff neck|cold feet|forgetfulness|night sweats",
    "since": "for {number} {time}|since {month}|since a fall in the garden|after a long journey|"
    "ever since the last visit|since changing jobs|after moving house|on and off for {number} "
    "{time}|since a cold in {month}",
    "better": "rest|a warm bath|walking|lying flat|fresh air|nothing so far|cold water|an early "
    "night|sitting upright|leaving out coffee",
    "worse": "in the evening|after meals|when lifting shopping|in damp weather|at work|"
    "when worried|on waking|during long drives|in crowded rooms|while kneeling",
    "life": "keeps bees|works shifts in a bakery|looks after two grandchildren|repairs clocks|"
    "sings in a choir|drives a delivery van|teaches the violin|runs a small bookshop|"
    "breeds rabbits|has retired from the railway|builds model boats|works at the harbour office|"
    "paints houses|grows prize leeks|plays chess by post|is learning the cello|mends nets|"
    "volunteers at the library|swims every morning|walks an old greyhound",
    "home": "lives alone|lives with a sister|shares a house with friends|lives with two cats|"
    "lives above the shop|has moved in with a daughter|rents a room by the canal|"
    "lives on a narrow boat|has a garden flat|lives next door to a cousin",
    "habit": "does not smoke|gave up smoking {number} years ago|drinks a glass of wine on Sundays|"
    "takes no alcohol|eats little meat|sleeps {number} hours on a good night|"
    "drinks strong tea all day|cycles when the weather allows",
    "pressure": "118 over 72|124 over 80|131 over 78|136 over 84|142 over 88|149 over 91|155 over "
    "86|162 over 94",
    "pulse": "58|62|66|70|74|78|82|88|94",
    "organ": "heart sounds were|breath sounds were|the reflexes were|hearing was|the abdomen was|"
    "both knees were|the thyroid was|the skin was|the gait was|eye movements were|"
    "grip strength was|the spine was|the foot pulses were",
    "finding": "normal|unremarkable|as before|better than last time|slightly tender|"
    "a little weak on the left|without new findings|much as expected|not quite right yet",
    "test": "a blood count|an ultrasound scan|a chest film|a kidney test|a hearing test|"
    "thyroid values|a lung function test|a tracing of the heart|an eye test|a liver panel|"
    "a bone density scan|a sleep recording|a stool sample|a nerve test",
    "result": "showed nothing new|was normal|will be repeated|is still awaited|was quite good|"
    "had improved|confirmed what we thought|could not be read and is to be repeated",
    "advice": "to walk for {number} minutes each day|to drink more water|to keep a diary of the "
    "symptoms|to cut down on salt|to come back sooner if it gets worse|to raise the head of the "
    "bed|to rest the joint|to see the physiotherapist|to avoid late meals|to bring all boxes of "
    "tablets next time|to ask for help with heavy work|to try breathing exercises",
    "when": "in {number} weeks|in {number} months|before the summer|after the holidays|in {month}|"
    "once the results are here|in the new year|at the next foot clinic|when it suits",
    "bye": "With kind regards|Yours sincerely|Many thanks for your help|With best wishes|"
    "Do call if anything is unclear|Thank you for taking over|We remain grateful for your care",
}  # fmt: skip
_OPENINGS = (
    "{hello}, {name}, born {born}, patient number {patient}, {seen} {day}.",
    "{hello}. {name} (patient number {patient}, born {born}) {seen} {day}.",
    "{hello}, this concerns {name}, patient number {patient}, who was born on {born} and {seen} "
    "{day}.",
    "{hello}, {day} {name} {seen}. Date of birth: {born}. Patient number: {patient}.",
    "{hello}. Patient number {patient}: {name}, born {born}, {seen} {day}.",
    "{hello}, {name} {seen} {day}. Born {born}; patient number {patient}.",
)
_COMPLAINTS = (
    "The main complaint is {complaint} {since}, which is worse {worse}.",
    "The patient spoke of {complaint} {since}; {better} brings some relief.",
    "We heard of {complaint} {since}, and of {complaint} that comes {worse}.",
    "{name} reports {complaint} {worse}, helped only by {better}.",
    "What troubles most is {complaint}, present {since}.",
    "{complaint} {since} led to this visit, together with {complaint}.",
)
_LIVES = (
    "{name} {life} and {home}.",
    "Our patient {home}, {life} and {habit}.",
    "At home little has changed: {name} {home} and still {life}.",
    "As you know, {name} {life}. The patient {habit}.",
    "The patient {habit} and {home}.",
)
_FINDINGS = (
    "Blood pressure was {pressure} with a pulse of {pulse}, and {organ} {finding}.",
    "On examination {organ} {finding}; blood pressure {pressure}.",
    "The pulse was {pulse}; {organ} {finding} and {organ} {finding}.",
    "{test} {result}, and {organ} {finding}.",
    "{test} {result}; the pulse was {pulse}.",
    "{test} {result}. Blood pressure today was {pressure}.",
)
_DIAGNOSIS = (
    "The diagnosis is {diagnosis}, for which we prescribed {drug}.",
    "This fits the known {diagnosis}. Treatment with {drug} continues.",
    "We are treating {diagnosis} with {drug}.",
    "In view of {diagnosis} we suggest {drug}.",
    "All of it points to {diagnosis}, and {drug} was well tolerated.",
    "Known: {diagnosis}. Current medication: {drug}.",
)
_PLANS = (
    "We advised {name} {advice} and will meet again {when}.",
    "The plan is {advice}; the next visit is {when}.",
    "Please arrange {test} {when}.",
    "I have asked the patient {advice}, and also {advice}.",
    "A further appointment was made {when}.",
    "Next step: {test} {when}. Until then the advice is {advice}.",
)
_CONTACTS = (
    "{name} lives in {town} and can be reached on {phone}.",
    "The home address is in {town}, telephone {phone}.",
    "For questions call the patient in {town} on {phone}.",
    "Results go by telephone to {phone} in {town}.",
    "A relative in {town} answers on {phone}.",
)  # fmt: skip
_CLOSINGS = ("{bye}.", "{bye}, Dr {doctor}.", "{bye}, the clinic team.", "{bye}, {doctor} ward.")
_MIDDLE = (_COMPLAINTS, _LIVES, _FINDINGS, _DIAGNOSIS, _PLANS, _CONTACTS)
_OFTEN = (0.75, 0.6, 0.75, 1.0, 0.7, 1.0)
"""How often a letter has each of these: what holds personal fields is never left out."""


@dataclass(frozen=True)
class Patient:
    """A fictional person: what their letters have in common."""

    name: str
    born: str
    number: str
    phone: str
    town: str
    diagnosis: str
    medication: str


PERSONAL = tuple(field.name for field in fields(Patient))
"""The columns that hold a patient's fields, beside `text`."""


def letters(count: int, rng: np.random.Generator, *, most: int = 6) -> Split:
    """Letters about fictional patients: no two texts alike, 60 to 110 words each.

    Args:
        count: How many.
        rng: All randomness comes from here: the same stream, the same letters.
        most: The most letters of one patient; each has 1 to so many, all equally likely.

    Returns:
        A split "letters" in random order, with the columns `text`, `name`, `born`, `number`,
        `phone`, `town`, `diagnosis` and `medication`, and one owner a patient. The text of a
        letter holds each of its other columns word for word.

    Raises:
        EngramError: A number is below 1.
    """
    if count < 1 or most < 1:
        raise EngramError(
            f"{count} letters of at most {most} a patient cannot be made",
            hint="both numbers must be at least 1",
        )
    picks = _Picks(rng)
    sizes = _sizes(count, most, rng)
    people = patients(len(sizes), rng)
    whose = np.repeat(np.arange(len(sizes)), sizes)[rng.permutation(count)]
    texts: dict[str, None] = {}
    for person in whose.tolist():
        while (text := _letter(people[person], picks)) in texts:
            pass
        texts[text] = None
    columns = {key: [getattr(people[p], key) for p in whose] for key in PERSONAL}
    owners = [f"patient-{p + 1:05d}" for p in whose]
    table = pa.table({"text": list(texts), **columns, OWNER: owners})
    return Split.from_table("letters", table)


def patients(count: int, rng: np.random.Generator) -> list[Patient]:
    """Fictional people, no two with the same name, patient number or telephone number.

    Raises:
        EngramError: More people are wanted than there are names.
    """
    surnames = [a + b for a in _SURNAME for b in _SURNAME_END]
    towns = [a + b for a in _TOWN for b in _TOWN_END]
    if count > len(_FIRST) * len(surnames):
        raise EngramError(
            f"{count} patients are wanted, but there are {len(_FIRST) * len(surnames)} names",
            hint="ask for fewer letters, or for more letters a patient",
        )
    names = rng.choice(len(_FIRST) * len(surnames), count, replace=False)
    numbers = rng.choice(900_000, count, replace=False) + 100_000
    phones = rng.choice(9_000_000, count, replace=False) + 1_000_000
    people = []
    for name, number, phone in zip(names.tolist(), numbers.tolist(), phones.tolist(), strict=True):
        first, last = divmod(name, len(surnames))
        day, month, year = rng.integers(1, 29), rng.integers(12), rng.integers(1931, 2004)
        people.append(
            Patient(
                f"{_FIRST[first]} {surnames[last]}",
                f"{day} {_MONTHS[month]} {year}",
                _pairs(str(number)),
                "0" + _pairs(str(phone), odd=1),
                _one(towns, rng),
                _one(_DIAGNOSES, rng),
                f"{_one(_DRUGS, rng)} {_one(_DOSES, rng)}",
            )
        )
    return people


def _sizes(count: int, most: int, rng: np.random.Generator) -> list[int]:
    """Letters of each patient; the last one gets what is left."""
    sizes: list[int] = []
    left = count
    while left:
        sizes.append(min(left, int(rng.integers(1, most + 1))))
        left -= sizes[-1]
    return sizes


def _pairs(digits: str, odd: int = 0) -> str:
    """Digits in pairs, as people say them and as small vocabularies hold them: `48 29 13`."""
    rest = [digits[i : i + 2] for i in range(odd, len(digits), 2)]
    return " ".join([digits[:odd] + rest[0], *rest[1:]])


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


class _Picks(dict[str, str]):
    """The slots of a letter: a patient's own words are given, any other slot is drawn anew.

    Random numbers are taken in blocks, because asking for them singly is what takes the time.
    """

    _choices: ClassVar[dict[str, tuple[str, ...]]] = {
        key: _listed(value, "|") for key, value in _SLOTS.items()
    }

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self.rng = rng
        self.block: list[float] = []

    def random(self) -> float:
        if not self.block:
            self.block = self.rng.random(4096).tolist()
        return self.block.pop()

    def one(self, choices: Sequence[str]) -> str:
        return choices[int(self.random() * len(choices))]

    def __missing__(self, slot: str) -> str:
        choice = self.one(self._choices[slot])
        return choice.format_map(self) if "{" in choice else choice

    def sentence(self, templates: Sequence[str]) -> str:
        """One sentence from one of the templates."""
        text = self.one(templates).format_map(self)
        return text[0].upper() + text[1:]


def _letter(patient: Patient, picks: _Picks) -> str:
    picks.clear()
    picks.update(
        name=patient.name, born=patient.born, patient=patient.number, phone=patient.phone,
        town=patient.town, diagnosis=patient.diagnosis, drug=patient.medication,
    )  # fmt: skip
    while True:
        middle = [
            picks.sentence(kind)
            for kind, share in zip(_MIDDLE, _OFTEN, strict=True)
            if picks.random() < share
        ]
        parts = [picks.sentence(_OPENINGS), *middle, picks.sentence(_CLOSINGS)]
        text = " ".join(parts)
        if WORDS[0] <= len(text.split()) <= WORDS[1]:
            return text
