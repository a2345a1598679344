"""Reads plain values out of a pickle without running it.

A pickle is a program that may call anything. Here its instructions are only listed, and those that build numbers, texts,
lists, tuples and dicts are followed; what it would import, call or construct stays a note of the words it says.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LARGEST = 2**28
"""Bytes of a pickle that is read."""

_MOST_ITEMS = 2**20


@dataclass(kw_only=True, eq=False)
class Noted:
    """Something that unpickling would import, call or construct, and that was not.

    Attributes:
        name: the global's module and name.
        arguments: it would be called with.
        state: it would be given afterwards.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass(kw_only=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def read_inert(data: bytes) -> Any:
    """Returns the value a pickle describes; numbers and arrays of NumPy come as `Noted`, for `plain` to decode.

    Raises:
        ValueError: it is damaged, larger than 256 MiB, or uses an instruction that is not followed.
    """
    if len(data) > LARGEST:
        raise ValueError(f"{len(data)} bytes are too many")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack.pop()
            _follow(machine, opcode.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error
    raise ValueError("it ends too early")


def plain(value: Any) -> Any:
    """Returns numbers and arrays of NumPy as lists and numbers, and tuples and lists as lists of these.

    Raises:
        ValueError: something else is in it, or more than a million items: a list may hold another many times, or itself.
    """
    try:
        return _plain(value, [_MOST_ITEMS])
    except RecursionError:
        raise ValueError("lists too deep in each other") from None


def _plain(value: Any, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"more than {_MOST_ITEMS} items")
    if isinstance(value, (list, tuple)):
        return [_plain(item, budget) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Noted) and value.name.startswith("numpy.") and value.name.endswith(".scalar"):
        dtype, data = value.arguments
        return np.frombuffer(data, dtype=_dtype(dtype), count=1)[0].item()
    if isinstance(value, Noted) and value.name.startswith("numpy.") and value.name.endswith("._reconstruct"):
        _, shape, dtype, first_axis_fastest, data = value.state
        array = np.frombuffer(data, dtype=_dtype(dtype))
        budget[0] -= array.size
        return array.reshape(shape, order="F" if first_axis_fastest else "C").tolist()
    if isinstance(value, Noted) and value.name.startswith("numpy.") and value.name.endswith("._frombuffer"):
        data, dtype, shape, order = value.arguments
        array = np.frombuffer(data, dtype=_dtype(dtype))
        budget[0] -= array.size
        return array.reshape(shape, order="F" if order == "F" else "C").tolist()
    raise ValueError(f"{getattr(value, 'name', type(value).__name__)} is no number")


def _dtype(noted: Any) -> np.dtype:
    code = noted.arguments[0] if isinstance(noted, Noted) and noted.name == "numpy.dtype" else ""
    if code not in {"i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "b1"}:
        raise ValueError(f"{code!r} is no type of numbers")
    order = noted.state[1] if noted.state else "<"
    return np.dtype(code).newbyteorder(">" if order == ">" else "<")


def _follow(machine: _Machine, name: str, argument: Any) -> None:
    stack = machine.stack
    if name in _PUSHING:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name]())
    elif name in _IGNORED:
        pass
    elif name == "MARK":
        machine.marks.append(len(stack))
    elif name in {"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"}:
        machine.memo[len(machine.memo) if argument is None else int(argument)] = stack[-1]
    elif name in {"BINGET", "LONG_BINGET", "GET"}:
        stack.append(machine.memo[int(argument)])
    elif name in _BUILDING:
        _BUILDING[name](machine)
    elif name == "GLOBAL":
        stack.append(Noted(name=str(argument).replace(" ", ".")))
    else:
        raise ValueError(f"instruction {name} is not followed")


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    held: dict[Any, Any] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        _set_item(held, key, value)
    return held


def _set_items(machine: _Machine) -> None:
    items = machine.since_mark()
    held = machine.stack[-1]
    if isinstance(held, dict):
        held.update(_dict_of(items))


def _set_item(held: dict[Any, Any], key: Any, value: Any) -> None:
    # A tuple of tuples may hold one of them many times, and would be hashed as often.
    is_flat = isinstance(key, tuple) and not any(isinstance(item, tuple) for item in key)
    held[key if is_flat or isinstance(key, (str, int, float)) else repr(type(key))] = value


def _set_one_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    if isinstance(machine.stack[-1], dict):
        _set_item(machine.stack[-1], key, value)


def _append_items(machine: _Machine) -> None:
    items = machine.since_mark()
    if isinstance(machine.stack[-1], list):
        machine.stack[-1].extend(items)


def _append_one(machine: _Machine) -> None:
    item = machine.stack.pop()
    if isinstance(machine.stack[-1], list):
        machine.stack[-1].append(item)


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def build(machine: _Machine) -> None:
        items = [machine.stack.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return build


def _note_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(Noted(name=f"{module}.{name}"))


def _note_call(machine: _Machine) -> None:
    arguments, called = machine.stack.pop(), machine.stack.pop()
    name = called.name if isinstance(called, Noted) else type(called).__name__
    machine.stack.append(Noted(name=name, arguments=arguments if isinstance(arguments, tuple) else (arguments,)))


def _note_state(machine: _Machine) -> None:
    state = machine.stack.pop()
    if isinstance(machine.stack[-1], Noted):
        machine.stack[-1].state = state


_PUSHING = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_IGNORED = frozenset({"PROTO", "FRAME"})
_BUILDING: dict[str, Callable[[_Machine], None]] = {
    "SETITEM": _set_one_item,
    "SETITEMS": _set_items,
    "APPEND": _append_one,
    "APPENDS": _append_items,
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.since_mark())),
    "DICT": lambda machine: machine.stack.append(_dict_of(machine.since_mark())),
    "LIST": lambda machine: machine.stack.append(machine.since_mark()),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DUP": lambda machine: machine.stack.append(machine.stack[-1]),
    "POP": lambda machine: machine.stack.pop() and None,
    "STACK_GLOBAL": _note_global,
    "REDUCE": _note_call,
    "NEWOBJ": _note_call,
    "BUILD": _note_state,
}
