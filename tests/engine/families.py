"""The families, an entry each, and what is needed to hold one against diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import EngineConfig
from engine.capacity import Capacity
from engine.control import find_edges
from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.models import Editor
from engine.options import EditOptions
from engine.registry import find_model
from engine.spec import ModelSpec
from tests.conftest import PHOTOGRAPHS
from tests.tiny.edits import Edit, source
from tests.tiny.pipelines import Drawn, decoded_latents, draw, load

BOUND = 1e-5  # of the latents' largest: rounding, where sums are taken in another order
STEPS = (2, 5, 9)
CANVASES = ((128, 64), (64, 192))  # (width, height) in px: 32 and 48 tokens of 16 px
REFERENCES = ((96, 64), (128, 96))  # of the further sources on each canvas
INSTRUCTIONS = (
    "make it night",
    "turn it into a pencil sketch",
    "add snow on the roofs, and a red fox",
)


@dataclass(frozen=True, slots=True)
class Family:
    """An entry of the suite: what its edits ask for."""

    name: str  # of `tests.tiny.BUILDERS`
    plain: Mapping[str, Any]  # options without guidance, or with what the model takes as an input
    guided: Mapping[str, Any] | None = None  # options under which an edit has several branches
    also: Mapping[str, Any] | None = None  # a third kind of options
    counts: tuple[int, ...] = (1,)  # of source images
    inpainting: str | None = None  # diffusers' class with `mask_image` and `strength`
    bound: float = BOUND

    def __str__(self) -> str:
        return self.name


FAMILIES = (
    Family(
        "instruct-pix2pix",
        plain={"guidance_scale": 1.0, "image_guidance_scale": 1.0},
        guided={"guidance_scale": 7.5, "image_guidance_scale": 1.5, "negative_prompt": "blurry"},
    ),
    Family(
        "sdxl-instruct-pix2pix",
        plain={"guidance_scale": 1.0, "image_guidance_scale": 1.0},
        guided={"guidance_scale": 5.0, "image_guidance_scale": 1.5, "negative_prompt": "blurry"},
        also={"guidance_scale": 3.0, "image_guidance_scale": 1.2},  # no negative prompt: zeros
    ),
    Family(
        "cosxl-edit",
        plain={"guidance_scale": 1.0, "image_guidance_scale": 1.0},
        guided={"guidance_scale": 5.0, "image_guidance_scale": 1.5, "negative_prompt": "blurry"},
        also={"guidance_scale": 3.0, "image_guidance_scale": 1.2},  # no negative prompt: ""
        bound=5e-5,  # diffusers subtracts in float32 what is 480 at first, and 1 at last
    ),
    Family(
        "dreamlite",
        plain={"guidance_scale": 1.0, "image_guidance_scale": 1.0},
        guided={"guidance_scale": 3.5, "image_guidance_scale": 1.5, "negative_prompt": "blurry"},
        also={"guidance_scale": 2.0, "image_guidance_scale": 1.0},  # two branches, an empty text
    ),
    Family("dreamlite-mobile", plain={}),
    Family(
        "sd15-canny",
        plain={"guidance_scale": 1.0},
        guided={
            "guidance_scale": 7.5,
            "negative_prompt": "blurry",
            "controlnet_conditioning_scale": 1.5,
            "control_guidance_end": 0.7,
        },
        also={  # from the source
            "guidance_scale": 4.0,
            "strength": 0.7,
            "controlnet_conditioning_scale": 0.8,
        },
    ),
    Family(
        "flux-kontext",
        plain={"guidance_scale": 2.5},
        guided={"guidance_scale": 3.5, "true_cfg_scale": 2.0, "negative_prompt": "blurry"},
        inpainting="FluxKontextInpaintPipeline",
    ),
    Family(
        "flux2-klein",
        plain={"guidance_scale": 1.0},
        guided={"guidance_scale": 4.0},
        counts=(1, 2, 3, 1),
        inpainting="Flux2KleinInpaintPipeline",
    ),
    Family("flux2-klein-distilled", plain={}, inpainting="Flux2KleinInpaintPipeline"),
    Family(
        "flux2-dev",
        plain={"guidance_scale": 4.0},
        guided={"guidance_scale": 2.5},
        counts=(1, 1, 1, 2),
    ),
    Family(
        "qwen-image-edit",
        plain={"true_cfg_scale": 1.0},
        guided={"true_cfg_scale": 4.0, "negative_prompt": " "},
        inpainting="QwenImageEditInpaintPipeline",
    ),
    Family(
        "qwen-image-edit-plus",
        plain={"true_cfg_scale": 1.0},
        guided={"true_cfg_scale": 4.0, "negative_prompt": " "},
        counts=(1, 2, 3, 1),
    ),
    Family(
        "qwen-image-edit-2511",
        plain={"true_cfg_scale": 1.0},
        guided={"true_cfg_scale": 4.0, "negative_prompt": "blurry"},
        counts=(2, 1, 1),
    ),
)


def edits_of(family: Family) -> list[Edit]:
    """Each step count on each canvas; guided or not, counts of sources, texts and seeds in turn."""
    options = cycle([getattr(family, kind) or family.plain for kind in ("plain", "guided", "also")])
    counts, photographs, texts = cycle(family.counts), cycle(PHOTOGRAPHS), cycle(INSTRUCTIONS)
    made = []
    for (width, height), reference in zip(CANVASES, REFERENCES, strict=True):
        for steps in STEPS:
            first, *others = (next(photographs) for _ in range(next(counts)))
            sources = [source(first, width, height), *(source(n, *reference) for n in others)]
            given = {"num_inference_steps": steps, **next(options)}
            made.append(Edit(tuple(sources), next(texts), seed=7 + len(made), options=given))
    return made


def request_of(spec: ModelSpec, edit: Edit, id: str = "edit") -> EditRequest:
    """The edit as a model of `spec` is asked for it."""
    options = spec.resolve(EditOptions.parse(edit.options), seed=edit.seed)
    first, *others = edit.sources
    if spec.has_control:
        others = others or [find_edges(first, options)]
    return EditRequest(
        id, first, edit.instruction, options, references=tuple(others), mask=edit.mask
    )


class Twins:
    """One tiny folder behind diffusers' pipeline and behind an editor of rayedit; float32."""

    def __init__(self, family: Family, folder: Path, **settings: Any) -> None:
        """`settings`: further ones of the engine, for the editor alone."""
        self.family = family
        self.folder = folder
        self.spec: ModelSpec = find_model(str(folder))
        config = EngineConfig(device="cpu", dtype="float32", **settings)
        self.editor: Editor = load_model(self.spec, config).editor

    @cached_property
    def pipeline(self) -> Any:
        return load(self.folder)

    @cached_property
    def inpainting(self) -> Any:
        """diffusers' pipeline for masked edits."""
        return load(self.folder, self.family.inpainting)

    @cached_property
    def edits(self) -> list[Edit]:
        return edits_of(self.family)

    @cached_property
    def expected(self) -> list[Drawn]:
        """The edits as diffusers makes them."""
        return [self.diffusers(edit) for edit in self.edits]

    @cached_property
    def alone(self) -> list[Drawn]:
        """The edits as rayedit makes them, each alone."""
        return [self.rayedit([edit])[0] for edit in self.edits]

    def diffusers(self, edit: Edit, pipeline: Any = None) -> Drawn:
        """The edit as diffusers makes it; `pipeline`: another than the folder's."""
        return draw(self.family.name, pipeline or self.pipeline, edit)

    def request(self, edit: Edit, id: str = "edit") -> EditRequest:
        """The edit as rayedit is asked for it."""
        return request_of(self.spec, edit, id)

    def loop(self, editor: Editor | None = None, **settings: Any) -> DenoiseLoop:
        """A loop of at most 8 samples a call."""
        return DenoiseLoop(editor or self.editor, Capacity(8), **settings)

    def rayedit(self, edits: Sequence[Edit], *, loop: DenoiseLoop | None = None) -> list[Drawn]:
        """The edits as rayedit makes them, each joining a step after the one before it."""
        loop = loop or self.loop()
        requests = {str(i): self.request(edit, str(i)) for i, edit in enumerate(edits)}
        made: dict[str, Drawn] = {}
        with decoded_latents(type(self.pipeline.vae)) as decoded:
            joining: Iterator[EditRequest] = iter(requests.values())
            while len(made) < len(requests):
                if (request := next(joining, None)) is not None:
                    loop.admit(request, loop.check(request))
                before = len(decoded)
                outcomes = loop.step()
                made |= _paired(outcomes, decoded[before:])
        return [made[id] for id in requests]


def _paired(outcomes: Sequence[EditOutcome], decoded: Sequence[torch.Tensor]) -> dict[str, Drawn]:
    """Each outcome of a step with the latents that were decoded for it; both in one order.

    Before them the sources of masked edits are decoded.
    """
    rows = [row[None] for batch in decoded for row in batch]
    latents = rows[len(rows) - len(outcomes) :]
    made = {}
    for outcome, row in zip(outcomes, latents, strict=True):
        assert not isinstance(outcome, EditFailure), outcome
        made[outcome.id] = Drawn(row, outcome.images[0])
    return made


def difference(mine: Drawn, theirs: Drawn) -> float:
    """The largest of the latents' difference, as a share of diffusers' largest."""
    assert mine.latents.shape == theirs.latents.shape
    return float((mine.latents - theirs.latents).abs().max() / theirs.latents.abs().max())


def check_same(mine: Drawn, theirs: Drawn, bound: float = BOUND) -> None:
    """Latents within `bound`, and no pixel beyond 1 of 255."""
    assert difference(mine, theirs) <= bound
    assert int(np.abs(mine.pixels.astype(int) - theirs.pixels).max()) <= 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny models are too small to share among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
