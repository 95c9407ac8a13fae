"""Training of learned parts that stand beside a frozen model.

The model's own numbers are never changed here. torch comes with the extra `train` and is imported when a
command of this room runs; the base package does without it.
"""
