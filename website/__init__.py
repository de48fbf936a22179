"""The documentation site: what is written by hand is in ``docs/``, what is made of the code is made here."""
