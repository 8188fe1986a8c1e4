"""Processor: streaming SQL from text to running operators, stage by stage."""
