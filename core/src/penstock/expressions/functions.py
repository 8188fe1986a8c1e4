"""The function table: every operator and function by its SQL name. Families are defined in their own modules."""

from __future__ import annotations

from difflib import get_close_matches

from penstock.expressions import (
    functions_arrays,
    functions_choice,
    functions_encoding,
    functions_json,
    functions_maps,
    functions_math,
    functions_printf,
    functions_regexp,
    functions_text,
    functions_time,
    functions_zones,
    operators_arithmetic,
    operators_logic,
)
from penstock.expressions.functions_elsewhere import ELSEWHERE
from penstock.expressions.table import Function

__all__ = ["ALIASES", "FAMILIES", "FUNCTIONS", "function_named", "remedy_for"]

#: Title -> entries, in the order of the reference page.
FAMILIES: dict[str, tuple[Function, ...]] = {
    "Comparison and logic": operators_logic.FUNCTIONS,
    "Arithmetic": operators_arithmetic.FUNCTIONS,
    "Choice": functions_choice.FUNCTIONS,
    "Numbers": functions_math.FUNCTIONS,
    "Text": (*functions_text.FUNCTIONS, *functions_printf.FUNCTIONS),
    "Regular expressions": functions_regexp.FUNCTIONS,
    "Encodings and hashes": functions_encoding.FUNCTIONS,
    "JSON": functions_json.FUNCTIONS,
    "Arrays, maps and rows": (*functions_arrays.FUNCTIONS, *functions_maps.FUNCTIONS),
    "Time": (*functions_time.FUNCTIONS, *functions_zones.FUNCTIONS),
}

FUNCTIONS: dict[str, Function] = {entry.name: entry for entries in FAMILIES.values() for entry in entries}

#: Other names of the same function.
ALIASES: dict[str, str] = {
    "CEILING": "CEIL",
    "CHARACTER_LENGTH": "CHAR_LENGTH",
    "LENGTH": "CHAR_LENGTH",
    "LCASE": "LOWER",
    "UCASE": "UPPER",
    "MOD": "%",
    "POW": "POWER",
    "SUBSTR": "SUBSTRING",
    "DAY": "DAYOFMONTH",
}


def function_named(name: str) -> Function:
    """The entry of a function or operator; names are not case-sensitive. KeyError if there is none."""
    upper = name.upper()
    return FUNCTIONS[ALIASES.get(upper, upper)]


def remedy_for(name: str) -> str:
    """What to write for a function that there is not: what stands for it here, or one whose name looks like it."""
    upper = name.upper()
    if upper in ELSEWHERE:
        return ELSEWHERE[upper]
    found = get_close_matches(upper, [*FUNCTIONS, *ALIASES], n=1, cutoff=0.6)
    return f"Did you mean {found[0]}?" if found else "See the list of functions on the reference page."
