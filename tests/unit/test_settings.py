"""Fields of attacks from the command line: numbers, and several of them."""

import pytest

from engram.cli.judge import AuditOptions
from engram.core import EngramError
from engram.engine.battery import make


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("min-k.fraction=0.1", {"min-k": {"fraction": "0.1"}}),
        ("label-only.strengths=0.1,0.5", {"label-only": {"strengths": "0.1,0.5"}}),
        (
            "label-only.strengths=0.1, 0.5, min-k.fraction=0.3,lira.shadows=8",
            {
                "label-only": {"strengths": "0.1,0.5"},
                "min-k": {"fraction": "0.3"},
                "lira": {"shadows": "8"},
            },
        ),
    ],
)
def test_what_stands_between_two_fields_belongs_to_the_first(text, found):
    assert AuditOptions(set=text).settings() == found


def test_a_value_without_a_field_is_refused():
    with pytest.raises(EngramError, match=r"'0\.5' is not ATTACK\.FIELD=VALUE"):
        AuditOptions(set="0.5,min-k.fraction=0.3").settings()


def test_texts_become_as_many_numbers():
    made = make("attacks", "label-only", {"strengths": "0.1, 0.5"})
    assert made.strengths == (0.1, 0.5)
    assert make("measures", "extraction", {"more-prefixes": "20"}).more_prefixes == (20,)
    assert make("measures", "personal-fields", {"fields": "name,city"}).fields == ("name", "city")
    with pytest.raises(EngramError, match=r"label-only\.strengths is 'much', which is not float"):
        make("attacks", "label-only", {"strengths": "0.1,much"})
