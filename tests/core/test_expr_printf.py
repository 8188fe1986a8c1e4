"""PRINTF as Java's formatter: flags, width, precision, null, and what does not fit."""

from __future__ import annotations

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.model import types

CASES = {
    ("-1234567", "INT"): {
        "%d": "-1234567", "%5d": "-1234567", "%10d": "  -1234567", "%-9d|": "-1234567 |", "%010d": "-001234567",
        "%,d": "-1,234,567", "%(d": "(1234567)", "%+d": "-1234567", "%x": "ffed2979", "%X": "FFED2979",
        "%o": "37773224571", "%s": "-1234567", "%.2s": "-1", "%b": "true", "%c": None, "%e": None, "%.1d": None,
        "%0d": None, "%-d": None, "%D": None, "%q": None, "%#x": "0xffed2979",
    },
    ("97", "INT"): {"%c": "a", "%C": "A", "%+d": "+97", "% d": " 97", "%+ d": None, "%-05d": None, "%--5d": None},
    ("-1", "TINYINT"): {"%x": "ff", "%o": "377"},
    ("97", "BIGINT"): {"%c": None, "%d%%": "97%", "%n": "\n", "%5%": "    %", "%": None, "%d%": None},
    ("1234.5675", "DOUBLE"): {
        "%f": "1234.567500", "%.2f": "1234.57", "%10.3f": "  1234.568", "%e": "1.234568e+03", "%.3E": "1.235E+03",
        "%g": "1234.57", "%s": "1234.5675", "%,.2f": "1,234.57", "%08.2f": "01234.57", "%+.1f": "+1234.6",
        "%.0f": "1235", "%d": None, "%.3g": "1.23e+03", "%(.1f": "1234.6",
    },
    ("0.00001", "DOUBLE"): {"%g": "1.00000e-05", "%s": "1.0E-5", "%.3f": "0.000", "%e": "1.000000e-05"},
    ("0", "DOUBLE"): {"%g": "0.00000", "%e": "0.000000e+00", "%.1f": "0.0"},
    ("9.9999999", "DOUBLE"): {"%e": "1.000000e+01", "%.1f": "10.0", "%.2g": "10"},
    ("1e300", "DOUBLE"): {"%.0f": "1" + "0" * 300, "%e": "1.000000e+300"},
    ("2.50", "DECIMAL(10, 2)"): {"%s": "2.50", "%.1f": None},
    ("'héllo'", "STRING"): {
        "%s": "héllo", "%8s|": "   héllo|", "%-8s|": "héllo   |", "%.2s": "hé", "%S": "HÉLLO", "%b": "true",
        "%d": None,
        "%c": None, "%1$s %1$s": "héllo héllo", "%2$s": None, "%s %<S": "héllo HÉLLO", "%05s": None, "a%%b": "a%b",
        "": "",
    },
    ("NULL", "INT"): {"%s": "null", "%d": "null", "%b": "false", "%c": "null", "%5s": " null", "%.2s": "nu",
        "%x": "null"},
    ("TRUE", "BOOLEAN"): {"%s": "true", "%B": "TRUE", "%d": None},
}  # fmt: skip


@pytest.mark.parametrize(("value", "kind"), CASES)
def test_a_format_shows_what_java_shows(value: str, kind: str) -> None:
    forms = CASES[value, kind]
    table = {"f": (types.STRING, [*forms, None])}
    found = evaluate(f"PRINTF(f, CAST({value} AS {kind}))", table)
    assert dict(zip([*forms, "NULL"], found, strict=True)) == {**forms, "NULL": None}


def test_too_few_too_many_infinite_and_too_long() -> None:
    assert one("PRINTF('%s', 'a', 'b')") == "a"
    assert one("PRINTF('%s %s', 'a')") is None
    assert one("PRINTF('plain')") == "plain"
    assert one("PRINTF('%f %.1f', CAST('Infinity' AS DOUBLE), -1e0)") == "Infinity -1.0"
    assert one("PRINTF('%s %e', CAST('NaN' AS DOUBLE), CAST('-Infinity' AS DOUBLE))") == "NaN -Infinity"
    assert one("PRINTF('%999999s%999999s', 'a', 'b')") is None
    assert one("PRINTF('%s', CAST(1.5 AS FLOAT))") == "1.5"


def test_times_are_refused_with_a_remedy() -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text("PRINTF('%s', DATE '2018-01-01')", [])
    (error,) = caught.value.errors
    assert (error.line, error.column) == (1, 1)
    assert "CAST(x AS STRING)" in error.remedy


@settings(max_examples=60, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "+", "0", ",", "-"]), st.integers(1, 24))
def test_whole_numbers_agree_with_a_plain_reading(number: int, flag: str, width: int) -> None:
    digits = f"{number:,}" if flag == "," else f"{number:+d}" if flag == "+" else str(number)
    if flag == "0":
        digits = f"{number:0{width}d}"
    expected = digits.ljust(width) if flag == "-" else digits.rjust(width)
    assert evaluate(f"PRINTF('%{flag}{width}d', n)", {"n": (types.BIGINT, [number])}) == [expected]


@settings(max_examples=100, deadline=None)
@given(st.text("%0123456789.,+-(# <$sdxfegbcnS", max_size=10))
def test_any_text_is_a_format_or_null(form: str) -> None:
    table = {"f": (types.STRING, [form]), "x": (types.DOUBLE, [-12.5])}
    assert isinstance(evaluate("PRINTF(f, x, 7)", table)[0], str | None)
