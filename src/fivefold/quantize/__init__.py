"""Quantize: from a model's numbers to fewer bits, and into files that others read too."""
