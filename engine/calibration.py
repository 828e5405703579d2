"""The figures of `rayedit calibrate`: how many samples of a size belong in a batch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from engine.errors import ModelError


class CalibratedSize(BaseModel):
    """The figures of one canvas size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_px: PositiveInt
    height_px: PositiveInt
    samples: PositiveInt  # more do not fit with a fifth of the memory left, or are no faster
    sample_bytes: Annotated[int, Field(ge=0)]  # that each sample adds to the peak
    step_ms: dict[PositiveInt, Annotated[float, Field(gt=0)]]  # samples -> one denoising step

    @property
    def area_px(self) -> int:
        """Pixels of the canvas."""
        return self.width_px * self.height_px


class Calibration(BaseModel):
    """The figures of one model on one kind of device, as one dtype, with these settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    revision: str
    device: str
    dtype: str
    settings: str
    sizes: Annotated[list[CalibratedSize], Field(min_length=1)]

    def check(self, path: str, **found: str) -> None:
        """Compare fields with what was `found` here; raises `ModelError` naming the first other.

        `path`: of the file that this was read from.
        """
        for name, value in found.items():
            if getattr(self, name) != value:
                raise ModelError(
                    f"{path} was measured for {name} {getattr(self, name)}, and this is {value}: "
                    "run `rayedit calibrate` here"
                )

    def size(self, width_px: int, height_px: int) -> CalibratedSize:
        """Estimate the figures of a canvas from the smallest measured size that covers its area.

        Where none does, those of the largest one are scaled by the area.
        """
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
