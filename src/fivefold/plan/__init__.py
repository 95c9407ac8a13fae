"""Plan: what a Program costs. Takes a Program; knows no family and no kernel."""

from .roofline import least_seconds, step_cost

__all__ = ["least_seconds", "step_cost"]
