"""The part of a run in which the control image of an edit acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from engine.errors import OptionInvalid
from engine.options import ResolvedOptions


@dataclass(frozen=True, slots=True)
class ControlWindow:
    """Two shares of a run, 0 at its first model call and 1 after its last, as diffusers has them:
    a call is in the window where it neither begins before `start` nor ends after `end`."""

    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, options: ResolvedOptions) -> Self:
        """Return the window of an edit, which is the whole run where its model has no such option.

        Raises `OptionInvalid` where it ends before it begins.
        """
        start, end = options.control_guidance_start, options.control_guidance_end
        window = cls(0.0 if start is None else start, 1.0 if end is None else end)
        if window.start >= window.end:
            raise OptionInvalid(
                f"control_guidance_start {window.start} is not below control_guidance_end "
                f"{window.end}: the control image acts from the one to the other",
                param="control_guidance_start" if window.start > 0 else "control_guidance_end",
            )
        return window

    def holds(self, call: int, calls: int) -> bool:
        """Tell whether model call number `call`, from 0, of `calls` is in it."""
        return not (call / calls < self.start or (call + 1) / calls > self.end)

    def check(self, calls: int) -> None:
        """Refuse a window that holds none of the calls of a run; raises `OptionInvalid`."""
        if not any(self.holds(call, calls) for call in range(calls)):
            raise OptionInvalid(
                f"control_guidance_start {self.start} to control_guidance_end {self.end} holds no "
                f"whole model call of {calls}: take them further apart, or ask for more steps",
                param="control_guidance_start" if self.start > 0 else "control_guidance_end",
            )
