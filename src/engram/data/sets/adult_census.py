"""32,561 people of the 1994 census: features (categories one-hot), label: income over 50K."""

from collections.abc import Mapping

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import table_split

FILE = "adult.csv"
ABOUT = DataSet(
    folder="adult_census",
    source="github.com/algofairness/fairness-comparison at 80b34d2 (fairness/data/raw/adult.csv)",
    licence="Apache-2.0 (repository); CC BY 4.0 (UCI Adult)",
    files={FILE: "c30ce1e55a965b04950321870db74c19f4aa437120a692f32e72f6a4fa31c418"},
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a person; numbers are as they stand there, not scaled."""
    return table_split("adult-census", files[FILE], FILE, label="income-per-year")
