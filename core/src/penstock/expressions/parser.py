"""The grammar of Flink SQL on sqlglot's parser: what differs from its default, what is refused where it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.parser import IsPredicatePrecedence, Parser

from penstock.expressions.parser_function import parse_create
from penstock.expressions.parser_json import JSON_PARSERS, is_json_kind
from penstock.expressions.parser_match import parse_match
from penstock.expressions.tokens import is_table_function

__all__ = ["STATEMENT_REMEDY", "FlinkParser"]

TIME_UNITS = frozenset({
    "YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "EPOCH", "DOW", "ISODOW",
    "DOY", "ISOYEAR", "DECADE", "CENTURY", "MILLENNIUM",
})  # fmt: skip
INTERVAL_UNITS = frozenset({"YEAR", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"})
NESTED_TYPES = {"ARRAY": "ARRAY<INT>", "MAP": "MAP<STRING, INT>", "ROW": "ROW<a INT, b STRING>"}
STATEMENT_REMEDY = "Write CREATE TABLE, CREATE VIEW, INSERT INTO ... SELECT or SET 'key' = 'value'."
_TYPE_REMEDY = ("Write one of BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL(p, s), STRING, BYTES, DATE, TIME, TIMESTAMP(3), "
                "TIMESTAMP_LTZ(3), ARRAY<t>, MAP<k, v>, ROW<a t, ...>.")  # fmt: skip


def _placed(node: exp.Expr, token: Token) -> exp.Expr:
    return node.update_positions(token)


class FlinkParser(Parser):
    """Flink SQL on sqlglot's parser. Calls are kept by name; what Flink has not is refused where it stands."""

    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {"CASE": lambda self: self._flink_case()}
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        "CAST": lambda self: self._flink_cast(exp.Cast),
        "TRY_CAST": lambda self: self._flink_cast(exp.TryCast),
        "EXTRACT": lambda self: self._flink_extract(),
        "TRIM": lambda self: self._flink_trim(),
        "SUBSTRING": lambda self: self._flink_words("SUBSTRING", ("FROM", "FOR")),
        "OVERLAY": lambda self: self._flink_words("OVERLAY", ("PLACING", "FROM", "FOR")),
        "POSITION": lambda self: self._flink_position(),
        "CEIL": lambda self: self._flink_round("CEIL"),
        "CEILING": lambda self: self._flink_round("CEILING"),
        "FLOOR": lambda self: self._flink_round("FLOOR"),
        "TIMESTAMPADD": lambda self: self._flink_unit_first("TIMESTAMPADD"),
        "TIMESTAMPDIFF": lambda self: self._flink_unit_first("TIMESTAMPDIFF"),
        **JSON_PARSERS,
    }
    FUNC_TOKENS: ClassVar[set[TokenType]] = Parser.FUNC_TOKENS | {
        TokenType.LEFT, TokenType.RIGHT, TokenType.INSERT, TokenType.SET, TokenType.TABLE, TokenType.TIME,
    }  # fmt: skip
    PRIMARY_PARSERS: ClassVar[dict[TokenType, Callable[..., Any]]] = {
        **Parser.PRIMARY_PARSERS,
        TokenType.NULL: lambda self, token: _placed(exp.Null(), token),
        TokenType.TRUE: lambda self, token: _placed(exp.Boolean(this=True), token),
        TokenType.FALSE: lambda self, token: _placed(exp.Boolean(this=False), token),
    }
    TYPE_LITERAL_PARSERS: ClassVar[dict[Any, Callable[..., Any]]] = {
        kind: lambda self, this, kind: self._flink_literal(this, kind)
        for kind in (exp.DType.DATE, exp.DType.TIME, exp.DType.TIMESTAMP)
    }
    CONSTRAINT_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        "COMMENT": Parser.CONSTRAINT_PARSERS["COMMENT"],
        "NOT": lambda self: self._parse_not_constraint(),
        "NULL": Parser.CONSTRAINT_PARSERS["NULL"],
        "PRIMARY KEY": lambda self: self._parse_primary_key(),
        "WATERMARK": lambda self: self._flink_watermark(),
        "METADATA": lambda self: self._flink_metadata(),
    }
    SCHEMA_UNNAMED_CONSTRAINTS: ClassVar[set[str]] = {"PRIMARY KEY", "WATERMARK"}
    STATEMENT_PARSERS: ClassVar[dict[TokenType, Callable[..., Any]]] = {
        TokenType.CREATE: parse_create,
        TokenType.INSERT: lambda self: self._parse_insert(),
        TokenType.SET: lambda self: self._flink_set(),
    }
    LAMBDAS: ClassVar[dict[TokenType, Callable[..., Any]]] = {}
    COLUMN_OPERATORS: ClassVar[dict[TokenType, Any]] = {TokenType.DOT: None}
    INTERVAL_SPANS = True
    IS_PREDICATE_PRECEDENCE = IsPredicatePrecedence.LOW

    def parse_all(self, method: Callable[[Any], Any], tokens: list[Token], text: str) -> object:
        """What `method` makes of all tokens. ParseError if some are left over."""
        self.reset()
        self.sql, self._chunks, self._chunk_index = text, [tokens], 0
        self._advance_chunk()
        tree: object = method(self)
        if self._index < self._tokens_size:
            self.raise_error("Invalid expression / Unexpected token")
        return tree

    def _refuse(self, message: str, remedy: str, token: Token | None = None) -> None:
        """A syntax error whose description carries the remedy behind ' | '."""
        if token is None:
            self.raise_error(f"{message} | {remedy}")
        else:
            self.raise_error(f"{message} | {remedy}", token)

    def _parse_as_command(self, start: Token) -> exp.Command:
        self._refuse(f"'{start.text.upper()} ...' is not a supported statement",
                     STATEMENT_REMEDY, start)  # fmt: skip
        raise AssertionError("raise_error raises")

    def _parse_hint(self) -> exp.Hint | None:
        return None

    def _parse_placeholder(self) -> exp.Expr | None:
        return None

    def _parse_function_call(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        token = self._curr
        call = super()._parse_function_call(*args, **kwargs)
        if call is not None and "line" not in call.meta:
            call.update_positions(token)
        return call

    def _parse_grouping_sets(self) -> exp.GroupingSets | None:
        if not self._match_text_seq("GROUPING", "SETS"):
            return None
        return self.expression(exp.GroupingSets(expressions=self._parse_wrapped_csv(self._parse_grouping_set)))

    def _negate_range(self, this: exp.Expr | None = None) -> exp.Expr | None:
        if self._prev.token_type is TokenType.NULL and self._tokens[self._index - 2].token_type is TokenType.NOT \
                and self._tokens[self._index - 3].token_type is not TokenType.IS:  # fmt: skip
            self._refuse("'x NOT NULL' is not a test", "Write x IS NOT NULL.", self._prev)
        return super()._negate_range(this)

    def _parse_between(self, this: exp.Expr | None) -> exp.Between:
        symmetric = self._match_text_seq("SYMMETRIC")
        if not symmetric:
            self._match_text_seq("ASYMMETRIC")
        low = self._parse_bitwise()
        if not self._match(TokenType.AND):
            self._refuse("BETWEEN needs two bounds", "Write x BETWEEN 1 AND 10.")
        high = self._parse_bitwise()
        return self.expression(exp.Between(this=this, low=low, high=high, symmetric=symmetric))

    def _flink_case(self) -> exp.Expr:
        token, remedy = self._prev, "Write CASE WHEN condition THEN value ELSE value END."
        subject = None if self._match(TokenType.WHEN, advance=False) else self._parse_disjunction()
        branches = []
        while self._match(TokenType.WHEN):
            condition = self._parse_disjunction()
            if not self._match(TokenType.THEN):
                self._refuse("CASE needs THEN after its condition", remedy)
            branches.append(self.expression(exp.If(this=condition, true=self._parse_disjunction())))
        otherwise = self._parse_disjunction() if self._match(TokenType.ELSE) else None
        if not branches or not self._match(TokenType.END):
            self._refuse("CASE is not complete", remedy)
        return _placed(exp.Case(this=subject, ifs=branches, default=otherwise), token)

    def _flink_set(self) -> exp.Expr:
        left = self._parse_string()
        if left is None or not self._match(TokenType.EQ):
            self._refuse("SET takes a quoted key and a quoted value", "Write SET 'key' = 'value';")
        right = self._parse_string()
        if right is None:
            self._refuse("SET takes a quoted key and a quoted value", "Write SET 'key' = 'value';")
        return exp.Set(expressions=[exp.SetItem(this=exp.EQ(this=left, expression=right))])

    def _flink_watermark(self) -> exp.Expr:
        if not self._match(TokenType.FOR):
            self._refuse("WATERMARK needs a column", "Write WATERMARK FOR ts AS ts - INTERVAL '5' SECOND.")
        column = self._parse_column()
        if column is None or not self._match(TokenType.ALIAS):
            self._refuse("WATERMARK needs an expression", "Write WATERMARK FOR ts AS ts - INTERVAL '5' SECOND.")
        return self.expression(exp.WatermarkColumnConstraint(this=column, expression=self._parse_disjunction()))

    def _flink_metadata(self) -> exp.Expr:
        remedy = "Declare a physical column and send the value in the event."
        self._refuse("METADATA columns are not supported", remedy, self._prev)
        raise AssertionError("raise_error raises")

    def _flink_literal(self, this: exp.Expr, kind: exp.DataType) -> exp.Expr:
        if kind.expressions:
            self._refuse("A typed literal takes no precision", "Write TIMESTAMP '2018-01-01 00:00:00'.")
        cast = self.expression(exp.Cast(this=this, to=kind))
        cast.meta["typed_literal"] = True
        return cast

    def _flink_cast(self, kind: type[exp.Cast] | type[exp.TryCast]) -> exp.Expr:
        token = self._tokens[self._index - 2]
        this = self._parse_disjunction()
        if this is None or not self._match(TokenType.ALIAS):
            self._refuse("CAST needs AS and a type", "Write CAST(x AS type).")
        to = self._parse_types()
        if to is None:
            self._refuse("CAST needs a type after AS", _TYPE_REMEDY)
        return _placed(kind(this=this, to=to), token)

    def _parse_types(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        word = self._curr.text.upper() if self._curr and self._curr.token_type is TokenType.VAR else ""
        if word in NESTED_TYPES and self._next and self._next.token_type in (TokenType.LT, TokenType.L_PAREN):
            return self._flink_nested_type(word)
        return super()._parse_types(*args, **kwargs)

    def _flink_nested_type(self, word: str) -> exp.Expr:
        """`ARRAY<t>`, `MAP<k, v>`, `ROW<a t, ...>` or `ROW(a t, ...)`; NOT NULL of a part is read and not kept."""
        remedy = f"Write {NESTED_TYPES[word]}."
        token = self._curr
        self._advance()
        opened = self._match(TokenType.LT) or (word == "ROW" and self._match(TokenType.L_PAREN))
        closing = TokenType.GT if self._prev.token_type is TokenType.LT else TokenType.R_PAREN
        parts = self._parse_csv(self._flink_field if word == "ROW" else self._flink_part) if opened else []
        if not self._match(closing) or len(parts) != {"ARRAY": 1, "MAP": 2}.get(word, max(1, len(parts))):
            self._refuse(f"This {word} type is not complete", remedy)
        kind = {"ARRAY": exp.DType.ARRAY, "MAP": exp.DType.MAP, "ROW": exp.DType.STRUCT}[word]
        return _placed(exp.DataType(this=kind, expressions=parts, nested=True), token)

    def _flink_part(self) -> exp.Expr | None:
        found = self._parse_types()
        if not self._match_text_seq("NOT", "NULL"):
            self._match_text_seq("NULL")
        return found

    def _flink_field(self) -> exp.Expr | None:
        name = self._parse_id_var()
        kind = self._flink_part()
        if name is None or kind is None:
            self._refuse("A field of a ROW has a name and a type", f"Write {NESTED_TYPES['ROW']}.")
        return self.expression(exp.ColumnDef(this=name, kind=kind))

    def _flink_call(self, name: str, arguments: list[exp.Expr | None], token: Token | None = None) -> exp.Expr:
        call = exp.Anonymous(this=name, expressions=[a for a in arguments if a is not None])
        return _placed(call, token) if token is not None else call

    def _flink_unit(self) -> exp.Expr | None:
        if self._curr.token_type is not TokenType.IDENTIFIER and self._curr.text.upper() in TIME_UNITS:
            self._advance()
            return _placed(exp.Var(this=self._prev.text.upper()), self._prev)
        self._refuse("A unit of time is expected", f"Write one of {', '.join(sorted(TIME_UNITS))}.")
        return None

    def _flink_extract(self) -> exp.Expr:
        unit = self._flink_unit()
        if not self._match(TokenType.FROM):
            self._refuse("EXTRACT needs FROM", "Write EXTRACT(HOUR FROM ts).")
        return self._flink_call("EXTRACT", [unit, self._parse_disjunction()])

    def _flink_trim(self) -> exp.Expr:
        side = None
        if self._match_texts(("BOTH", "LEADING", "TRAILING")):
            side = _placed(exp.Var(this=self._prev.text.upper()), self._prev)
        first = None if self._match(TokenType.FROM, advance=False) else self._parse_disjunction()
        if not self._match(TokenType.FROM):
            return self._flink_call("TRIM", [first])
        side = side or exp.Var(this="BOTH")
        return self._flink_call("TRIM", [side, first or exp.Literal.string(" "), self._parse_disjunction()])

    def _flink_words(self, name: str, words: tuple[str, ...]) -> exp.Expr:
        """Arguments separated by commas or by the words of the standard form."""
        arguments = [self._parse_disjunction()]
        while self._match(TokenType.COMMA) or self._match_texts(words):
            arguments.append(self._parse_disjunction())
        return self._flink_call(name, arguments)

    def _flink_position(self) -> exp.Expr:
        needle = self._parse_bitwise()
        if not self._match(TokenType.IN):
            self._refuse("POSITION needs IN", "Write POSITION('b' IN 'abc').")
        return self._flink_call("POSITION", [needle, self._parse_bitwise()])

    def _flink_round(self, name: str) -> exp.Expr:
        this = self._parse_disjunction()
        if self._match_text_seq("TO"):
            return self._flink_call(name, [this, self._flink_unit()])
        return self._flink_call(name, [this])

    def _flink_unit_first(self, name: str) -> exp.Expr:
        arguments: list[exp.Expr | None] = [self._flink_unit()]
        while self._match(TokenType.COMMA):
            arguments.append(self._parse_disjunction())
        return self._flink_call(name, arguments)

    def _parse_is_rhs(self, distinct: bool = False) -> exp.Expr | None:
        if distinct:
            return self._parse_bitwise()
        if self._match_text_seq("UNKNOWN"):
            return _placed(exp.Null(), self._prev)
        if self._match(TokenType.NULL) or self._match(TokenType.TRUE) or self._match(TokenType.FALSE):
            found: exp.Expr = self.PRIMARY_PARSERS[self._prev.token_type](self, self._prev)
            return found
        if (kind := is_json_kind(self)) is not None:
            return _placed(kind, self._prev)
        self._refuse("IS takes NULL, TRUE, FALSE, UNKNOWN, JSON or DISTINCT FROM", "Compare values with =.")
        return None

    def _parse_interval(self, require_interval: bool = True, parse_function_unit: bool = True) -> exp.Interval | None:
        """`INTERVAL ['-'] 'text' unit [TO unit]`, the only form that Flink has."""
        if not self._match(TokenType.INTERVAL):
            return None
        start = self._prev
        sign = "-" if self._match(TokenType.DASH) else ""
        text = self._parse_string()
        remedy = "Write INTERVAL '10' MINUTE."
        if text is None:
            self._refuse("INTERVAL takes a quoted number", remedy)
            return None
        unit: exp.Expr = self._flink_interval_unit(remedy)
        if self._match_text_seq("TO"):
            unit = exp.IntervalSpan(this=unit, expression=self._flink_interval_unit(remedy))
        literal = exp.Literal.string(sign + text.name).update_positions(start)
        interval = exp.Interval(this=literal, unit=unit)
        return interval.update_positions(start)

    def _flink_interval_unit(self, remedy: str) -> exp.Expr:
        word = self._curr.text.upper().removesuffix("S") if self._curr else ""
        if word not in INTERVAL_UNITS:
            self._refuse("INTERVAL needs a unit", remedy)
        self._advance()
        unit = _placed(exp.Var(this=word), self._prev)
        if self._match(TokenType.L_PAREN):
            self._parse_number()
            if self._match(TokenType.COMMA):
                self._parse_number()
            self._match_r_paren()
        return unit

    def _parse_table(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        if self._curr and self._curr.token_type is TokenType.TABLE and self._next.token_type is TokenType.L_PAREN:
            return self._flink_table_function()
        if self._curr and self._curr.token_type is TokenType.VAR and self._curr.text.upper() == "UNNEST" \
                and self._next and self._next.token_type is TokenType.L_PAREN:  # fmt: skip
            return self._flink_unnest(2)
        if self._curr and self._next and is_table_function((self._curr, self._next)):
            return self._flink_unnest(3)
        table = super()._parse_table(*args, **kwargs)
        if table is not None and self._curr and self._curr.token_type is TokenType.MATCH_RECOGNIZE:
            return parse_match(self, table)
        return table

    def _flink_unnest(self, words: int) -> exp.Expr:
        """UNNEST(collection), or LATERAL TABLE(call) of a function that gives an array. `words` to skip."""
        token = self._curr
        self._advance(words)
        collection = self._parse_disjunction()
        if collection is None or not self._match(TokenType.R_PAREN):
            self._refuse(f"{token.text.upper()} takes one array or map", "Write UNNEST(t.items) AS u(item).", token)
        numbered = self._match_text_seq("WITH", "ORDINALITY")
        unnest = exp.Unnest(expressions=[collection], offset=bool(numbered) or None).update_positions(token)
        if alias := self._parse_table_alias(alias_tokens=self.TABLE_ALIAS_TOKENS):
            unnest.set("alias", alias)
        return unnest

    def _flink_table_function(self) -> exp.Expr:
        self._advance(2)
        name = self._curr
        remedy = "Write TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE))."
        if name.token_type is not TokenType.VAR or self._next.token_type is not TokenType.L_PAREN:
            self._refuse("TABLE( ) takes a window function", remedy)
        self._advance(2)
        arguments = self._parse_csv(self._flink_table_argument)
        self._match_r_paren()
        self._match_r_paren()
        call = exp.Anonymous(this=name.text.upper(), expressions=arguments).update_positions(name)
        table = self.expression(exp.Table(this=call))
        if alias := self._parse_table_alias(alias_tokens=self.TABLE_ALIAS_TOKENS):
            table.set("alias", alias)
        return table

    def _flink_partition(self) -> list[exp.Expr]:
        """`k` or `(k, l)`: a comma behind a single column ends the argument."""
        if self._match(TokenType.L_PAREN):
            columns = self._parse_csv(self._parse_column)
            self._match_r_paren()
        else:
            column = self._parse_column()
            columns = [] if column is None else [column]
        if not columns:
            self._refuse("PARTITION BY needs a column", "Write TABLE t PARTITION BY k, or PARTITION BY (k, l).")
        return columns

    def _flink_table_argument(self) -> exp.Expr | None:
        if self._next and self._next.token_type is TokenType.FARROW:
            name = _placed(exp.Var(this=self._curr.text.upper()), self._curr)
            self._advance(2)
            return self.expression(exp.Kwarg(this=name, expression=self._flink_table_argument()))
        if self._match(TokenType.TABLE):
            table = self._parse_table_parts()
            if table is not None and self._match(TokenType.PARTITION_BY):
                table.set("partition", exp.Tuple(expressions=self._flink_partition()))
            return table
        return self._parse_disjunction()
