"""Arrays and builtins out of a pickle, without running any of it.

The ground truth of JHMDB and UCF101-24 comes as pickles of dicts, lists, numbers, strings and numpy arrays. This module
reads the stream of operations itself and knows only those that build such values: four names of numpy are understood
as "an array" and "a type of numbers", every other name, and every call of anything else, is refused. Nothing is
imported or called by the file's wish, so a hostile file can at most be refused or be large.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trifocal.errors import InvalidInput

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ["load_plain_pickle"]

MOST_BYTES: Final = 1 << 30
_MARK: Final = object()


class _Array:
    """An array under construction: BUILD fills it."""

    value: np.ndarray[Any, Any] | None = None


class _Dtype:
    """A type of numbers: BUILD tells its byte order."""

    def __init__(self, code: str) -> None:
        if code.lstrip("<>|=")[:1] not in "biufS?":
            raise _refused(f"numbers of the type {code!r}")
        self.value = np.dtype(code)


class _Name:
    """A name that the file may use; what it stands for is decided here."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


_NAMES: Final = {
    ("numpy.core.multiarray", "_reconstruct"): "empty array",
    ("numpy._core.multiarray", "_reconstruct"): "empty array",
    ("numpy", "ndarray"): "array class",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy._core.numeric", "_frombuffer"): "buffer",
    ("numpy.core.numeric", "_frombuffer"): "buffer",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytes"): "bytes",
    ("collections", "OrderedDict"): "dict",
    ("collections", "defaultdict"): "dict",
    ("builtins", "list"): "list",
    ("__builtin__", "list"): "list",
}


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of builtins and numpy arrays.

    Args:
        path: the file; at most 1 GiB.

    Returns:
        The value; strings of Python 2 are given as text.

    Raises:
        InvalidInput: no such file, not a pickle, or one that holds or calls anything else; the message names it.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InvalidInput(f"{file.name} has more than {MOST_BYTES:,} bytes", remedy="It is no such label file.")
        data = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", remedy="Give the path of a pickle.") from error
    machine = _Machine()
    try:
        for operation, argument, place in pickletools.genops(data):
            machine.step(operation.name, argument, place or 0)
        return _finished(machine.result)
    except InvalidInput as error:
        raise InvalidInput(f"{file.name}: {error.message}", remedy=error.remedy) from error
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise InvalidInput(
            f"{file.name} is not a pickle that can be read: {error}", remedy="Fetch the file again."
        ) from error


def _refused(what: str) -> InvalidInput:
    return InvalidInput(
        f"the pickle holds {what}, and only builtins and numpy arrays are read",
        remedy="Use the ground-truth file as published.",
    )


class _Machine:
    """The stack machine of the format, for the operations that build plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def step(self, name: str, argument: Any, place: int) -> None:
        """Run one operation."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _TEXTS:
            self.stack.append(argument if isinstance(argument, str) else _text(argument))
        elif name in _ACTS:
            _ACTS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise _refused(f"the operation {name} at byte {place}")

    def since_mark(self) -> list[Any]:
        """Take what stands above the last mark, and the mark."""
        at = next(place for place in reversed(range(len(self.stack))) if self.stack[place] is _MARK)
        above = self.stack[at + 1 :]
        del self.stack[at:]
        return above

    def stop(self, _: Any) -> None:
        """The value on the top is the result."""
        self.result = self.stack.pop()

    def put(self, argument: Any) -> None:
        """Remember the top."""
        self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]

    def get(self, argument: Any) -> None:
        """Recall."""
        self.stack.append(self.memo[int(argument)])

    def name(self, argument: Any) -> None:
        """A name: known ones only."""
        if argument:
            module, _, attribute = str(argument).partition(" ")
        else:
            attribute, module = _plain_text(self.stack.pop()), _plain_text(self.stack.pop())
        known = _NAMES.get((module, attribute))
        if known is None:
            raise _refused(f"the name {module}.{attribute}")
        self.stack.append(_Name(known))

    def call(self, _: Any) -> None:
        """A call: what the known names stand for."""
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, _Name) or not isinstance(arguments, tuple):
            raise _refused("a call of something that is not known")
        self.stack.append(_made(what.kind, arguments))

    def build(self, _: Any) -> None:
        """The content of an array, the byte order of a type."""
        state, what = self.stack.pop(), self.stack[-1]
        if isinstance(what, _Array):
            _, shape, dtype, fortran, content = state
            raw = content if isinstance(content, bytes) else str(content).encode("latin1")
            flat = np.frombuffer(raw, dtype=dtype.value)
            what.value = flat.reshape(shape, order="F" if fortran else "C")
        elif isinstance(what, _Dtype):
            order = _plain_text(state[1])
            if any(part is not None for part in state[2:5]):
                raise _refused("an array of records")
            if order == "<" or order == ">":
                what.value = np.dtype(order + what.value.str[1:])
        else:
            raise _refused("the state of an object")

    def append(self, _: Any) -> None:
        """One onto a list."""
        value = self.stack.pop()
        self.stack[-1].append(value)

    def appends(self, _: Any) -> None:
        """Several onto a list."""
        values = self.since_mark()
        self.stack[-1].extend(values)

    def set_items(self, _: Any) -> None:
        """Several pairs into a dict."""
        values = self.since_mark()
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def set_item(self, _: Any) -> None:
        """One pair into a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][key] = value

    def dict(self) -> None:
        """A dict of the pairs since the mark."""
        values = self.since_mark()
        self.stack.append(dict(zip(values[::2], values[1::2], strict=True)))

    def gather(self, count: int) -> None:
        """A tuple of the top values."""
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        self.stack.append(tuple(values))


def _made(kind: str, arguments: tuple[Any, ...]) -> Any:
    """What a call of a known name gives."""
    if kind == "empty array":
        return _Array()
    if kind == "dtype":
        return _Dtype(_plain_text(arguments[0]))
    if kind == "scalar":
        dtype, content = arguments
        raw = content if isinstance(content, bytes) else str(content).encode("latin1")
        return np.frombuffer(raw, dtype=dtype.value)[0].item()
    if kind == "buffer":
        content, dtype, shape, order = arguments
        return np.frombuffer(content, dtype=dtype.value).reshape(shape, order=order)
    if kind == "bytes" and not arguments:
        return b""
    if kind == "encode":
        return str(arguments[0]).encode("latin1")
    if kind in ("dict", "list"):
        # A defaultdict's factory is not kept; its items follow by SETITEMS. An OrderedDict of Python 2 gives its pairs.
        given = arguments[0] if arguments and isinstance(arguments[0], list) else []
        return {pair[0]: pair[1] for pair in given} if kind == "dict" else list(given)
    raise _refused(f"a call of {kind}")


def _plain_text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _finished(value: Any) -> Any:
    """The value with arrays in the place of arrays under construction."""
    if isinstance(value, _Array):
        if value.value is None:
            raise _refused("an array without content")
        return value.value
    if isinstance(value, dict):
        return {_finished(key): _finished(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finished(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_finished(one) for one in value)
    if isinstance(value, _Name | _Dtype):
        raise _refused("a bare name")
    return value


_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_LITERALS: Final = frozenset(
    (
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
    )
)
_TEXTS: Final = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))
_ACTS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "STOP": _Machine.stop,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "TUPLE1": lambda machine, _: machine.gather(1),
    "TUPLE2": lambda machine, _: machine.gather(2),
    "TUPLE3": lambda machine, _: machine.gather(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "DICT": lambda machine, _: machine.dict(),
    "POP": lambda machine, _: machine.stack.pop(),
}
