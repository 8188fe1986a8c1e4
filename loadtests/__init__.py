"""Benches: each compares with a baseline in the same run and prints the spread of a run against itself."""
