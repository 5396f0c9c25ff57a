"""Arrays of the stand-in: NumPy's values behind a type that NumPy's arrays do not mix with.

Each name, and each parameter of it, is one that CuPy has (`names.py` compares them). Stricter
than CuPy where CuPy would copy an array of the host silently: as an index, or assigned.
"""

import sys
from collections.abc import Callable

import numpy as np

from tests.standin.machine import RUBBISH, Machine, counted, done

NO_COPY = "Implicit conversion to a NumPy array is not allowed. Please use `.get()`"


def wrapped(value: object) -> "ndarray":
    """A result as an array of the current device."""
    made = object.__new__(ndarray)
    made._a = value if isinstance(value, np.ndarray) else np.asarray(value)
    made._device = Machine.now.current
    Machine.now.hold(made._a)
    made._pooled = Machine.now.taken(made._a)
    return made


def _made(compute: Callable[[], object]) -> "ndarray":
    """The result of work on values, as an array of the device."""
    made = wrapped(compute())
    if Machine.now.capture:
        values = made._a  # not the array itself, whose memory is free when nobody has it any more
        Machine.now.capture.work.append(lambda: np.copyto(values, compute()))
    return made


def _seen(array: "ndarray", view: Callable[[np.ndarray], np.ndarray]) -> "ndarray":
    """Another view of an array, which is no work; or a copy, which is."""
    values = view(array._a)
    if values.size and not np.may_share_memory(array._a, values):
        counted("copy")
        of = unwrapped(array)
        return _made(lambda: view(of))
    return wrapped(values)


def unwrapped(value: object) -> object:
    """The values of an operand: an array of the current device, or a scalar."""
    if isinstance(value, ndarray):
        if value._device != Machine.now.current:
            raise ValueError(
                "Array device must be same as the current device: array device = "
                f"{value._device} while current = {Machine.now.current}"
            )
        Machine.now.use(value._a)
        return value._a
    if value is None or isinstance(value, bool | int | float | complex | np.generic):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def _index(index: object) -> tuple:
    """An index with arrays of the device in it, as NumPy takes it; a view where it can be."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    for part in parts:
        known = slice | int | np.integer | ndarray | type(None) | type(Ellipsis)
        if not isinstance(part, known) or isinstance(part, bool):
            raise TypeError(f"{type(part)} as an index: CuPy would copy it to the device")
    return tuple(unwrapped(p) if isinstance(p, ndarray) else p for p in parts)


def _fetch(array: np.ndarray) -> np.ndarray:
    Machine.now.uncaptured("D2H transfers are disallowed")
    Machine.now.fetched.append(array.nbytes)
    return array.copy()


class MemoryPointer:
    """Where an array begins."""

    def __init__(self, ptr):
        self.ptr = ptr


class ndarray:  # noqa: N801
    __array_priority__ = 100
    __hash__ = None

    def __array__(self, *args, **kwargs):
        raise TypeError(NO_COPY)

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} of an array of the device")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or ufunc.__name__ not in UFUNCS:
            return NotImplemented
        return UFUNCS[ufunc.__name__](*inputs, **kwargs)

    def __del__(self):
        if getattr(self, "_pooled", None):
            self._pooled.drop()

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, slices):
        index = _index(slices)
        chosen = [i for i in index if isinstance(i, np.ndarray)]
        if any(i.dtype == bool for i in chosen):
            counted("nonzero")
            Machine.now.uncaptured("synchronous API calls are disallowed")
            Machine.now.fetched.append(8)  # CuPy asks how many there are
        if not chosen:
            return _seen(self, lambda a: a[index])
        counted("take")
        a = unwrapped(self)
        return _made(lambda: a[index])

    def __setitem__(self, slices, value):
        counted("assign")
        a, index, given = unwrapped(self), _index(slices), unwrapped(value)
        done(lambda: a.__setitem__(index, given))

    def __repr__(self):
        return f"standin({self._a!r})"

    def __bool__(self):
        return bool(_fetch(unwrapped(self)))

    def __int__(self):
        return int(_fetch(unwrapped(self)))

    def __float__(self):
        return float(_fetch(unwrapped(self)))

    shape = property(lambda self: self._a.shape)
    device = property(lambda self: sys.modules["cupy"].cuda.Device())
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    flags = property(lambda self: self._a.flags)
    data = property(lambda self: MemoryPointer(unwrapped(self).ctypes.data))
    T = property(lambda self: self.transpose())

    def get(self, stream=None, order="C", out=None, blocking=True):
        return _fetch(unwrapped(self))

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError("Shape mismatch")
        if not self._a.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        Machine.now.copy(self._a, arr, stream)

    def item(self):
        return _fetch(unwrapped(self)).item()

    def tolist(self):
        return _fetch(unwrapped(self)).tolist()

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        a = unwrapped(self)
        if not copy and a.dtype == dtype:
            return self
        counted("astype")
        return _made(lambda: a.astype(dtype, order))

    def copy(self, order="C"):
        counted("copy")
        a = unwrapped(self)
        return _made(lambda: a.copy(order))

    def fill(self, value):
        counted("fill")
        a, given = unwrapped(self), unwrapped(value)
        done(lambda: a.fill(given))

    def reshape(self, *shape, order="C", copy=None):
        return _seen(self, lambda a: a.reshape(*shape, order=order))

    def ravel(self, order="C"):
        return _seen(self, lambda a: a.ravel(order))

    def transpose(self, *axes):
        return _seen(self, lambda a: a.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return _seen(self, lambda a: a.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return _seen(self, lambda a: a.squeeze(axis))

    def view(self, dtype=None, type=None):
        return _seen(self, lambda a: a.view(dtype) if dtype else a[...])

    def clip(self, min=None, max=None, out=None):
        counted("clip")
        a, least, most = unwrapped(self), unwrapped(min), unwrapped(max)
        return _made(lambda: a.clip(least, most))

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return _reduced("sum", self, axis, keepdims, dtype=dtype)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return _reduced("mean", self, axis, keepdims, dtype=dtype)

    def std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
        return _reduced("std", self, axis, keepdims, dtype=dtype, ddof=ddof)

    def var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
        return _reduced("var", self, axis, keepdims, dtype=dtype, ddof=ddof)

    def max(self, axis=None, out=None, keepdims=False):
        return _reduced("max", self, axis, keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return _reduced("min", self, axis, keepdims)

    def any(self, axis=None, out=None, keepdims=False):
        return _reduced("any", self, axis, keepdims)

    def all(self, axis=None, out=None, keepdims=False):
        return _reduced("all", self, axis, keepdims)

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return _reduced("argmax", self, axis, keepdims)


def _reduced(name, array, axis, keepdims, **more):
    counted(name)
    more = {key: value for key, value in more.items() if value is not None}
    a = unwrapped(array)
    return _made(lambda: getattr(np, name)(a, axis=axis, keepdims=keepdims, **more))


class ufunc:  # noqa: N801
    """An operation element by element: `(*inputs, out=None, casting, dtype)`."""

    def __init__(self, name):
        self._np, self.__name__ = getattr(np, name), name

    def __call__(self, *args, out=None, casting="same_kind", dtype=None):
        if len(args) > self._np.nin:
            *args, out = args
        if all(not isinstance(a, ndarray) for a in (*args, out)):
            raise TypeError(f"cupy.{self.__name__} of {', '.join(str(type(a)) for a in args)}")
        counted(self.__name__)
        given = [unwrapped(a) for a in args]
        if out is not None:
            into = unwrapped(out)
            done(lambda: self._np(*given, out=into, casting=casting, dtype=dtype))
            return out
        return _made(lambda: self._np(*given, casting=casting, dtype=dtype))

    def at(self, a, indices, b=None):
        counted(f"{self.__name__}.at")  # by atomics, in any order
        given = unwrapped(a), unwrapped(indices), unwrapped(b)
        done(lambda: self._np.at(*given))


ONE = "negative absolute sqrt exp log sign isfinite logical_not square tanh cos sin"
TWO = """add subtract multiply true_divide floor_divide remainder power maximum minimum equal
not_equal less less_equal greater greater_equal logical_and logical_or bitwise_and bitwise_or
bitwise_xor right_shift"""
UFUNCS = {name: ufunc(name) for name in (*ONE.split(), *TWO.split(), "invert")}
UFUNCS["divide"] = UFUNCS["true_divide"]


def _operators() -> None:
    pairs = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
        "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "and": "bitwise_and",
        "or": "bitwise_or", "xor": "bitwise_xor", "rshift": "right_shift",
        "lt": "less", "le": "less_equal",
        "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
    }  # fmt: skip
    for short, name in pairs.items():
        of = UFUNCS[name]
        setattr(ndarray, f"__{short}__", lambda self, other, of=of: of(self, other))
        if short not in ("lt", "le", "gt", "ge", "eq", "ne"):
            setattr(ndarray, f"__r{short}__", lambda self, other, of=of: of(other, self))
            setattr(ndarray, f"__i{short}__", lambda self, other, of=of: of(self, other, self))
    for short, name in {"neg": "negative", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{short}__", lambda self, of=UFUNCS[name]: of(self))
    ndarray.__matmul__ = lambda self, other: matmul(self, other)


_operators()


def _rubbish(shape, dtype, order="C"):
    made = np.empty(shape, dtype, order)
    if not Machine.now.idle:
        made.ravel("K").view(np.uint8)[...] = RUBBISH
    return wrapped(made)


def empty(shape, dtype=float, order="C"):
    return _rubbish(shape, dtype)


def zeros(shape, dtype=float, order="C"):
    counted("fill")
    return _made(lambda: np.zeros(shape, dtype))


def ones(shape, dtype=float):
    counted("fill")
    return _made(lambda: np.ones(shape, dtype))


def full(shape, fill_value, dtype=None, order="C"):
    counted("fill")
    value = unwrapped(fill_value)
    return _made(lambda: np.full(shape, value, dtype))


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    a = unwrapped(prototype)
    return _rubbish(a.shape if shape is None else shape, dtype or a.dtype)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    counted("fill")
    like = unwrapped(a)
    return _made(lambda: np.zeros_like(like, dtype, shape=shape))


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    counted("fill")
    like = unwrapped(a)
    return _made(lambda: np.ones_like(like, dtype, shape=shape))


def arange(start, stop=None, step=1, dtype=None):
    counted("arange")
    given = (start,) if stop is None else (start, stop, step, dtype)
    return _made(lambda: np.arange(*given))


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if isinstance(obj, ndarray):
        return obj.astype(dtype or obj.dtype, copy=bool(copy))
    host = np.asarray(obj, dtype)
    if order == "K":  # what lies column by column stays so
        order = "F" if host.flags.f_contiguous and not host.flags.c_contiguous else "C"
    made = _rubbish(host.shape, host.dtype, order)
    Machine.now.copy(made._a, host if not isinstance(obj, np.ndarray) else obj, None)
    return made


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, bool(copy), order or "K")


def ascontiguousarray(a, dtype=None):
    if not isinstance(a, ndarray):
        raise TypeError(f"ascontiguousarray takes an array of the device, got {type(a)}")
    made = array(a, dtype, copy=False)
    return made if made.flags.c_contiguous else made.copy()


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _function(name, *arrays, **more):
    counted(name)
    given = [unwrapped(a) for a in arrays]
    return _made(lambda: getattr(np, name)(*given, **more))


def where(condition, x=None, y=None):
    if x is None:
        return nonzero(condition)
    return _function("where", condition, x, y)


def nonzero(a):
    counted("nonzero")
    Machine.now.uncaptured("synchronous API calls are disallowed")
    Machine.now.fetched.append(8)
    return tuple(wrapped(found) for found in np.nonzero(unwrapped(a)))


def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    counted("concatenate")
    given = _several(tup)
    return _made(lambda: np.concatenate(given, axis, dtype=dtype))


def _several(arrays):
    """Values of arrays that are put together; of many CuPy copies the addresses to the device."""
    given = [unwrapped(a) for a in arrays]
    if len(given) > 8 and len({a.dtype for a in given}) == 1:
        Machine.now.uncaptured("H2D transfers are disallowed")
    return given


def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    counted("stack")
    given = _several(tup)
    return _made(lambda: np.stack(given, axis, dtype=dtype))


def broadcast_to(array, shape):
    return wrapped(np.broadcast_to(unwrapped(array), shape))


def repeat(a, repeats, axis=None):
    return _function("repeat", a, repeats=repeats, axis=axis)


def tile(A, reps):
    return _function("tile", A, reps=reps)


def pad(array, pad_width, mode="constant"):
    return _function("pad", array, pad_width=pad_width, mode=mode)


def argsort(a, axis=-1, kind=None):
    if kind not in (None, "stable"):
        raise ValueError(f"kind can only be None or 'stable', got {kind}")
    return _function("argsort", a, axis=axis, kind="stable")


def searchsorted(a, v, side="left", sorter=None):
    if not isinstance(v, ndarray | int | float):
        raise NotImplementedError("Only python scalars or ndarrays are supported for v")
    return _function("searchsorted", a, v, side=side)


def bincount(x, weights=None, minlength=None):
    Machine.now.uncaptured("synchronous API calls are disallowed")
    Machine.now.fetched += [1, 8]  # CuPy looks for negative numbers, and for the largest
    return _function("bincount", x, weights, minlength=minlength or 0)


def copyto(dst, src, casting="same_kind", where=None):
    counted("copy")
    into, given = unwrapped(dst), unwrapped(src)
    done(lambda: np.copyto(into, given, casting))


def matmul(*args, out=None):
    counted("matmul")
    Machine.now.no_cublas()
    if out is not None:
        np.matmul(*map(unwrapped, args), out=unwrapped(out))
        return out
    return wrapped(np.matmul(*map(unwrapped, args)))


def einsum(*operands):
    counted("einsum")
    Machine.now.no_cublas()
    return wrapped(np.einsum(operands[0], *map(unwrapped, operands[1:])))


def vdot(a, b):
    Machine.now.no_cublas()
    return _function("vdot", a, b)


def sum(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.sum(axis, dtype, None, keepdims)


def mean(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.mean(axis, dtype, None, keepdims)


def max(a, axis=None, out=None, keepdims=False):
    return a.max(axis, None, keepdims)


def sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False):
    view = np.lib.stride_tricks.sliding_window_view(unwrapped(x), window_shape, axis)
    return wrapped(view)
