"""How numbers, findings and long texts are written."""

import math
import re

from engram.core.finding import Finding

MINUS, TIMES, NOTHING = "\u2212", "\u00d7", "\u2013"
_AUC = re.compile(r"\bauc\b", re.IGNORECASE)
_TPR = re.compile(r"TPR\s*@\s*(\d+(?:\.\d+)?)\s*%\s*(?:FPR)?", re.IGNORECASE)
_RATIO_WORDS = ("tpr", "rate", "share", "fraction", "accuracy", "extract", "percent")
_RATIO_UNITS = ("", "fraction", "share", "rate", "ratio")


def number(value: float | int, digits: int = 3) -> str:
    """`digits` significant digits, thousands separators, and powers of ten at the extremes.

    >>> number(1234567), number(0.123456), number(-0.000012)
    ('1,234,567', '0.123', '−1.20 × 10⁻⁵')
    """
    sign = MINUS if value < 0 else ""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e12 or size < 1e-4:
        mantissa, power = f"{size:.{digits - 1}e}".split("e")
        return f"{sign}{mantissa} {TIMES} 10{_superscript(int(power))}"
    if size == int(size) or size >= 10**digits:
        return f"{sign}{size:,.0f}"
    return f"{sign}{size:,.{_decimals(size, digits)}f}"


def _decimals(size: float, digits: int) -> int:
    """Decimals that leave `digits` significant ones, after rounding (0.9996 has one more)."""
    rounded = float(f"{size:.{digits - 1}e}")
    return max(0, digits - 1 - math.floor(math.log10(rounded)))


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def ratio(value: float | int) -> str:
    """A fraction such as an AUC: three decimals, more where it is nearly but not quite 0 or 1.

    An AUC of 0.9996 must not read as 1.000.

    >>> ratio(0.5), ratio(0.9996), ratio(1.0)
    ('0.500', '0.9996', '1.000')
    """
    return _near_the_ends(value, 3)


def percent(value: float | int, decimals: int = 1) -> str:
    """A fraction as per cent, with more decimals where fewer would say 0 or 100.

    >>> percent(0.1234), percent(0.9996), percent(0.0)
    ('12.3 %', '99.96 %', '0 %')
    """
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    return _near_the_ends(100 * value, decimals, top=100.0) + " %"


def _near_the_ends(value: float | int, decimals: int, top: float = 1.0) -> str:
    for more in range(decimals, decimals + 4):
        rounded = round(value, more)
        if value in (0.0, top) or rounded not in (0.0, top):
            return f"{value:.{more}f}".replace("-", MINUS)
    return number(value) if value < top / 2 else f"{value:.{decimals + 3}f}"


def is_percent(finding: Finding) -> bool:
    """Whether this finding is a fraction that reads better in per cent."""
    name = finding.name.lower()
    named = any(word in name for word in _RATIO_WORDS)
    within = all(x is None or 0 <= x <= 1 for x in (finding.value, finding.low, finding.high))
    return within and finding.unit in _RATIO_UNITS and (named or finding.unit != "")


def is_auc(finding: Finding) -> bool:
    """Whether this finding is an area under an ROC curve."""
    return _AUC.search(finding.name) is not None


def of_finding(finding: Finding, value: float) -> str:
    """A number written as this finding's numbers are."""
    if is_percent(finding):
        return percent(value, _decimals_of_percent(finding))
    if is_auc(finding):
        return ratio(value)
    ends = (finding.value, finding.low, finding.high)
    if all(x is None or x == int(x) for x in ends):
        return number(value)
    if finding.low is None or finding.high is None:
        return _measured(value)
    return _measured(value, finding.high - finding.low)


def _decimals_of_percent(finding: Finding) -> int:
    """One, or as many as the interval needs: 0.08 % in [0.03, 0.13] %."""
    width = 100 * ((finding.high or 0.0) - (finding.low or 0.0))
    return 1 if width >= 1 or width <= 0 else 2 if width >= 0.1 else 3


def _measured(value: float | int, width: float | int = 0.0) -> str:
    """Three significant digits, also where they are zeros: 16.0 beside 12.1.

    More where an interval of this width would else lose its own two: 124.3 in [122.6, 125.8].

    >>> _measured(16.0), _measured(1234.5), _measured(0.0)
    ('16.0', '1,234', '0')
    >>> _measured(124.31, 3.2), _measured(1.0136, 0.072), _measured(5.3, 2000.0)
    ('124.3', '1.014', '5.30')
    """
    if value == 0 or not 1e-4 <= abs(value) < 1000:
        return number(value)
    sign = MINUS if value < 0 else ""
    decimals = _decimals(abs(value), 3)
    if 1e-4 <= width < 1000:
        decimals = max(decimals, _decimals(width, 2))
    return f"{sign}{abs(value):.{decimals}f}"


def value_of(finding: Finding) -> str:
    """The value, or a dash where there is none."""
    return NOTHING if finding.value is None else of_finding(finding, finding.value)


def interval_of(finding: Finding) -> str:
    """The interval as `[low, high]`, empty where there is no value.

    A count is "exact". An estimate whose interval has no width (all records alike, or one canary
    alone) is as sure as its n, so that is what stands there.
    """
    if finding.low is None or finding.high is None:
        return ""
    if finding.low == finding.high:
        return "exact" if _is_count(finding) else f"n = {finding.n:,}"
    low, high = of_finding(finding, finding.low), of_finding(finding, finding.high)
    if is_percent(finding):
        return f"[{low.removesuffix(' %')}, {high.removesuffix(' %')}] %"
    return f"[{low}, {high}]"


def _is_count(finding: Finding) -> bool:
    value = finding.value or 0.0
    return value == int(value) and (abs(value) > 1 or finding.unit not in _RATIO_UNITS)


def name_of(name: str) -> str:
    """A finding's name as people read it.

    >>> name_of("TPR@0.1%FPR"), name_of("perplexity")
    ('TPR at 0.1 % FPR', 'perplexity')
    """
    found = _TPR.fullmatch(name)
    return f"TPR at {found.group(1)} % FPR" if found else name


def unit_of(finding: Finding) -> str:
    """The unit, unless it is already in the number."""
    return "" if is_percent(finding) or finding.unit in _RATIO_UNITS else finding.unit


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, with an ellipsis where something is missing.

    >>> clip("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def middle(text: str, limit: int = 24) -> str:
    """A long id with its middle left out, so that both ends can be compared."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def counted(number: int, what: str) -> str:
    """So many of something, one of it without its s.

    >>> counted(1200, "outsiders"), counted(1, "outsiders")
    ('1,200 outsiders', '1 outsider')
    """
    return f"{number:,} {what.removesuffix('s') if number == 1 else what}"


def duration(seconds: float | int) -> str:
    """Seconds in words.

    >>> duration(12.34), duration(754), duration(7300)
    ('12.3 s', '12 min 34 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{number(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def moment(created: str) -> str:
    """An ISO time without its T and Z.

    >>> moment("2026-01-31T12:00:00Z")
    '2026-01-31 12:00 UTC'
    """
    if len(created) == 20 and created[10] == "T" and created.endswith("Z"):
        return f"{created[:10]} {created[11:16]} UTC"
    return created


def likelier(difference: float | int) -> str:
    """A difference of log-probabilities in words: how many times likelier, or less likely.

    >>> likelier(1.1), likelier(-2.3), likelier(9.8)
    ('3.0× likelier', '10× less likely', '18,000× likelier')
    """
    word = "likelier" if difference >= 0 else "less likely"
    factor = math.exp(min(abs(difference), 30.0))
    rounded = float(f"{factor:.2g}")
    shown = f"{rounded:.1f}" if rounded < 10 else number(rounded)
    return f"{'over ' if abs(difference) > 30 else ''}{shown}{TIMES} {word}"
