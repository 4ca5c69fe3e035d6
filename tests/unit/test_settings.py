"""Fields of attacks from the command line: numbers, and several of them."""

import pytest

from engram.cli.forget import ForgetOptions
from engram.cli.judge import AuditOptions
from engram.cli.parse import listed, parse
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


def test_an_option_with_two_values_is_refused_and_not_half_heard():
    with pytest.raises(EngramError, match="--owner is given twice: a and b"):
        parse("engram forget", ["t", "--owner", "a", "--owner=b"], ForgetOptions)
    again = parse("engram forget", ["t", "--owner", "a", "--json", "--owner", "a"], ForgetOptions)
    assert again.options.owner == "a"


def test_a_list_stands_between_commas_or_in_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("\ufeffa b\n\n c,d \n", encoding="utf-8")
    assert listed(str(tmp_path / "ids.txt")) == ("a b", "c,d")
    assert listed("a, b") == ("a", "b")
    assert listed(str(tmp_path)) == (str(tmp_path),)
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngramError, match="cannot be read as text"):
        listed(str(tmp_path / "ids.txt"))
