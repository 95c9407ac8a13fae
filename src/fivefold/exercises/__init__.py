"""Exercises: texts, and questions about them, to train and to measure learned parts of the cache."""
