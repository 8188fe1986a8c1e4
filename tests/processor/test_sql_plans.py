"""Plans of right queries, as printed. `PENSTOCK_GOLDEN=write` rewrites the expected prints; read the difference."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock_processor.logical.explain import explain_json, explain_text
from penstock_processor.logical.plan import AppPlan, Node
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.rewrite import inputs_of

HERE = Path(__file__).parent / "sql"
ROOT = Path(__file__).parents[2]
PRELUDE = (HERE / "prelude.sql").read_text()
QUERIES = sorted((HERE / "queries").glob("*.sql"))
APPS = sorted([*(HERE / "apps").glob("*.sql"), *(ROOT / "examples").glob("*/app.sql")])


def compare(path: Path, found: str) -> None:
    if os.environ.get("PENSTOCK_GOLDEN") == "write":
        path.write_text(found)
    assert found == path.read_text()


def own_part(plan: AppPlan) -> str:
    """The print without the relations of the prelude."""
    blocks = explain_text(plan).split("\n\n")
    shared = {"source trades", "source quotes", "source settings"}
    return "\n\n".join(b for b in blocks if not any(b.startswith(s + " (") for s in shared)).rstrip() + "\n"


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_a_query_has_the_plan_that_was_read_and_approved(path: Path) -> None:
    plan = plan_app("app", path.read_text() + PRELUDE)
    compare(path.with_suffix(".txt"), own_part(plan))


@pytest.mark.parametrize("path", APPS, ids=lambda p: p.parent.name + "-" + p.stem)
def test_an_app_has_the_plan_that_was_read_and_approved(path: Path) -> None:
    name = path.parent.name if path.stem == "app" else path.stem
    compare(HERE / "apps" / f"{name}.txt", explain_text(plan_app(name, path.read_text())))


def test_the_examples_and_enough_queries_are_covered() -> None:
    assert len(QUERIES) >= 25
    assert {p.parent.name for p in APPS} >= {"earthquakes", "produce-markets"}


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_every_node_gives_the_fields_that_the_next_one_reads(path: Path) -> None:
    plan = plan_app("app", path.read_text() + PRELUDE)
    for statement in plan.statements:
        spec = plan.sources[statement.target].spec
        assert [(f.name, f.type) for f in statement.plan.fields] == [(c.name, c.type) for c in spec.columns]
        check_fields(statement.plan)


def check_fields(node: Node) -> None:
    from penstock_processor.logical.bounded_joins import WindowJoin, read_beside_keys
    from penstock_processor.logical.plan import Aggregate, Filter, IntervalJoin, Project, WindowAssign, WindowKind
    from penstock_processor.logical.rewrite import columns_read

    assert len({f.name for f in node.fields}) == len(node.fields)
    assert sum(f.rowtime for f in node.fields) <= 1
    for one in inputs_of(node):
        check_fields(one)
    below = {f.name for one in inputs_of(node) for f in one.fields}
    match node:
        case Project():
            assert columns_read(*(n.expr for n in node.exprs)) <= below
            assert [(f.name, f.type) for f in node.fields] == [(n.name, n.expr.type) for n in node.exprs]
        case Filter():
            assert columns_read(node.predicate) <= below
            assert node.fields == node.input.fields
        case WindowAssign():
            assert node.time_column in below
            assert set(node.partition) <= below
            added = () if node.kind is WindowKind.ATTACHED else ("window_start", "window_end", "window_time")
            assert [f.name for f in node.fields] == [*(f.name for f in node.input.fields), *added]
        case Aggregate():
            assert columns_read(*(k.expr for k in node.keys), *(c.arg for c in node.calls)) <= {
                f.name for f in node.input.fields
            }
        case IntervalJoin() | WindowJoin():
            left, right = read_beside_keys(node)
            assert columns_read(*node.left_keys) | left <= {f.name for f in node.left.fields}
            assert columns_read(*node.right_keys) | right <= {f.name for f in node.right.fields}
            shown = () if node.kind.left_alone else node.right_names
            assert [f.name for f in node.fields] == [*node.left_names, *shown]
            assert columns_read(node.residual) <= {*node.left_names, *node.right_names}
            assert len(node.left_names) == len(node.left.fields) and len(node.right_names) == len(node.right.fields)


def test_the_json_print_has_relations_statements_and_nodes() -> None:
    sql = (HERE / "queries" / "tumble.sql").read_text() + PRELUDE
    found = explain_json(plan_app("app", sql))
    assert list(found) == ["app", "settings", "relations", "statements"]
    relations = {r["name"]: r for r in found["relations"]}  # type: ignore[attr-defined, index]
    assert relations["per_minute"]["relation"] == "table"
    assert relations["trades"]["time_column"] == "ts"
    assert relations["trades"]["watermark"] == {"column": "ts", "expr": "(ts - INTERVAL 5 SECOND)"}
    statement = found["statements"][0]  # type: ignore[index]
    assert (statement["name"], statement["line"], statement["column"]) == ("per_minute", 3, 1)
    nodes = []
    node = statement["plan"]
    while node:
        nodes.append(node["node"])
        node = node["inputs"][0] if node["inputs"] else None
    assert nodes == ["Project", "Aggregate", "WindowAssign", "Project", "Scan"]
