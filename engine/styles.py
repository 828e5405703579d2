"""Styles: named presets of an edit, so that a batch of them looks alike.

The order is the model's default, then the style, then what the edit itself says.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from engine.adapter import Adapter, find_adapter
from engine.catalogue import MODELS
from engine.errors import InstructionEmpty, OptionError, OptionInvalid, OptionUnknown
from engine.fields import nearest, read_yaml, validate
from engine.options import MAX_INSTRUCTION_CHARACTERS, MAX_SEED, EditOptions
from engine.spec import ModelSpec
from engine.text import clean_instruction, is_blank

INSTRUCTION = "{instruction}"  # in a template: what the edit itself says
_PLACES = re.compile(r"\{[^{}]*\}")
_BESIDE = ("style", "seed", "negative_prompt")  # what no `Style.options` may hold


class Style(BaseModel):
    """What a style says of an edit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    description: Annotated[str, Field(description="what it looks like, for people")] = ""
    template: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_INSTRUCTION_CHARACTERS,
            description="what the model reads; {instruction} stands for the edit's own "
            "instruction, and without it an edit has none",
        ),
    ] = INSTRUCTION
    negative_prompt: Annotated[
        Annotated[str, Field(max_length=MAX_INSTRUCTION_CHARACTERS)] | None,
        Field(description="what to keep away from"),
    ] = None
    model: Annotated[
        str | None, Field(description="the one model that it is for; default: any that fits")
    ] = None
    lora: Annotated[
        str | None,
        Field(
            description="a LoRA: a safetensors file, or a folder of diffusers or peft; from the "
            "folder of the styles' file on"
        ),
    ] = None
    options: Annotated[EditOptions, Field(description="any other option of an edit")] = (
        EditOptions()
    )
    seed: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SEED)] | None,
        Field(description="one noise for all edits; default: one of each edit"),
    ] = None

    @field_validator("template")
    @classmethod
    def _template_has_one_kind_of_place(cls, template: str) -> str:
        if wrong := [place for place in _PLACES.findall(template) if place != INSTRUCTION]:
            raise ValueError(f"{wrong[0]} stands for nothing; {INSTRUCTION} is all there is")
        return template

    @field_validator("lora")
    @classmethod
    def _lora_is_of_a_model(cls, lora: str | None, found: ValidationInfo) -> str | None:
        if lora is not None and found.data.get("model") is None:
            raise ValueError("a LoRA is of one model: give its model too")
        return lora

    @field_validator("options")
    @classmethod
    def _options_hold_no_key_of_the_style(cls, options: EditOptions) -> EditOptions:
        if wrong := [name for name in _BESIDE if name in options.model_fields_set]:
            hint = "a style is made of no other" if wrong[0] == "style" else "give it beside them"
            raise ValueError(f"{wrong[0]} is not one of a style's options: {hint}")
        return options

    @property
    def takes_instruction(self) -> bool:
        """Tell whether an edit in this style has an instruction of its own."""
        return INSTRUCTION in self.template

    @property
    def given(self) -> dict[str, Any]:
        """List the options that it sets, by name."""
        own = {"seed": self.seed, "negative_prompt": self.negative_prompt}
        set_here = {name: value for name, value in own.items() if value is not None}
        return {**self.options.model_dump(exclude_unset=True), **set_here}


@dataclass(frozen=True, slots=True)
class Styles:
    """Holds the styles that an edit can name. Picklable."""

    by_name: Mapping[str, Style]

    def find(self, name: object, spec: ModelSpec) -> Style:
        """Find a style that `spec` can honour; raises `OptionError`."""
        name = EditOptions.parse({"style": name}).style or ""
        style = self.by_name.get(name)
        if style is None:
            raise OptionUnknown(
                f'unknown style "{name}". {nearest(name, self.by_name)}', param="style"
            )
        self._check(name, style, spec)
        return style

    def of_model(self, spec: ModelSpec) -> dict[str, Style]:
        """List the styles that a model can honour."""
        return {name: style for name, style in self.by_name.items() if _fits(style, spec)}

    def adapters(self, spec: ModelSpec) -> dict[str, Adapter]:
        """Find the LoRA of each style of a model that has one; raises `AdapterUnusable`."""
        loras = {name: style.lora for name, style in self.of_model(spec).items()}
        return {
            name: replace(find_adapter(name, lora), template=self.by_name[name].template)
            for name, lora in loras.items()
            if lora is not None
        }

    def expand(self, name: object, text: str, spec: ModelSpec) -> tuple[str, dict[str, Any]]:
        """Return the instruction that a model reads, and the options that the style sets.

        `text`: the edit's own instruction, empty where it has none. Raises `OptionError` and
        `InstructionError`.
        """
        style = self.find(name, spec)
        if not style.takes_instruction:
            if not is_blank(text):
                raise OptionInvalid(
                    f'style {name} is the whole instruction, "{style.template}": leave yours out, '
                    f"or choose a style with {INSTRUCTION} in its template",
                    param="style",
                )
            return clean_instruction(style.template), style.given
        if is_blank(text):
            raise InstructionEmpty(
                f'style {name} needs an instruction: its template is "{style.template}"'
            )
        own = clean_instruction(text)
        return clean_instruction(style.template.replace(INSTRUCTION, own)), style.given

    def apply(self, text: str, options: EditOptions, spec: ModelSpec) -> tuple[str, EditOptions]:
        """Write out the style that `options` name: the instruction and the options of the edit.

        What `options` say themselves stays; without a style all does. Raises as `expand`.
        """
        if options.style is None:
            return text, options
        text, given = self.expand(options.style, text, spec)
        own = options.model_dump(exclude_unset=True)
        return text, EditOptions.parse({**given, **own}, strict=False)

    def _check(self, name: str, style: Style, spec: ModelSpec) -> None:
        if not _is_model(style, spec):
            this = spec.name if spec.name != style.model else "another of that name"
            raise OptionInvalid(
                f"style {name} is of model {style.model}, and this is {this}, which has "
                f"{', '.join(self.of_model(spec)) or 'none'}",
                param="style",
            )
        try:
            spec.check_has(style.given)
        except OptionInvalid as error:
            raise OptionInvalid(f"style {name}: {error.message}", param="style") from None


def own_instruction(text: str, template: str) -> str:
    """Find what an edit says itself in what the template of its style made of it; empty where the
    style is the whole instruction."""
    first, *others = clean_instruction(template).split(INSTRUCTION)
    if not others:
        return ""
    own = len(text) - len(first) - sum(map(len, others))
    return text[len(first) : len(first) + own // len(others)]


def _is_model(style: Style, spec: ModelSpec) -> bool:
    """Tell whether a style is for this model: a LoRA of a registered one is not for a folder that
    happens to have its name."""
    if style.model in (None, spec.source):
        return True
    known = MODELS.get(style.model or "")
    is_other = style.lora is not None and known is not None and known.source != spec.source
    return style.model == spec.name and not is_other


def _fits(style: Style, spec: ModelSpec) -> bool:
    return _is_model(style, spec) and all(map(spec.has, style.given))


def load_styles(path: str | Path) -> Styles:
    """Read a YAML file of styles by name; raises `OptionError` naming file, style and key."""
    loaded = read_yaml(path, "styles")
    if not loaded:
        raise OptionInvalid(f"{path} holds no style", param="styles")
    return Styles({_name(name, path): _read(name, keys, path) for name, keys in loaded.items()})


def _name(name: object, path: str | Path) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,64}", name):
        raise OptionInvalid(
            f"{path}: a style's name is up to 64 letters, digits, dots and dashes; got "
            f"{reprlib.repr(name)}",
            param="styles",
        )
    return name


def _read(name: object, keys: object, path: str | Path) -> Style:
    if not isinstance(keys, dict):
        raise OptionInvalid(
            f"{path}, style {name}: must be keys and values, as template: ...; got "
            f"{reprlib.repr(keys)}",
            param="styles",
        )
    if isinstance(lora := keys.get("lora"), str):
        keys = {**keys, "lora": str(Path(path).absolute().parent / Path(lora).expanduser())}
    try:
        return validate(Style, keys, strict=False)
    except OptionError as error:
        raise type(error)(f"{path}, style {name}: {error.message}", param="styles") from None
