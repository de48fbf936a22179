"""The type checker that the tests put on every function that takes tensors: shapes and types, at run time."""

from beartype import BeartypeConf, beartype

# An int is a float, as PEP 484 says.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
