"""Bench: honest measurement."""
