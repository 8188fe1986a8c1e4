"""Patterns of rows (MATCH_RECOGNIZE): the automaton of a pattern, matches that have begun, conditions, results."""
