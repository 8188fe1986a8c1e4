"""Stage 7: reads the log, drives operators, commits. Knows ports and operators, never the planner."""
