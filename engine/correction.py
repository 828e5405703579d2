"""The scales that an edit is tried with again, after the guide of InstructPix2Pix.

Where an image does not change enough, more text guidance and less image guidance; where it changes
too much, the reverse (README of Brooks et al. 2023). A step is what people move those two sliders
by, for a model whose own scales are 7.5 and 1.5; of another it is the same share of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from engine.options import ResolvedOptions
from engine.quality.verdict import Verdict
from engine.spec import ModelSpec

_GUIDE = 7.5, 1.5  # the scales of the model that the steps are for
_STEPS = {"weak": (1.0, -0.2), "overdone": (-1.0, 0.3)}  # of text and image guidance
_FAR = 1.5  # times as strong as the model's own: beyond a step, which is 1.3 times
_MOST = 20.0, 5.0  # bounds of `EditOptions`
_DIGITS = 2  # that a report, a flag and a column say alike


@dataclass(frozen=True, slots=True)
class Scales:
    """The guidance of an edit: by its instruction, and by its source image."""

    text: float
    image: float

    @classmethod
    def of(cls, options: ResolvedOptions) -> Self:
        """Take those of an edit."""
        return cls(options.scale("guidance_scale"), options.scale("image_guidance_scale"))

    @classmethod
    def own(cls, spec: ModelSpec) -> Self:
        """Take a model's own."""
        return cls(spec.defaults["guidance_scale"], spec.defaults["image_guidance_scale"])

    def on(self, options: ResolvedOptions) -> ResolvedOptions:
        """Return the options of an edit with these."""
        return options.model_copy(
            update={"guidance_scale": self.text, "image_guidance_scale": self.image}
        )

    def is_strong(self, than: Scales) -> bool:
        """Tell whether the text counts for far more beside the image than with other scales."""
        return self.text * than.image > _FAR * than.text * self.image

    def is_far(self, own: Scales) -> bool:
        """Tell whether these guide far more strongly or far more weakly than a model's own."""
        return self.is_strong(own) or own.is_strong(self)

    def corrected(self, verdict: Verdict, own: Scales) -> Scales:
        """Return the scales of the next try; these again where nothing was wrong.

        At least as far as the model's `own`, where these lie that way: what was set far off comes
        back at once. Another edit than was asked for was guided too strongly where these guide far
        more strongly than its own, else too weakly.
        """
        if verdict == "other":
            verdict = "overdone" if self.is_strong(own) else "weak"
        if verdict == "right":
            return self
        text, image = (
            scale + step * mine / guide
            for scale, step, mine, guide in zip(
                (self.text, self.image), _STEPS[verdict], (own.text, own.image), _GUIDE, strict=True
            )
        )
        if verdict == "weak":
            text, image = max(text, own.text), min(image, own.image)
        else:
            text, image = min(text, own.text), max(image, own.image)
        return Scales(*map(_bounded, (text, image), _MOST))


def _bounded(scale: float, most: float) -> float:
    return round(min(max(scale, 0.0), most), _DIGITS)
