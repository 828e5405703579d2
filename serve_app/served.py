"""The models that a configuration names, with all that is known before a replica has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import EngineError, OptionInvalid
from engine.fields import nearest
from engine.spec import ModelSpec
from engine.styles import Styles
from serve_app.config import ServeConfig
from serve_app.model_config import APP_NAME, application_of


@dataclass(frozen=True, slots=True)
class Served:
    """Holds a model that is served. Picklable."""

    name: str  # that clients send as `model`
    config: ServeConfig  # of this model alone
    spec: ModelSpec
    styles: Styles
    application: str  # of Serve, in which its replicas are


def find_models(config: ServeConfig) -> list[Served]:
    """Find what is served, the model of an edit that names none first.

    Raises `ModelUnknown`, `ModelError` and `OptionError`, naming which of several.
    """
    found = [_one_of(config, name) for name in config.models]
    if not found:
        spec, styles = config.engine.find_model(), config.engine.find_styles()
        found = [Served(spec.name, config, spec, styles, APP_NAME)]
    names_of(config, [model.name for model in found])
    return found


def _one_of(config: ServeConfig, name: str) -> Served:
    own = config.of_model(name)
    try:
        spec, styles = own.engine.find_model(), own.engine.find_styles()
    except EngineError as error:
        raise type(error)(f"models.{name}: {error.message}", param="models") from None
    return Served(name, own, spec, styles, application_of(name))


def names_of(config: ServeConfig, served: Sequence[str]) -> dict[str, str]:
    """Map all that a client may send as `model` to the names of `served`, the first of which has
    the aliases of a list. Raises `OptionInvalid` for an alias of none."""
    listed = config.aliases
    aliases = listed if isinstance(listed, dict) else dict.fromkeys(listed, served[0])
    for alias, name in aliases.items():
        if name not in served or alias in set(served) - {name}:
            raise OptionInvalid(
                f'aliases: "{alias}" must be a further name of a model that is served, not of '
                f'"{name}". {nearest(name, served)}',
                param="aliases",
            )
    return {name: name for name in served} | aliases
