"""Tasks: an app that runs in parallel is several units of work, each with its own term, positions and state.

To the log a task is what an app is: `acquire`, `commit` and `positions` take its name wherever they take an app's.
The name says which app it belongs to: `app` (the whole app as one task), `app#<stage>.<partition>`, or
`app#<stream>.<partition>` for what delivers a stream to others.
"""

from __future__ import annotations

__all__ = ["app_of", "delivery_name", "task_name"]

_SEPARATOR = "#"


def task_name(app: str, stage: int, partition: int) -> str:
    """`app#<stage>.<partition>`: the part of `app` that runs `stage` over one partition of its inputs."""
    return f"{app}{_SEPARATOR}{stage}.{partition}"


def delivery_name(app: str, stream: str, partition: int) -> str:
    """`app#<stream>.<partition>`: what delivers a partition to others. Names of streams begin with a letter."""
    return f"{app}{_SEPARATOR}{stream}.{partition}"


def app_of(task: str) -> str:
    """The app that a task belongs to; an app's own name is its single task."""
    return task.partition(_SEPARATOR)[0]
