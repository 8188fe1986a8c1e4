"""Rewrite rules: functions from plan to plan that keep results and make less work. Each has before/after tests."""
