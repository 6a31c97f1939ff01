"""A Python function over arrays → machine code for this processor, by Numba."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_jitable, register_model

from streamtrain.native import Argument, Compiled
from streamtrain.native import intrinsics as words

_LANES = 8  # of a vector
_FUSED = ("contract",)  # a product and a sum may be one instruction


@intrinsic
def _load8(_: Any, data: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        word = builder.load(builder.bitcast(builder.gep(start, [arguments[1]]), ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


@intrinsic
def _zeros_below(_: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def _bytes_in(_: Any, data: Any, at: Any, first: Any, last: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, nothing = ir.IntType(8), ir.Constant(ir.VectorType(ir.IntType(8), 16), ir.Undefined)
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        sixteen = builder.load(builder.bitcast(builder.gep(start, [arguments[1]]), nothing.type.as_pointer()))
        sixteen.align = 1

        def sixteen_of(value: Any) -> Any:
            one = builder.insert_element(nothing, builder.trunc(value, byte), ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), 16), None))

        above_first = builder.sub(sixteen, sixteen_of(arguments[2]))
        inside = builder.icmp_unsigned("<=", above_first, sixteen_of(builder.sub(arguments[3], arguments[2])))
        return builder.zext(builder.bitcast(inside, ir.IntType(16)), ir.IntType(64))

    return types.uint64(data, types.int64, types.uint64, types.uint64), generate


@intrinsic
def _store(_: Any, pixels: Any, row: Any, pixel: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        row, pixel, word = arguments[1:]
        place = builder.add(builder.mul(row, builder.extract_value(array.shape, 1)), pixel)
        builder.store(word, builder.bitcast(builder.gep(array.data, [place]), word.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(pixels, types.int64, types.int64, word), generate


@intrinsic
def _prefetch(_: Any, pixels: Any, row: Any, pixel: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        row, pixel = arguments[1:]
        place = builder.add(builder.mul(row, builder.extract_value(array.shape, 1)), pixel)
        pointer, number = builder.gep(array.data, [place]), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(fetch, [pointer, *(ir.Constant(number, n) for n in (0, 3, 1))])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(pixels, types.int64, types.int64), generate


@overload(words.load8, strict=False)
def _compiled_load8(data: Any, at: Any) -> Callable[..., Any]:
    return lambda data, at: _load8(data, at)  # type: ignore[call-arg]  # numba adds the first


@overload(words.bytes_in, strict=False)
def _compiled_bytes_in(data: Any, at: Any, first: Any, last: Any) -> Callable[..., Any]:
    return lambda data, at, first, last: _bytes_in(data, at, first, last)  # type: ignore[call-arg]  # as above


@overload(words.zeros_below, strict=False)
def _compiled_zeros_below(word: Any) -> Callable[..., Any]:
    return lambda word: _zeros_below(word)  # type: ignore[call-arg]  # as above


@overload(words.store, strict=False)
def _compiled_store(pixels: Any, row: Any, pixel: Any, word: Any) -> Callable[..., Any]:
    return lambda pixels, row, pixel, word: _store(pixels, row, pixel, word)  # type: ignore[call-arg]  # as above


@overload(words.prefetch, strict=False)
def _compiled_prefetch(pixels: Any, row: Any, pixel: Any) -> Callable[..., Any]:
    return lambda pixels, row, pixel: _prefetch(pixels, row, pixel)  # type: ignore[call-arg]  # as above


_GENERATED = (words.load8, words.bytes_in, words.zeros_below, words.store, words.prefetch)


@functools.cache
def _known(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after what it calls of its module and itself were made known to Numba."""
    for name in function.__code__.co_names:
        called = function.__globals__.get(name)
        if inspect.isfunction(called) and called not in _GENERATED:
            _known(called)
    known: Callable[..., Any] = register_jitable(forceinline=True)(function)  # half as fast with calls
    return known


class Run(types.Type):
    """So many float32 that lie together, as one value."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"run{lanes}")


@register_model(Run)
class _RunModel(models.PrimitiveModel):
    """Vectors of _LANES, each of which a register or two hold."""

    def __init__(self, manager: Any, run: Run) -> None:
        vector = ir.VectorType(ir.FloatType(), _LANES)
        super().__init__(manager, run, ir.ArrayType(vector, run.lanes // _LANES))  # type: ignore[no-untyped-call]  # Numba


def _vector_by_vector(builder: Any, made: Callable[..., Any], *runs: Any) -> Any:
    """The run of what is made of each vector of some runs."""
    result = ir.Constant(runs[0].type, ir.Undefined)
    for i in range(result.type.count):
        result = builder.insert_value(result, made(*(builder.extract_value(run, i) for run in runs)), i)
    return result


@intrinsic
def _sum(_: Any, run: Any, other: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _vector_by_vector(builder, functools.partial(builder.fadd, flags=_FUSED), *arguments)

    return run(run, other), generate


@intrinsic
def _multiple(_: Any, number: Any, run: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, run = arguments
        nothing = ir.Constant(run.type.element, ir.Undefined)
        one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
        factor = builder.shuffle_vector(one, nothing, all_lanes)
        return _vector_by_vector(builder, functools.partial(builder.fmul, factor, flags=_FUSED), run)

    return run(types.float32, run), generate


@overload(operator.add, strict=False)
def _compiled_add(run: Any, other: Any) -> Callable[..., Any] | None:
    if isinstance(run, Run) and run == other:
        return lambda run, other: _sum(run, other)  # type: ignore[call-arg]  # as above
    return None


@overload(operator.mul, strict=False)
def _compiled_mul(number: Any, run: Any) -> Callable[..., Any] | None:
    if number == types.float32 and isinstance(run, Run):
        return lambda number, run: _multiple(number, run)  # type: ignore[call-arg]  # as above
    return None


def build(function: Compiled) -> tuple[str, list[str], bytes]:
    """The name of the entry, the symbols that it leaves open, and the machine code.

    The entry takes a pointer and the lengths of an array, and a number as it is.
    """
    names: list[str] = []
    kinds: list[Any] = []
    passed: list[str] = []
    for i, (dtype, dimensions, lanes) in enumerate(map(Argument.of, function.arguments)):
        lengths = [f"n{i}_{d}" for d in range(dimensions)]
        element = Run(lanes) if lanes else getattr(types, dtype)
        names += [f"a{i}", *lengths]
        kinds += [vars(types)["CPointer"](element), *[types.int64] * len(lengths)] if lengths else [element]
        passed.append(f"carray(a{i}, ({', '.join(lengths)},))" if lengths else f"a{i}")
    scope: dict[str, Any] = {"carray": vars(numba)["carray"], "function": _known(function.py_func)}
    exec(f"def entry({', '.join(names)}):\n    return function({', '.join(passed)})", scope)
    signature = getattr(types, function.returns)(*kinds)
    compiled = numba.cfunc(signature, error_model="numpy")(scope["entry"])
    module = llvm.parse_assembly(compiled.inspect_llvm())
    open_names = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic"
    )
    return compiled.native_name, open_names, machine.emit_object(module)


def main(module: str, name: str, arguments: Sequence[str], returns: str) -> None:
    """Write what `build` makes of a module's function to standard output, the code last."""
    function = Compiled(getattr(importlib.import_module(module), name), arguments, returns)
    entry, unresolved, code = build(function)
    sys.stdout.buffer.write(json.dumps([entry, unresolved]).encode() + b"\n" + code)
