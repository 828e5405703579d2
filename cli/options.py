"""The options of an edit as flags of a command, made from `EditOptions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from engine.fields import bounds
from engine.options import EditOptions

Command = Callable[..., None]


def with_options(command: Command) -> Command:
    """Give `command` a flag for each field of `EditOptions`.

    Its last parameter must be `**options: Any`; it receives the flags that were given, by field.
    """

    def run(**arguments: Any) -> None:
        options = {name: arguments.pop(name) for name in EditOptions.model_fields}
        command(**arguments, **{name: v for name, v in options.items() if v is not None})

    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters += [_flag(name, field) for name, field in EditOptions.model_fields.items()]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    """`--NAME` of the field's type, and `--no-NAME` of a switch; not given, it is None."""
    kind = _plain_type(field.annotation)
    dashed = name.replace("_", "-")
    choices = ", ".join(get_args(kind)) if get_origin(kind) is Literal else ""
    flag = typer.Option(
        f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}",
        help="; ".join(part for part in (field.description, bounds(field), choices) if part),
        metavar="NAME" if choices else None,
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, flag],
    )


def _plain_type(annotation: Any) -> Any:
    """`int` of `Annotated[int, ...] | None`."""
    if get_origin(annotation) is Literal:
        return annotation
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return _plain_type(parts[0]) if parts else annotation
