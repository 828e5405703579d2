"""Values from outside as pydantic models: the first fault is one sentence with the field's name."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from engine.errors import OptionError, OptionInvalid, OptionUnknown

M = TypeVar("M", bound=BaseModel)

MAX_SHOWN = 80  # characters that a message repeats of what was sent


def validate(model: type[M], values: Mapping[str, Any], *, strict: bool = True) -> M:
    """Check `values` as a `model`; raises `OptionError` with the first fault in one sentence."""
    try:
        return model.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        raise _option_error(error.errors(), model) from None


def read_yaml(path: str | Path, param: str) -> dict[str, Any]:
    """Read the keys of a YAML file, none where it is empty; raises `OptionInvalid`."""
    try:
        loaded = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's own has lines
        raise OptionInvalid(f"cannot read {path}: {reason}", param=param) from None
    if not isinstance(loaded or {}, dict):
        raise OptionInvalid(f"{path} must hold keys and values", param=param)
    return loaded or {}


class _Loader(yaml.SafeLoader):
    """Reads on, off, yes and no as words, as YAML 1.2 does: `translate: off` is no false."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if first in "tTfF" or "bool" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def nearest(name: str, known: Iterable[str]) -> str:
    """'Did you mean "x"?' for the nearest of `known`, or the list of them.

    The one that has `name` among its words is the nearest: "steps", "num_inference_steps".
    """
    names = sorted(known)
    worded = [one for one in names if name in one.split("_")]
    close = (
        worded
        if len(worded) == 1
        else difflib.get_close_matches(name[:MAX_SHOWN], names, n=1, cutoff=0.6)
    )
    return f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(names)}."


def _option_error(errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> OptionError:
    """The first of pydantic's `errors()` of a model as one sentence."""
    first = errors[0]
    name = _path_of(first["loc"])[:MAX_SHOWN] or "body"
    if first["type"] == "extra_forbidden":
        *sections, field = first["loc"]
        known = _model_at(sections, model).model_fields
        return OptionUnknown(f'unknown field "{name}". {nearest(str(field), known)}', param=name)
    shown = reprlib.repr(first.get("input"))
    shown = shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."
    reason = str(first["msg"]).replace("Input should be", "must be").removeprefix("Value error, ")
    if first["type"] == "model_type":  # whose message names a class of ours
        known = _model_at(first["loc"], model).model_fields
        reason = f"must be an object with {' or '.join(known)}"
    return OptionInvalid(f"{name}: {reason}; got {shown}", param=name)


def _path_of(loc: Iterable[int | str]) -> str:
    """("images", 0, "image_url") -> "images[0].image_url"."""
    parts = (f"[{p}]" if isinstance(p, int) else f".{p[:MAX_SHOWN]}" for p in loc)
    return "".join(parts).removeprefix(".")


def _model_at(loc: Iterable[int | str], model: type[BaseModel]) -> type[BaseModel]:
    """Find the innermost model on the way that `loc` names."""
    for part in loc:
        field = model.model_fields.get(str(part))
        model = next(_models_in(field.annotation), model) if field else model
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def bounds(field: FieldInfo) -> str:
    """Describe what a value may be, such as "1 to 100"; empty where the field has no bounds."""
    found = {type(bound): bound for bound in _constraints(field)}
    least = f"{found[Ge].ge:.10g}" if Ge in found else ""
    least = f"above {found[Gt].gt:.10g}" if Gt in found else least
    most = f"{found[Le].le:.10g}" if Le in found else ""
    if least and most:
        return f"{least} to {most}"
    if MaxLen in found:
        return f"at most {found[MaxLen].max_length} characters"
    return f"at least {least}" if least else f"at most {most}" if most else ""


def _constraints(field: FieldInfo) -> Iterator[Any]:
    """The field's own, and those inside `Annotated[...] | None`."""
    yield from field.metadata
    for part in get_args(field.annotation):
        for info in get_args(part)[1:] if get_origin(part) is Annotated else ():
            yield from info.metadata
