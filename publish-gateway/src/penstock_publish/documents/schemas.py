"""JSON Schema (2020-12) of topics and rows, as OpenAPI 3.1 and AsyncAPI 3 embed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import DataType, Kind
from penstock_publish.topics.rows import key_columns

__all__ = ["envelope_schema", "row_schema"]

_Json = dict[str, object]


def envelope_schema(spec: StreamSpec) -> _Json:
    """That of a topic's envelope. `-D` carries the key columns only, so a table requires no other column."""
    columns = _columns(spec.columns, spec.primary_key)
    table = spec.relation is Relation.TABLE
    required = spec.primary_key if table else () if spec.relation is Relation.SOURCE else tuple(columns)
    properties: _Json = {
        "t": {"const": spec.name},
        "c": {"type": "string", "maxLength": 200, "description": "Cursor: resume with after=<c>."},
        "d": {"type": "object", "properties": columns, "required": list(required)},
    }
    if key_columns(spec):
        properties["k"] = {"type": "string"} if table else {"type": ["string", "null"]}
    if table:
        properties |= {"op": {"enum": ["+I", "+U", "-D"]}, "complete": {"type": "boolean"}}
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def row_schema(columns: Sequence[Column], primary_key: Sequence[str]) -> _Json:
    """That of a stored row."""
    return {"type": "object", "properties": _columns(columns, primary_key)}


def _columns(columns: Sequence[Column], primary_key: Sequence[str]) -> _Json:
    return {
        column.name: _column_schema(column.type, nullable=column.nullable and column.name not in primary_key)
        for column in columns
    }


def _column_schema(data_type: DataType, *, nullable: bool) -> _Json:
    schema: _Json
    if data_type.is_nested:
        schema = _nested_schema(data_type)
    elif data_type.is_integer:
        schema = {"type": "integer"}
    elif data_type.kind in (Kind.FLOAT, Kind.DOUBLE):
        schema, nullable = {"type": "number"}, True  # NaN and infinities are written as null
    elif data_type.kind is Kind.BOOLEAN:
        schema = {"type": "boolean"}
    else:
        formats: Mapping[Kind, _Json] = {
            Kind.DATE: {"format": "date"},
            Kind.TIMESTAMP_LTZ: {"format": "date-time"},
            Kind.BYTES: {"contentEncoding": "base64"},
        }
        schema = {"type": "string", **formats.get(data_type.kind, {})}
    if nullable:
        schema["type"] = [schema["type"], "null"]
    return {**schema, "description": str(data_type)}


def _nested_schema(data_type: DataType) -> _Json:
    if data_type.kind is Kind.ARRAY:
        return {"type": "array", "items": _column_schema(data_type.element, nullable=True)}
    if data_type.kind is Kind.MAP:
        return {"type": "object", "additionalProperties": _column_schema(data_type.key_and_value[1], nullable=True)}
    parts = {name: _column_schema(part, nullable=True) for name, part in data_type.parts}
    return {"type": "object", "properties": parts}
