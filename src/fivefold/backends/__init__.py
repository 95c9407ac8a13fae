"""Backends: who runs a step."""
