"""What `rayedit calibrate` measured on a machine: how many samples of a size belong in a batch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from engine.errors import ModelError


class CalibratedSize(BaseModel):
    """One canvas size. `samples`: more of them do not fit with a fifth of the memory left, or make
    no more images a second; `sample_bytes`: what each adds to the peak; `step_ms`: one denoising
    step of 1, 2, 4, ... samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_px: PositiveInt
    height_px: PositiveInt
    samples: PositiveInt
    sample_bytes: Annotated[int, Field(ge=0)]
    step_ms: dict[PositiveInt, Annotated[float, Field(gt=0)]]

    @property
    def area_px(self) -> int:
        return self.width_px * self.height_px


class Calibration(BaseModel):
    """Good for one model on one kind of device, as one dtype, with these settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str
    device: str
    dtype: str
    settings: str
    sizes: Annotated[list[CalibratedSize], Field(min_length=1)]

    def check(self, path: str, **found: str) -> None:
        """Raises `ModelError` where this was measured for something else than what was found."""
        for name, value in found.items():
            if getattr(self, name) != value:
                raise ModelError(
                    f"{path} was measured for {name} {getattr(self, name)}, and this is {value}: "
                    "run `rayedit calibrate` here"
                )

    def size(self, width_px: int, height_px: int) -> CalibratedSize:
        """The figures for a canvas: those of the smallest measured size that covers its area, or
        of the largest one, scaled down."""
        area = width_px * height_px
        sizes = sorted(self.sizes, key=lambda size: size.area_px)
        for size in sizes:
            if size.area_px >= area:
                return size
        largest = sizes[-1]
        return largest.model_copy(
            update={
                "samples": max(largest.samples * largest.area_px // area, 1),
                "sample_bytes": largest.sample_bytes * area // largest.area_px,
            }
        )
