"""`@step` and `@pipeline`: functions that, called while a graph is built, note the call instead of making it.

    @step
    def load(dataset: str) -> pl.DataFrame: ...

    @pipeline
    def train(dataset: str = "dataset:flights", trees: int = 100):
        return {"model": fit(load(dataset), trees)}

Called anywhere else, both are the plain functions that they decorate, so that a step can be tested like any function.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from loopwright.core import Invalid
from loopwright.pipeline.model import Argument, Entries, FromStep, Graph, Items, Literal, StepCall, StepOptions

P = ParamSpec("P")
R = TypeVar("R")


class Output:
    """Stands for what a step will make. Select inside it with `[...]`; its value is known only to the steps."""

    def __init__(self, step: str, path: tuple[str | int, ...] = ()) -> None:
        self._step, self._path = step, path

    def __getitem__(self, key: str | int) -> Output:
        return Output(self._step, (*self._path, key))

    def __iter__(self) -> Any:
        raise Invalid(
            f"the output of step {self._step!r} cannot be unpacked while the pipeline is built",
            next_step="select its parts with output[0] or output['name']",
        )

    def __bool__(self) -> bool:
        raise Invalid(
            f"the output of step {self._step!r} is not known while the pipeline is built",
            next_step="decide inside a step, or by a parameter of the pipeline",
        )

    def as_argument(self) -> FromStep:
        """The reference to it in a graph."""
        return FromStep(self._step, self._path)


class _Builder:
    """Collects the calls of one graph."""

    def __init__(self) -> None:
        self.calls: list[StepCall] = []
        self._names: dict[str, int] = {}

    def add(self, step: Step[..., Any], arguments: Mapping[str, Any]) -> Output:
        name = self._free_name(step.name)
        values = {key: as_argument(value, f"{name}({key}=…)") for key, value in arguments.items()}
        self.calls.append(StepCall(name, step.ref, values, step.options))
        return Output(name)

    def _free_name(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"


_builder: ContextVar[_Builder | None] = ContextVar("loopwright_graph", default=None)


class Step(Generic[P, R]):
    """A function that a pipeline can run in a worker process, with its output cached."""

    def __init__(self, function: Callable[P, R], options: StepOptions) -> None:
        functools.update_wrapper(self, function)
        self.function, self.options = function, options
        self.name = function.__name__

    @property
    def ref(self) -> str:
        """`module:name`."""
        return _ref_of(self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        builder = _builder.get()
        if builder is None:
            return self.function(*args, **kwargs)
        try:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise Invalid(f"step {self.name!r} cannot be called like this: {error}") from None
        bound.apply_defaults()
        return cast(R, builder.add(self, _plain_arguments(self, bound)))


class Pipeline(Generic[P, R]):
    """A function that calls steps, and so describes a graph of them."""

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__

    @property
    def ref(self) -> str:
        """`module:name`."""
        return _ref_of(self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def bind(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with their values: the given ones converted to their annotated types, defaults for the rest.

        Raises:
            Invalid: a parameter is unknown, missing, or of another type.
        """
        signature = inspect.signature(self.function)
        unknown = sorted(params.keys() - signature.parameters.keys())
        if unknown:
            known = ", ".join(signature.parameters) or "none"
            raise Invalid(
                f"pipeline {self.name!r} has no parameter {unknown[0]!r}", next_step=f"its parameters: {known}"
            )
        types = _types_of(self.function)
        return {
            name: self._value(name, parameter, params, types.get(name, Any))
            for name, parameter in signature.parameters.items()
        }

    def _value(self, name: str, parameter: inspect.Parameter, params: Mapping[str, Any], kind: Any) -> Any:
        if name not in params:
            if parameter.default is inspect.Parameter.empty:
                raise Invalid(f"pipeline {self.name!r} needs the parameter {name!r}", next_step=f"give {name}=VALUE")
            return parameter.default
        try:
            return msgspec.convert(params[name], kind, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(f"parameter {name!r} of pipeline {self.name!r}: {error}") from None
        except TypeError:
            return params[name]

    def build(self, params: Mapping[str, Any]) -> Graph:
        """The graph for these parameters, all of which must be given.

        Raises:
            Invalid: the pipeline calls no step, or gives a step what cannot be handed on.
        """
        builder = _Builder()
        token = _builder.set(builder)
        try:
            function: Callable[..., Any] = self.function
            handed_out = function(**params)
        finally:
            _builder.reset(token)
        if not builder.calls:
            raise Invalid(
                f"pipeline {self.name!r} calls no step", next_step="decorate the functions that it calls with @step"
            )
        return Graph(self.ref, tuple(builder.calls), _outputs(handed_out))


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, cache: bool = True, effect: bool = False, retries: int = 0, timeout_s: float | None = None
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    cache: bool = True,
    effect: bool = False,
    retries: int = 0,
    timeout_s: float | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step.

    Args:
        cache: whether an output made before from the same code, environment and inputs may be used.
        effect: the step is called for what it does to the world, such as registering a model. It is never cached, and
            a reproduction takes its recorded output instead of doing it again.
        retries: how often to try again when it raises, runs out of time or its process dies.
        timeout_s: after so many seconds its process is killed.
    """
    options = StepOptions(cache and not effect, effect, retries, timeout_s)
    if function is not None:
        return Step(function, options)
    return lambda decorated: Step(decorated, options)


def pipeline(function: Callable[P, R]) -> Pipeline[P, R]:
    """Make a function a pipeline: it calls steps and hands out some of their outputs."""
    return Pipeline(function)


def as_argument(value: Any, where: str) -> Argument:
    """A value that a pipeline gives to a step, as a node of the graph.

    Raises:
        Invalid: it is neither the output of a step nor something that JSON can hold.
    """
    if isinstance(value, Output):
        return value.as_argument()
    if isinstance(value, list | tuple) and _holds_output(value):
        return Items(tuple(as_argument(item, where) for item in value))
    if isinstance(value, dict) and _holds_output(value):
        return Entries({str(key): as_argument(item, where) for key, item in value.items()})
    try:
        return Literal(msgspec.to_builtins(value))
    except TypeError:
        raise Invalid(
            f"a pipeline cannot hand on a {type(value).__name__}",
            where=where,
            next_step="make it inside a step, or give a number, a text, a list or a mapping",
        ) from None


def _holds_output(value: Any) -> bool:
    if isinstance(value, Output):
        return True
    if isinstance(value, dict):
        return any(_holds_output(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_holds_output(item) for item in value)


def _outputs(value: Any) -> dict[str, Argument]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(key): as_argument(item, f"output {key!r}") for key, item in value.items()}
    if isinstance(value, tuple):
        return {str(number): as_argument(item, f"output {number}") for number, item in enumerate(value)}
    return {"result": as_argument(value, "output")}


def _plain_arguments(step: Step[..., Any], bound: inspect.BoundArguments) -> dict[str, Any]:
    parameters = bound.signature.parameters
    for name in bound.arguments:
        if parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise Invalid(f"step {step.name!r} takes *{name}", next_step="give each of its parameters a name")
    return dict(bound.arguments)


def _types_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return inspect.get_annotations(function, eval_str=True)
    except NameError:
        return {}


def _ref_of(function: Callable[..., Any]) -> str:
    name = function.__qualname__
    if "<" in name:
        raise Invalid(
            f"{name!r} is defined inside a function", next_step="define steps and pipelines at the top of a module"
        )
    return f"{_module_of(function)}:{name}"


def _module_of(function: Callable[..., Any]) -> str:
    """The module that another process can import; a script that is run is one under its file's name."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    file = getattr(main, "__file__", None)
    if file is None:
        raise Invalid(
            f"{function.__qualname__!r} is defined in no file", next_step="write steps and pipelines in a module"
        )
    return Path(file).stem
