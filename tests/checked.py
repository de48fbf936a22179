"""The type checker that the tests put on every function of ``--jaxtyping-packages``: types, and the shapes of arrays.

jaxtyping's wrapper binds the arguments of each call and checks them twice. Functions without arrays, which are nine of
ten, get beartype alone: the same checks, and a picture of a tiny model takes a third less time.
"""

from __future__ import annotations

from functools import partial
from inspect import isclass
from types import CodeType, FunctionType
from typing import Any, ForwardRef, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

# An int is a float, as PEP 484 says.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))

jaxtyped = jaxtyping.jaxtyped
plain: dict[CodeType, dict[str, Any] | None] = {}
"""The types of a function without arrays, by its code: those inside of others are made again at every call."""


def is_plain(hint: Any) -> bool:
    arrays = isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return not arrays and not isinstance(hint, ForwardRef) and all(map(is_plain, get_args(hint)))


def types_of(function: FunctionType) -> dict[str, Any] | None:
    """None where there are arrays, or names that are not defined yet: jaxtyping lets what has such a hint pass."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError:
        return None
    return hints if all(map(is_plain, hints.values())) else None


def checked(function: Any = None, *, typechecker: Any) -> Any:
    """In place of ``jaxtyping.jaxtyped``, which the import hook writes above each function and class."""
    if function is None:
        return partial(checked, typechecker=typechecker)
    if isinstance(function, FunctionType):
        code = function.__code__
        if code not in plain:
            plain[code] = types_of(function)
        if (hints := plain[code]) is not None:
            function.__annotations__ = hints
            return check(function)
    return jaxtyped(function, typechecker=typechecker)


jaxtyping.jaxtyped = checked  # type: ignore[assignment]
