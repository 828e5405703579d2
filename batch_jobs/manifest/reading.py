"""How a manifest is read, where its own names and form do not say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from batch_jobs.manifest.columns import NAMED, REQUIRED, WITH_A_STYLE


@dataclass(frozen=True, slots=True)
class Reading:
    """Holds what the settings of a job say of its manifest."""

    instructions: tuple[str, ...] = ()  # the manifest is a folder of pictures: each edits every one
    glob: str | None = None  # which of the pictures, by their paths in the folder
    columns: tuple[tuple[str, str], ...] = ()  # (column of a file, what it means)
    image_base: str | None = None  # the folder that relative paths start from
    style: str | None = None  # of the job: its rows may have no instruction of their own
    carry: bool = True  # columns that mean nothing to an edit go into the ledger
    file_ids: bool = False  # lines of OpenAI's alone, whose images are file ids or data URLs
    aliases: tuple[str, ...] = ()  # further names of the job's model
    needs: tuple[str, ...] = REQUIRED  # columns that a file must have

    @property
    def required(self) -> tuple[str, ...]:
        """Name the columns that a file must have."""
        return self.needs if self.style is None else WITH_A_STYLE

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Take it from the fields of `JobConfig`, which `job.json` holds too."""
        chosen = {name: settings.get(f"{name}_column") for name in NAMED}
        return cls(
            instructions=tuple(settings.get("instruction") or ()),
            glob=settings.get("glob"),
            columns=tuple((column, name) for name, column in chosen.items() if column),
            image_base=settings.get("image_base"),
            style=settings.get("style"),
            carry=settings.get("carry", True),
            file_ids=settings.get("file_ids", False),
            aliases=tuple(settings.get("aliases") or ()),
        )


AS_IT_IS = Reading()
