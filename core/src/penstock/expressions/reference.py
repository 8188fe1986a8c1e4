"""The reference page of operators and functions, generated from the function table."""

from __future__ import annotations

from penstock.expressions.functions import ALIASES, FAMILIES
from penstock.expressions.table import Function

__all__ = ["functions_page"]

_INTRODUCTION = """\
# Operators and functions

The expressions of Penstock are those of Apache Flink SQL, a subset of it. Function names and keywords are not
case-sensitive; names of tables and columns are, and a name that is a reserved word is written in `` `backticks` ``.
`NULL` in gives `NULL` out unless an entry says otherwise. A row for which a value cannot be computed
(`error: division_by_zero`, `cast_failed`, `bad_argument`, `overflow`) goes to the rejected events; the other rows of
its batch are not touched, and a branch of `CASE`, `COALESCE`, `AND` or `OR` that is not needed never fails.

Values in the examples are shown as in JSON: `DECIMAL` as a string, times in ISO form, `NaN` and `Infinity` as `null`.

## Where it differs

| what | here | in Flink |
|---|---|---|
| regular expressions | Java's without look-around, back-references, possessive quantifiers (refused) | Java's |
| `$` and `(?i)` | the very end; all letters | also before a last line end; ASCII letters |
| an empty match right behind a match | not counted | counted |
| places and lengths in text | characters | an emoji is two in `LPAD`, `RPAD`, `OVERLAY`, `REGEXP_INSTR` |
| time zone of a session | UTC | configurable |
| `TIMESTAMP`, `TIMESTAMP_LTZ` | milliseconds; finer ones are refused, none means (3) | up to (9), none means (6) |
| a text of a time with `T` (`2018-01-01T10:00:00`) | read | `NULL`, or `CAST` fails |
| `TO_DATE`, `UNIX_TIMESTAMP` of a text that is no time | `NULL`, rejected | some date, the least `BIGINT` |
| a time zone that does not exist, as a constant | refused | UTC |
| formats of `PRINTF` | without `%a`, `%h`, `%t` and `#` of fractions (`NULL`) | also these |
| paths into JSON | constants without filters and functions | expressions |
| `RETURNING` in `JSON_QUERY` | only `STRING` | also `ARRAY<STRING>` |
| `JSON_QUOTE` of an emoji | two escapes, as JSON has it | a broken escape |
| lengths of `CHAR(n)`, `VARCHAR(n)`, `BINARY(n)` columns | read, not enforced | only if asked to |
| patterns of `LIKE`, `REGEXP` and dates, character sets | constants | expressions |
| sine, logarithm and their like | equal to within the last digit | |

## Conversions

`CAST(x AS type)` fails where a text is no value of the type; `TRY_CAST` gives `NULL` there. Text is read without the
blanks around it. As in Java, integers wrap when they are narrowed, `DOUBLE` to an integer is cut toward zero and
clamped to its range, and `NaN` becomes 0. A `DECIMAL` that does not fit its precision is `NULL`; digits beyond its
scale are rounded half up. `INT` to `BIGINT`, `DECIMAL` and `DOUBLE` need no `CAST`; text and numbers do. A constant
text beside a time (`ts > '2018-01-01 00:00:00'`) is read as that time.
"""


def functions_page() -> str:
    """Markdown: every entry with its usage, meaning and examples, by family."""
    lines = [_INTRODUCTION]
    for title, entries in FAMILIES.items():
        lines += [f"## {title}", "", "| usage | meaning | examples |", "|---|---|---|"]
        lines += [_row(entry) for entry in entries]
        lines.append("")
    return "\n".join(lines)


def _row(entry: Function) -> str:
    also = [alias for alias, name in ALIASES.items() if name == entry.name and alias not in entry.usage]
    note = f" Also {', '.join(f'`{a}`' for a in also)}." if also else ""
    examples = "<br>".join(f"`{_cell(sql)}` → `{_cell(result)}`" for sql, result in entry.examples)
    return f"| `{_cell(entry.usage)}` | {_cell(entry.doc)}{note} | {examples} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
