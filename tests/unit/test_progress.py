"""What is said of a run while it goes on."""

from engram.cli.output import Progress


def test_an_unlearner_that_went_astray_is_told(capsys):
    Progress().listen({"diverged": "loss is 9", "restored_step": 8})
    said = capsys.readouterr().err
    assert "loss is 9" in said
    assert "after step 8" in said


def test_other_entries_are_not(capsys):
    Progress().listen({"step": 1})
    assert capsys.readouterr().err == ""
