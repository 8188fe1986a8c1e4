"""`penstock explain`: a plan as text for people (not contract) and as JSON (contract)."""

from __future__ import annotations

from penstock.expressions.nodes import Expr
from penstock.model.stream import StreamSpec
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin
from penstock_processor.logical.changes import updating
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.match_printing import match_json
from penstock_processor.logical.plan import (
    Aggregate,
    AggregateCall,
    AppPlan,
    Expand,
    Filter,
    FinalAggregate,
    GroupAggregate,
    IntervalJoin,
    Node,
    PartialAggregate,
    Project,
    Repartition,
    Scan,
    SourcePlan,
    Statement,
    WindowAssign,
)
from penstock_processor.logical.plan_keyed import RegularJoin, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.plan_proctime import ProcessingTime
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.logical.printing import expr_text, interval_text, name_text, tree_text
from penstock_processor.logical.rewrite import inputs_of
from penstock_processor.logical.stages import stages_of

__all__ = ["explain_json", "explain_text"]


def explain_text(plan: AppPlan) -> str:
    """Relations, then statements as trees of nodes; ends with a newline."""
    lines = [f"app {plan.name}"]
    lines += [f"set {key} = {value}" for key, value in sorted(plan.settings.items())]
    for source in plan.sources.values():
        lines += ["", *_relation_lines(source)]
    for statement in plan.statements:
        lines += ["", f"{statement.name} -> {statement.target}"]
        lines += ["  " + line for line in tree_text(statement.plan)]
    if plan.parallelism > 1:
        for number, stage in enumerate(stages_of(plan)):
            lines += ["", *_stage_lines(number, stage)]
    return "\n".join(lines) + "\n"


def explain_json(plan: AppPlan) -> dict[str, object]:
    """The plan as plain JSON values: `app`, `settings`, `relations`, `statements` (each with its tree of nodes)."""
    found: dict[str, object] = {
        "app": plan.name,
        "settings": dict(sorted(plan.settings.items())),
        "relations": [_relation_json(source) for source in plan.sources.values()],
        "statements": [_statement_json(statement) for statement in plan.statements],
    }
    if plan.parallelism > 1:
        found["parallelism"] = plan.parallelism
        found["stages"] = [
            {"reads": _reads(stage), "statements": [_statement_json(statement) for statement in stage.statements]}
            for stage in stages_of(plan)
        ]
    return found


def _stage_lines(number: int, stage: AppPlan) -> list[str]:
    """What each task of a stage does."""
    reads = ", ".join(name_text(name) for name in _reads(stage)) or "nothing"
    lines = [f"stage {number}, {stage.parallelism} tasks, reads {reads}"]
    for statement in stage.statements:
        lines.append(f"  {statement.name} -> {name_text(statement.target)}")
        lines += ["    " + line for line in tree_text(statement.plan)]
    return lines


def _reads(stage: AppPlan) -> list[str]:
    """Streams that a stage's tasks read from the log."""
    written = {statement.target for statement in stage.statements}
    scanned = {scan.relation for statement in stage.statements for scan in scans_of(statement.plan)}
    return sorted(scanned - written)


def _relation_lines(source: SourcePlan) -> list[str]:
    spec = source.spec
    columns = ", ".join(f"{name_text(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in spec.columns)
    lines = [f"{spec.relation} {spec.name} ({columns})"]
    lines += [f"  {name_text(c.name)} {c.expr.type} as {expr_text(c.expr)}" for c in source.computed]
    if source.watermark is not None:
        lines.append(f"  watermark {name_text(source.watermark.column)} as {expr_text(source.watermark.expr)}")
    if source.idle_timeout_ms is not None:
        lines.append(f"  idle after {interval_text(source.idle_timeout_ms)}")
    if spec.primary_key:
        lines.append(f"  primary key {', '.join(spec.primary_key)}")
    lines += [f"  {key} {value}" for key, value in _traits(spec)]
    return lines


def _traits(spec: StreamSpec) -> list[tuple[str, str]]:
    """What differs from the plainest relation."""
    traits = []
    if spec.key and spec.key != spec.primary_key:
        traits.append(("key", ", ".join(spec.key)))
    if spec.partitions != 1:
        traits.append(("partitions", str(spec.partitions)))
    if spec.dedupe:
        traits.append(("dedupe", ", ".join(spec.dedupe)))
    if spec.retention_s is not None:
        traits.append(("retention", f"{spec.retention_s:g} s"))
    if spec.relation == "source" and not spec.archive:
        traits.append(("archive", "no"))
    if spec.max_ahead_s != 86_400.0:
        traits.append(("max ahead", f"{spec.max_ahead_s:g} s"))
    if spec.scope != f"{spec.name}:read":
        traits.append(("scope", spec.scope))
    for name, differs in (("unknown", spec.unknown != "ignore"), ("emit", spec.emit != "final")):
        if differs:
            traits.append((name, str(getattr(spec, name))))
    if spec.relation != "source":
        traits += [(name, "no") for name in ("publish", "store") if not getattr(spec, name)]
    return traits


def _relation_json(source: SourcePlan) -> dict[str, object]:
    spec = source.spec
    return {
        "name": spec.name,
        "relation": str(spec.relation),
        "columns": [{"name": c.name, "type": str(c.type), "nullable": c.nullable} for c in spec.columns],
        "computed": [{"name": c.name, "type": str(c.expr.type), "expr": expr_text(c.expr)} for c in source.computed],
        "watermark": None
        if source.watermark is None
        else {"column": source.watermark.column, "expr": expr_text(source.watermark.expr)},
        "primary_key": list(spec.primary_key),
        "time_column": spec.time_column,
        "key": list(spec.key),
        "partitions": spec.partitions,
        "publish": spec.publish,
        "store": spec.store,
        "scope": spec.scope,
        "retention_s": spec.retention_s,
        "dedupe": list(spec.dedupe),
        "unknown": spec.unknown,
        "max_ahead_s": spec.max_ahead_s,
        "emit": spec.emit,
        "idle_timeout_ms": source.idle_timeout_ms,
    }


def _statement_json(statement: Statement) -> dict[str, object]:
    return {
        "name": statement.name,
        "target": statement.target,
        "line": statement.span.line,
        "column": statement.span.column,
        "text": statement.text,
        "plan": _node_json(statement.plan),
    }


def _node_json(node: Node) -> dict[str, object]:
    found: dict[str, object] = {
        "node": type(node).__name__,
        "fields": [{"name": f.name, "type": str(f.type), "rowtime": f.rowtime} for f in node.fields],
    }
    match node:
        case Scan():
            found["relation"] = node.relation
        case Filter():
            found["predicate"] = expr_text(node.predicate)
        case Project():
            found["exprs"] = [expr_text(n.expr) for n in node.exprs]
        case WindowAssign():
            found |= {
                "kind": str(node.kind),
                "time_column": node.time_column,
                "size_ms": node.size_ms,
                "slide_ms": node.slide_ms,
                "offset_ms": node.offset_ms,
                "partition": list(node.partition),
            }
        case Aggregate():
            found |= {
                "keys": [{"name": k.name, "expr": expr_text(k.expr)} for k in node.keys],
                "window_columns": list(node.window_columns),
                "calls": [_call_json(c) for c in node.calls],
                "early": node.early,
                "lateness_ms": node.lateness_ms,
            }
        case GroupAggregate():
            found |= {"keys": [{"name": k.name, "expr": expr_text(k.expr)} for k in node.keys]}
            found |= {"calls": [_call_json(c) for c in node.calls], "ttl_ms": node.ttl_ms, "updating": updating(node)}
        case Expand():
            found |= {"keys": [{"name": k.name, "expr": expr_text(k.expr)} for k in node.keys]}
            found |= {"sets": [[node.keys[n].name for n in each] for each in node.sets]}
        case LookupJoin() | RegularJoin() | IntervalJoin() | TemporalJoin() | WindowJoin():
            found |= _join_json(node)
        case OverAggregate():
            found |= {"partition": list(node.partition), "time_column": node.time_column, "rows": node.rows}
            found |= {"preceding": node.preceding}
            found |= {"calls": [{"name": c.name, "function": c.function, "arg": _optional(c.arg),
                                 "type": str(c.type)} for c in node.calls]}  # fmt: skip
        case TopN() | WindowTopN():
            found |= {"partition": list(node.partition), "limit": node.limit}
            if isinstance(node, TopN):
                found["ranked"] = node.ranked
            found |= {"order": [{"column": k.column, "descending": k.descending} for k in node.order]}
        case ProcessingTime():
            found |= {"column": node.column}
        case Unnest():
            found |= {"collection": expr_text(node.collection), "names": list(node.names), "outer": node.outer}
            found |= {"ordinality": node.ordinality}
        case MatchRecognize():
            found |= match_json(node, expr_text, name_text)
        case Repartition():
            found |= {"route": node.route.value, "by": list(node.by)}
        case PartialAggregate() | FinalAggregate():
            found |= {"keys": [{"name": k.name, "expr": expr_text(k.expr)} for k in node.of.keys]}
            found |= {"combined": node.combined}
    found["inputs"] = [_node_json(one) for one in inputs_of(node)]
    return found


def _join_json(node: LookupJoin | RegularJoin | BoundedJoin) -> dict[str, object]:
    found: dict[str, object] = {
        "kind": str(node.kind),
        "left_keys": [expr_text(e) for e in node.left_keys],
        "residual": _optional(node.residual),
    }
    if isinstance(node, LookupJoin):
        table = {"table": node.table.name, "connector": node.table.connector}
        return found | table | {"key_columns": list(node.key_columns)}
    found["right_keys"] = [expr_text(e) for e in node.right_keys]
    if isinstance(node, IntervalJoin | TemporalJoin):
        found |= {"left_time": node.left_time, "right_time": node.right_time}
    if isinstance(node, IntervalJoin):
        found |= {"lower_ms": node.lower_ms, "upper_ms": node.upper_ms}
    return found


def _call_json(call: AggregateCall) -> dict[str, object]:
    return {
        "name": call.name,
        "function": call.function,
        "arg": _optional(call.arg),
        "options": list(call.options),
        "distinct": call.distinct,
        "filter": _optional(call.filter),
        "type": str(call.type),
    }


def _optional(expr: Expr | None) -> str | None:
    return None if expr is None else expr_text(expr)
