"""Studies: a paper's claims as data, measured over seeds, with a verdict on each.

`studies/<name>/study.py` makes one object called `STUDY`:

    STUDY = Study(
        name="loss-by-epochs",
        paper=Paper(...),
        claims=(Claim("More epochs, more leakage", where="section 6",
                      test=above("AUC 16 epochs", "AUC 1 epoch", by=0.05)),),
        budgets={"smoke": {...}, "small": {...}, "full": {...}},
        run=run,
    )

where `run(run, settings, seed)` measures once and returns a number or a `Finding` by name. The
engine keeps what each seed gave in `results/<budget>.json`, as soon as it is there, and writes
`README.md` from that; nobody types a number.

A study is a Python file, and running it runs that file with all your rights. Nothing is loaded
but `study.py` in the folder that you name: read a study from somebody else before you run it.
Listing studies reads them without running them.
"""

from engram.engine.study.files import Place, find, load, places
from engram.engine.study.page import index_page, ours, shown, study_page, verdict_row
from engram.engine.study.plan import BUDGETS, Claim, Study
from engram.engine.study.results import Results, read_results, results_file
from engram.engine.study.work import Outcome, evidence, rule, run_study, write_index, write_page
from engram.stats.claims import (
    above,
    all_of,
    at_least,
    at_most,
    equal,
    mean_at_least,
    mean_at_most,
)

__all__ = [
    "BUDGETS", "Claim", "Outcome", "Place", "Results", "Study", "above", "all_of", "at_least",
    "at_most", "equal", "evidence", "find", "index_page", "load", "mean_at_least",
    "mean_at_most", "ours", "places", "read_results", "results_file", "rule", "run_study",
    "shown", "study_page", "verdict_row", "write_index", "write_page",
]  # fmt: skip
