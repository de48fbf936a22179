"""The type checker that the tests put on every function of ``--jaxtyping-packages``: types, and the shapes of arrays.

jaxtyping's wrapper binds the arguments of each call and checks them twice, and both it and beartype write and compile
code for every function that they are given, which a function inside of another one is at each call of that one. Here
types are resolved once for each piece of code, arguments and results are checked once, and a function inside of another
one gets the checks that were made for it the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial, update_wrapper, wraps
from inspect import isclass, isgeneratorfunction
from types import CellType, CodeType, FunctionType
from typing import Any, ForwardRef, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

# An int is a float, as PEP 484 says.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))

jaxtyped = jaxtyping.jaxtyped
templates: dict[tuple[str, str, CodeType], tuple[Any, bool]] = {}
"""The checks of a function, by its module, name and code, and whether there are arrays among its types: those inside of
others are defined again at every call.
"""


def is_array(hint: Any) -> bool:
    return (isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(is_array, get_args(hint)))


def is_open(hint: Any) -> bool:
    """Whether a name in it is not resolved."""
    return isinstance(hint, ForwardRef) or any(map(is_open, get_args(hint)))


def with_checks(function: FunctionType) -> Callable[..., Any]:
    """Raises ``NameError`` where a type is not defined, ``BeartypeDecorHintException`` where beartype refuses it."""
    key = function.__module__, function.__qualname__, function.__code__
    if key not in templates:
        hints = get_type_hints(function, include_extras=True)
        if any(map(is_open, hints.values())):
            raise NameError(f"{function.__qualname__}: a type is not defined")
        arrays = any(map(is_array, hints.values()))
        if arrays and isgeneratorfunction(function):
            # It runs when the shapes of its call are forgotten.
            return jaxtyped(function, typechecker=check)
        templates[key] = check(emptied(function, hints)), arrays
    template, arrays = templates[key]
    if not hasattr(template, "__wrapped__"):
        return function  # It has no types.
    checks = copy_of(template, template.__closure__)
    checks.__kwdefaults__ = template.__kwdefaults__ | {"__beartype_func": function}
    update_wrapper(checks, function)
    return with_shapes(checks) if arrays else checks


def emptied(function: FunctionType, hints: dict[str, Any]) -> FunctionType:
    """Without what it was defined around, which its checks would keep alive."""
    copy = copy_of(function, tuple(CellType() for _ in function.__closure__ or ()))
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, hints
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


def copy_of(function: FunctionType, closure: tuple[CellType, ...] | None) -> FunctionType:
    return FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, closure)


def with_shapes(function: FunctionType) -> Callable[..., Any]:
    """Axes of the same name have the same length in all arguments and results of a call."""

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        with jaxtyped("context"):
            return function(*given, **named)

    return call


def at_first_call(function: FunctionType) -> Callable[..., Any]:
    """For types that are defined below the function, as its own class is."""
    # It lets types pass that are not defined, or that beartype refuses: a generic named tuple, for example.
    lenient, found = jaxtyped(function, typechecker=check), list[Callable[..., Any]]()

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        if not found:
            try:
                found.append(with_checks(function))
            except (NameError, BeartypeDecorHintException):
                found.append(lenient)
        return found[0](*given, **named)

    return call


def checked(function: Any = None, *, typechecker: Any) -> Any:
    """In place of ``jaxtyping.jaxtyped``, which the import hook writes above each function and class."""
    if function is None:
        return partial(checked, typechecker=typechecker)
    if isclass(function):
        init = vars(function).get("__init__")
        if is_dataclass(function) and not hasattr(init, "__wrapped__") and isinstance(init, FunctionType):
            function.__init__ = checked(init, typechecker=typechecker)  # type: ignore[method-assign]
        return function
    if not isinstance(function, FunctionType):
        return jaxtyped(function, typechecker=typechecker)
    try:
        return with_checks(function)
    except NameError:
        return at_first_call(function)


jaxtyping.jaxtyped = checked  # type: ignore[assignment]
