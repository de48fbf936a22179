"""Evaluation: metrics, protocols that compare variants of the method, tables and figures.

The metrics need nothing beyond the base install; figures need the ``evaluate`` extra.
"""
