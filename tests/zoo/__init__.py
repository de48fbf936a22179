"""Tiny pipelines of every family: the true classes with shrunk configurations, random weights, true tokenizers."""
