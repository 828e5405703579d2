"""Candidates: captions written out as rows of a job, each of them one edit of one photograph."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from batch_jobs.manifest.carried import Carried
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import PLAN, options_json
from batch_jobs.manifest.reading import Reading
from engine.errors import ManifestInvalid, MaskInvalid, OptionInvalid, RequestError
from engine.seeding import row_seed
from engine.spec import FAMILY_OPTIONS, ModelSpec
from triplet_jobs.arithmetic import check_kind
from triplet_jobs.captions import KIND, Caption, captions_of, read_captions
from triplet_jobs.config import TripletConfig
from triplet_jobs.rewriting import Rewriting

PROMPT = "prompt_id"  # the carried column that names the candidates of one instruction
# Options that a candidate may have. A pair is what a model was shown and what it made: no others.
OPTIONS = frozenset(
    (
        *(*FAMILY_OPTIONS, "seed", "num_inference_steps", "quality", "scheduler"),
        *("size", "resize", "strict_language", "strict_instruction"),
    )
)
SPREAD = 0.8, 1.2  # of a model's own scale: what InstructPix2Pix's edit_app draws from
_MOST = {"guidance_scale": 20.0, "image_guidance_scale": 5.0}  # bounds of `EditOptions`
_ROWS_AT_ONCE = 8192
# The edits of each caption, or why there is none.
Rewrite = Callable[[Iterable[Caption]], Iterable[tuple[Caption, "list[Rewriting] | RequestError"]]]
Ranges = dict[str, tuple[float, float]]


def scale_ranges(config: TripletConfig, spec: ModelSpec) -> Ranges:
    """Find the range of each scale that candidates are drawn from; raises `OptionInvalid` for one
    that the model does not have."""
    found: Ranges = {}
    for option, name in (("guidance_scale", "cfg"), ("image_guidance_scale", "image_cfg")):
        least, most = getattr(config, f"min_{name}"), getattr(config, f"max_{name}")
        default = spec.defaults.get(option)
        if least is not None and most is not None:
            spec.check_has([option])
            found[option] = (least, most)
        elif spec.has(option) and default is not None and default > 1:  # at 1 it guides nothing
            found[option] = (default * SPREAD[0], min(default * SPREAD[1], _MOST[option]))
    return found


@dataclass(frozen=True, slots=True)
class Candidates:
    """Reads captions as the rows of a job."""

    config: TripletConfig
    ranges: Ranges
    rewrite: Rewrite

    def read(self, location: str, reading: Reading) -> pa.Table:
        """Make a table of `PLAN`; raises `ManifestInvalid`."""
        captions = captions_of(read_captions(location, reading), self.config.caption_column)
        rows = (row for one in self.rewrite(captions) for row in self._rows(*one))
        tables = []
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            tables.append(pa.Table.from_pylist(part, PLAN))
        if not tables:
            raise ManifestInvalid(f"{location} has no rows")
        return pa.concat_tables(tables)

    def _rows(
        self, caption: Caption, found: list[Rewriting] | RequestError
    ) -> Iterator[dict[str, Any]]:
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
            carried = _carried(caption, rewriting, prompt)
            for number in range(self.config.samples):
                id = f"{prompt}/{number}"
                yield {
                    **caption.row,
                    "id": id,
                    "instruction": rewriting.instruction,
                    "options": self._options(caption, id),
                    "carried": carried,
                }

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
        if self.config.pairer != "programmatic":
            return None
        try:
            for rewriting in found:
                check_kind(rewriting.kind)
        except OptionInvalid as error:
            return error
        return None

    def _options(self, caption: Caption, id: str) -> str:
        """The options that its row gives, and scales drawn from the seed of the job and the id."""
        dice = np.random.default_rng(row_seed(self.config.job.seed, f"{id}/scales"))
        drawn = {name: round(float(dice.uniform(*ends)), 2) for name, ends in self.ranges.items()}
        return options_json(drawn | json.loads(caption.row["options"]))


def _carried(caption: Caption, rewriting: Rewriting, prompt: str) -> str | None:
    told = {
        **caption.carried,
        "original_prompt": caption.text,
        "edited_prompt": rewriting.edited_text,
        KIND: rewriting.kind,
        PROMPT: prompt,
    }
    return Carried().json(told)
