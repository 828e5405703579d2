"""Candidates: captions written out as rows of a job, each of them one edit of one photograph."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from batch_jobs.ledger.fingerprint import DEPENDS_ON
from batch_jobs.manifest.carried import Carried
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import PLAN, options_json
from batch_jobs.manifest.reading import Reading
from engine.errors import (
    InstructionEmpty,
    ManifestInvalid,
    MaskInvalid,
    OptionInvalid,
    RequestError,
)
from engine.seeding import row_seed
from engine.spec import FAMILY_OPTIONS, ModelSpec
from engine.text import clean_instruction
from triplet_jobs.arithmetic import check_kind
from triplet_jobs.captions import (
    CAPTION,
    EDITED_CAPTION,
    KIND,
    Caption,
    captions_of,
    read_captions,
)
from triplet_jobs.config import TripletConfig
from triplet_jobs.rewriting import GIVEN, Found, Rewriting

PROMPT = "prompt_id"  # the carried column that names the candidates of one instruction
P2P = "p2p_threshold"  # and the one that says how long a pair shares attention
# Options that a candidate may have. A pair is what a model was shown and what it made: no others.
OPTIONS = frozenset(
    (
        *(*FAMILY_OPTIONS, "seed", "num_inference_steps", "quality", "scheduler"),
        *("size", "resize", "strict_language", "strict_instruction"),
    )
) - {"auto_guidance"}  # the scales of a candidate are drawn
SPREAD = 0.8, 1.2  # of a model's own scale: what InstructPix2Pix's edit_app draws from
P2P_CFG = 7.5, 15.0  # InstructPix2Pix's, of pairs that are painted
_MOST = {"guidance_scale": 20.0, "image_guidance_scale": 5.0}  # bounds of `EditOptions`
_ROWS_AT_ONCE = 8192
# The edits of each caption, or why there is none.
Rewrite = Callable[[Iterable[Caption]], Iterable[tuple[Caption, Found]]]
_UNSEEN: dict[str, Any] = {
    "image": None,
    "image_sha256": None,
    "references": [],
}  # where both are painted
_PLAN = PLAN.append(pa.field(DEPENDS_ON, pa.string()))
Ranges = dict[str, tuple[float, float]]


def scale_ranges(config: TripletConfig, spec: ModelSpec) -> Ranges:
    """Find the range of each scale that candidates are drawn from; raises `OptionInvalid` for one
    that the model does not have."""
    found: Ranges = {}
    paints = config.pairer == "prompt_to_prompt"
    for option, name in (("guidance_scale", "cfg"), ("image_guidance_scale", "image_cfg")):
        least, most = getattr(config, f"min_{name}"), getattr(config, f"max_{name}")
        default = spec.defaults.get(option)
        if least is not None and most is not None:
            spec.check_has([option])
            found[option] = (least, most)
        elif paints and name == "cfg":
            found[option] = P2P_CFG
        elif spec.has(option) and default is not None and default > 1:  # at 1 it guides nothing
            found[option] = (default * SPREAD[0], min(default * SPREAD[1], _MOST[option]))
    return found | ({P2P: (config.min_p2p, config.max_p2p)} if paints else {})


@dataclass(frozen=True, slots=True)
class Candidates:
    """Reads captions as the rows of a job."""

    config: TripletConfig
    ranges: Ranges
    rewrite: Rewrite
    clip: str | None = None  # digest of the CLIP that pairs are judged by
    judge: str | None = None  # likewise, of the judge

    def read(self, location: str, reading: Reading) -> pa.Table:
        """Make a table of `PLAN`; raises `ManifestInvalid`."""
        needs = () if self._paints else ("image",)
        read = read_captions(location, reading, needs)
        captions = captions_of(read, self.config.caption_column)
        rows = (row for one in self.rewrite(captions) for row in self._rows(*one))
        tables = []
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            tables.append(pa.Table.from_pylist(part, _PLAN))
        if not tables:
            raise ManifestInvalid(f"{location} has no rows")
        return pa.concat_tables(tables)

    def _rows(self, caption: Caption, found: Found) -> Iterator[dict[str, Any]]:
        """The candidates of a caption; of one that can have none a row with its fault."""
        if caption.row["fault"] is not None:
            yield caption.row
            return
        fault = found if isinstance(found, RequestError) else self._fault(caption, found)
        if fault is not None:
            yield {**caption.row, "fault": asdict(Fault.of(fault))}
            return
        for rewriting in found if isinstance(found, list) else ():
            prompt = f"{caption.id}/{rewriting.name}"
            for number in range(self.config.samples):
                id = f"{prompt}/{number}"
                drawn = self._drawn(id)
                share = {P2P: drawn.pop(P2P)} if self._paints else {}
                carried = _carried(caption, rewriting, {PROMPT: prompt, **share})
                yield {
                    **(caption.row | (_UNSEEN if self._paints else {})),
                    "id": id,
                    "instruction": rewriting.instruction,
                    "options": options_json(drawn | json.loads(caption.row["options"])),
                    "carried": carried,
                    DEPENDS_ON: self._depends_on(rewriting, carried),
                }

    @property
    def _paints(self) -> bool:
        return self.config.pairer == "prompt_to_prompt"

    def _depends_on(self, rewriting: Rewriting, carried: str | None) -> str | None:
        """Tell what the scores of a candidate depend on, or both of its pictures."""
        pictures = self._pictures_depend_on(rewriting, carried)
        return pictures if self.judge is None else json.dumps([pictures, self.judge])

    def _pictures_depend_on(self, rewriting: Rewriting, carried: str | None) -> str | None:
        if self._paints or self.clip is not None:
            attention = self.config.p2p_attention if self._paints else None
            return json.dumps([carried, attention, self.clip])
        is_arithmetic = self.config.pairer == "programmatic"
        # the grammar's edits have their kind in the id
        return rewriting.kind if is_arithmetic and rewriting.name == GIVEN else None

    def _fault(self, caption: Caption, found: list[Rewriting]) -> RequestError | None:
        if caption.row["mask"] or caption.row["mask_sha256"]:
            return MaskInvalid("a pair is a whole picture and its edit: leave out the mask")
        for name in json.loads(caption.row["options"]):
            if name not in OPTIONS:
                return OptionInvalid(
                    f"{name} is no option of a pair, which is what a model was shown and what it "
                    "made: leave it out",
                    param=name,
                )
        try:
            for rewriting in found:
                if self.config.pairer == "programmatic":
                    check_kind(rewriting.kind)
                if self._paints or self.clip is not None:
                    _check_captions(caption, rewriting)
        except RequestError as error:
            return error
        return None

    def _drawn(self, id: str) -> dict[str, float]:
        """Draw the scales of a candidate, from the seed of the job and its id."""
        dice = np.random.default_rng(row_seed(self.config.job.seed, f"{id}/scales"))
        return {name: round(float(dice.uniform(*ends)), 2) for name, ends in self.ranges.items()}


def _check_captions(caption: Caption, rewriting: Rewriting) -> None:
    """Raises `InstructionError` where one of the two captions is missing."""
    for text in (caption.text, rewriting.edited_text):
        if text is None:
            raise InstructionEmpty(
                "prompt_to_prompt and clip need a caption, and with an instruction of its own the "
                "edited caption: give them as original_prompt and edited_prompt",
                param="caption",
            )
        clean_instruction(text)


def _carried(caption: Caption, rewriting: Rewriting, told: dict[str, Any]) -> str | None:
    captions = {CAPTION: caption.text, EDITED_CAPTION: rewriting.edited_text, KIND: rewriting.kind}
    return Carried().json({**caption.carried, **captions, **told})
