"""Functions that other databases and earlier versions of Flink have: what to write here instead."""

from __future__ import annotations

__all__ = ["ELSEWHERE"]

_WINDOWS = (
    "A window is a table: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, "
    "window_end; so are HOP, CUMULATE and SESSION."
)
_BOUNDS = f"Select window_start and window_end. {_WINDOWS}"
_BEHIND = "Rows behind are not there yet: look back from each row, LAG(x) OVER (PARTITION BY k ORDER BY ts)."
_NUMBERED = "Number the rows: ROW_NUMBER() OVER (PARTITION BY k ORDER BY x DESC), and bound the number with WHERE."

#: Name -> remedy.
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("TUMBLE", "HOP", "SESSION", "CUMULATE"), _WINDOWS),
    **{f"{window}_{bound}": _BOUNDS for window in ("TUMBLE", "HOP", "SESSION")
       for bound in ("START", "END", "ROWTIME", "PROCTIME")},
    "LEAD": _BEHIND,
    **dict.fromkeys(("RANK", "DENSE_RANK", "NTILE"), _NUMBERED),
    **dict.fromkeys(("DATEDIFF", "DATE_DIFF"), "Write TIMESTAMPDIFF(DAY, a, b), the time from a to b."),
    **dict.fromkeys(("DATEADD", "DATE_ADD", "DATE_SUB"), "Write a + INTERVAL '1' DAY, or TIMESTAMPADD(DAY, n, a)."),
    **dict.fromkeys(("DATE_TRUNC", "TRUNC"), "Write FLOOR(a TO HOUR) of a time, TRUNCATE(a, 2) of a number."),
    "DATE_PART": "Write EXTRACT(HOUR FROM a).",
    **dict.fromkeys(("TO_CHAR", "STRFTIME"), "Write DATE_FORMAT(a, 'yyyy-MM-dd HH:mm'), or CAST(a AS STRING)."),
    **dict.fromkeys(("GETDATE", "SYSDATE"), "Write CURRENT_TIMESTAMP, or use the event's own time."),
    **dict.fromkeys(("NVL", "ISNULL", "ZEROIFNULL"), "Write COALESCE(a, 0)."),
    **dict.fromkeys(("IIF", "IFF"), "Write IF(a, b, c)."),
    "LEN": "Write CHAR_LENGTH(a).",
    **dict.fromkeys(("STRPOS", "CHARINDEX"), "Write POSITION('b' IN a)."),
    "SPLIT_PART": "Write SPLIT_INDEX(a, ',', 0), which counts from 0.",
    **dict.fromkeys(("STRING_AGG", "GROUP_CONCAT"), "Write LISTAGG(a, ',')."),
    **dict.fromkeys(("COUNTIF", "COUNT_IF"), "Write COUNT(*) FILTER (WHERE a)."),
    **dict.fromkeys(("SUMIF", "SUM_IF"), "Write SUM(a) FILTER (WHERE b)."),
    "MEDIAN": "Write PERCENTILE(a, 0.5).",
    **dict.fromkeys(("SIZE", "ARRAY_LENGTH"), "Write CARDINALITY(a)."),
    **dict.fromkeys(("JSON_EXTRACT", "GET_JSON_OBJECT"), "Write JSON_VALUE(a, '$.b'), or JSON_QUERY for objects."),
    **dict.fromkeys(("RANDOM", "RAND"), "Nothing here differs from run to run; take a hash of a column, MD5(a)."),
}  # fmt: skip
