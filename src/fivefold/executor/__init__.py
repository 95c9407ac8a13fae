"""Executor: native replay of a Program."""
