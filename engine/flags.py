"""Fields of a model as flags of a command: an option or a setting is declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from engine.fields import bounds
from engine.options import EditOptions

Command = Callable[..., None]


def with_lists(command: Command) -> Command:
    """Give `command` a flag for each field of `EditOptions`, as text that may be a list: `1,3,7`.

    A switch stays one. See `with_flags`.
    """
    return with_flags((EditOptions, EditOptions.model_fields), as_lists=True)(command)


def with_flags(
    *groups: tuple[type[BaseModel], Iterable[str]],
    as_lists: bool = False,
) -> Callable[[Command], Command]:
    """Give a command a flag for each of these fields, with the field's type and description.

    The command's last parameter must be `**flags: Any`; it receives those that were given, by
    field.
    """
    fields = {name: model.model_fields[name] for model, names in groups for name in names}

    def decorate(command: Command) -> Command:
        def run(**arguments: Any) -> None:
            flags = {name: arguments.pop(name) for name in fields}
            command(**arguments, **{name: v for name, v in flags.items() if v is not None})

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters += [_flag(name, field, as_lists) for name, field in fields.items()]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _flag(name: str, field: FieldInfo, as_list: bool) -> inspect.Parameter:
    """`--NAME` of the field's type, and `--no-NAME` of a switch; not given, it is None. That of a
    tuple may be given again. A field that has other names has them as flags too."""
    kind = _plain_type(field.annotation)
    alias = field.validation_alias
    names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [name]
    dashed = [f"--{one.replace('_', '-')}" for one in names]
    choices = ", ".join(get_args(kind)) if get_origin(kind) is Literal else ""
    listed = as_list and kind is not bool
    flag = typer.Option(
        *([f"{one}/--no-{one[2:]}" for one in dashed] if kind is bool else dashed),
        help="; ".join(part for part in (field.description, bounds(field), choices) if part),
        metavar="VALUE,..." if listed else "NAME" if choices else None,
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[(str if listed else kind) | None, flag],
    )


def _plain_type(annotation: Any) -> Any:
    """`int` of `Annotated[int, ...] | None`."""
    if get_origin(annotation) is Literal:
        return annotation
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:  # a flag that may be given again
        inner = _plain_type(get_args(annotation)[0])
        return list[str] if get_origin(inner) is Literal else list[inner]  # type: ignore[valid-type]
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return _plain_type(parts[0]) if parts else annotation
