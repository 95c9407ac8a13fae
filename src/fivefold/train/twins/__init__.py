"""Twins: two small models of one shape and one training text, one of which writes by block diffusion.

What they are for and how they are compared is decision 16; how they are made, docs/twins.md.
"""
