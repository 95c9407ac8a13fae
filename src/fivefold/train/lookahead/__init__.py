"""Lookahead modules: learned rows behind a prompt whose attention tells which entries an answer will need.

After LookaheadKV (arXiv 2603.10899).
"""
