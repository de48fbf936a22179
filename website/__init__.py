"""The documentation site: pages written by hand are in ``docs/``; this package generates the parts made from code."""
