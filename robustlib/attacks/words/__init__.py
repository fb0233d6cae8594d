"""Attacks on text classifiers: a search over word substitutions, with the paper's four recipes."""
