"""Rows of a finite file, a piece at a time: NDJSON, CSV (each also gzipped) or Parquet, to typed columns."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import polars as pl

from penstock.codecs.csv_records import read_records
from penstock.codecs.frames import polars_schema
from penstock.errors import PenstockError
from penstock.model.stream import Column, StreamSpec
from penstock_processor.evaluation.admission import Admission
from penstock_processor.evaluation.text_columns import columns_of_text
from penstock_processor.runtime.decode import Decoded, RowDecoder
from penstock_processor.runtime.decode_exact import BadRow

__all__ = ["PIECE_BYTES", "PIECE_ROWS", "Piece", "pieces_of"]

#: Text read at once: large enough that a cycle's fixed cost does not count, small enough for bounded memory.
PIECE_BYTES = 8 * 1024 * 1024
#: Rows read at once where a file has its own blocks (Parquet).
PIECE_ROWS = 100_000
_END = "$end"  # no column has such a name
_NEWLINE = 0x0A
_BLANKS = np.frombuffer(b"\n\t ", dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows: the admitted ones, and the refused ones with their row number in the file, from 0."""

    frame: pl.DataFrame
    bad: list[BadRow]


def pieces_of(path: Path, spec: StreamSpec, *, now_ms: int, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """All rows of the file, in order, checked as at the edge. `bad_request` for a file that cannot be read."""
    name = path.name.removesuffix(".gz")
    admission = Admission(spec, now_ms=now_ms)
    try:
        if name.endswith(".parquet"):
            decoded = _parquet(path, spec.columns)
        elif name.endswith(".csv"):
            decoded = _csv(path, spec.columns, piece_bytes)
        else:
            decoded = _ndjson(path, spec, piece_bytes)
        first = 0
        for rows, count in decoded:
            frame, bad = admission.check(rows)
            yield Piece(frame, [BadRow(first + b.row, b.code, b.detail) for b in bad] if bad else [])
            first += count
    except (OSError, EOFError) as error:
        raise PenstockError("bad_request", f"{path}: {error}") from None
    except pl.exceptions.PolarsError as error:
        raise PenstockError("bad_request", f"{path}: {str(error).splitlines()[0]}") from None


def _ndjson(path: Path, spec: StreamSpec, piece_bytes: int) -> Iterator[tuple[Decoded, int]]:
    decoder = RowDecoder(spec.columns, forbid_unknown=spec.unknown == "reject")
    for text in _lines(path, piece_bytes):
        clean, count = _without_blank_lines(text)
        if clean:
            yield decoder.decode(clean, count=count), count


def _csv(path: Path, columns: Sequence[Column], piece_bytes: int) -> Iterator[tuple[Decoded, int]]:
    header: list[str] = []
    for text in _lines(path, piece_bytes, quoted=True):
        if not header:
            line, _, text = text.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
            header = pl.read_csv(io.BytesIO(line + b"\n"), infer_schema=False).columns
        text = _without_blank_records(text)
        if not text.strip():
            continue
        try:
            texts = _records(text, header)
        except pl.exceptions.PolarsError:
            texts = None
        if texts is None:
            _refuse_uneven_record(path, len(header))
            texts = _parsed(text, header)
        yield columns_of_text(texts, columns), texts.height


def _records(text: bytes, header: Sequence[str]) -> pl.DataFrame | None:
    """The fields of the records as text; None if a record has fewer than the header has names.

    Polars gives NULL for fields that are not there. Without quotes commas tell; else a field of our own ends each
    line, and is NULL where others are missing. Where a line ends within quotes it stands in a text, too.
    """
    if b'"' not in text:
        texts = _parsed(text, header)
        return texts if text.count(b",") == texts.height * (len(header) - 1) else None
    lines = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    lines = lines.removesuffix(b"\r").replace(b"\n", b",1\n") + b",1"
    texts = _parsed(lines, [*header, _END])
    if texts[_END].null_count():
        return None
    return texts.drop(_END) if texts.height == lines.count(b"\n") + 1 else _parsed(text, header)


def _parsed(text: bytes, names: Sequence[str]) -> pl.DataFrame:
    schema = dict.fromkeys(names, pl.String())
    return pl.read_csv(io.BytesIO(text), has_header=False, schema=schema, infer_schema=False)


def _without_blank_records(text: bytes) -> bytes:
    """Without empty lines between records, which are none."""
    if b"\n\n" not in text and b"\n\r\n" not in text and not text.startswith((b"\n", b"\r\n")):
        return text
    kept: list[bytes] = []
    quoted = False
    for line in text.split(b"\n"):
        if quoted or line.strip(b"\r"):
            kept.append(line)
        quoted ^= line.count(b'"') % 2 == 1
    return b"\n".join(kept)


def _refuse_uneven_record(path: Path, names: int) -> None:
    """`bad_request` with the place of the first record that has more or fewer fields than there are names."""
    with _opened(path) as file:
        for line, fields in read_records(file):
            if len(fields) != names:
                raise PenstockError(
                    "bad_request",
                    f"{path}:{line}: {len(fields)} fields, the first line names {names}; put quotes around a field "
                    "that has a comma, and commas for fields that are empty",
                )


def _parquet(path: Path, columns: Sequence[Column]) -> Iterator[tuple[Decoded, int]]:
    scan = pl.scan_parquet(path)
    there = scan.collect_schema()
    schema = polars_schema(columns)
    selected = [
        pl.col(name).cast(dtype) if name in there else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    ]
    offset = 0
    while True:
        frame = scan.slice(offset, PIECE_ROWS).select(selected).collect()
        if not frame.height:
            return
        yield Decoded(frame, None, []), frame.height
        offset += frame.height


def _lines(path: Path, piece_bytes: int, *, quoted: bool = False) -> Iterator[bytes]:
    """Whole lines, about `piece_bytes` at a time. `quoted`: a newline inside quotes does not end a line."""
    with _opened(path) as file:
        rest = b""
        while chunk := file.read(piece_bytes):
            end = _end(chunk if not quoted else rest + chunk, quoted=quoted)
            if quoted:
                chunk, rest = rest + chunk, b""
            if end < 0:
                rest += chunk
                continue
            yield b"".join((rest, memoryview(chunk)[:end]))  # one copy
            rest = chunk[end + 1 :]
        if rest:
            yield rest


def _end(chunk: bytes, *, quoted: bool) -> int:
    """Place of the last newline that ends a line; -1 if there is none."""
    end = chunk.rfind(b"\n")
    while quoted and end >= 0 and chunk.count(b'"', 0, end) % 2:
        end = chunk.rfind(b"\n", 0, end)
    return end


def _opened(path: Path) -> BinaryIO:
    if path.name.endswith(".gz"):
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb", buffering=0)


def _without_blank_lines(text: bytes) -> tuple[bytes, int]:
    """The text and its number of lines."""
    if b"\r" in text:
        text = text.replace(b"\r", b" ")  # only white space between tokens can be a bare one (RFC 8259 section 7)
    text = text.strip()
    # By arithmetic on the whole text: a search for two bytes stops at each newline, and takes ten times as long.
    data = np.frombuffer(text, dtype=np.uint8)
    starts = np.flatnonzero(data == _NEWLINE) + 1  # the last byte is none
    if not np.isin(data[starts], _BLANKS).any():
        return text, len(starts) + 1
    lines = [line for line in text.split(b"\n") if line.strip()]
    return b"\n".join(lines), len(lines)
