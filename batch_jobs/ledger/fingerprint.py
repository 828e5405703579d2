"""Fingerprints: what the result of a row depends on. The same one is never edited twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.chains import later_rows
from engine.adapter import Adapter
from engine.config import EngineConfig
from engine.seeding import row_seed
from engine.spec import ModelSpec
from engine.text import unknown_scripts

RECIPE = 2  # how fingerprints are made; an output keeps the recipe that it was begun with
# Of recipe 1: the defaults that it lists, and one that it knows and does not list.
_DEFAULTS_1 = ("num_inference_steps", "guidance_scale", "image_guidance_scale")
_UNLISTED_1 = "negative_prompt"
_COLUMNS = [
    *("id", "image", "image_sha256", "mask", "mask_sha256"),
    *("instruction", "options", "model", "fault", "references"),
]
DEPENDS_ON = "depends_on"  # of plans that have it: what a result depends on beside
ROWS_AT_ONCE = 8192  # of a long manifest, as Python objects


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Makes the fingerprints of a job's rows."""

    spec: ModelSpec
    revision: str  # of the weights
    engine: EngineConfig
    job_seed: int
    recipe: int = RECIPE
    same_seed: bool = False
    encoding: Mapping[str, Any] = field(default_factory=dict)  # of the files, where not PNG
    judge: str | None = None  # of `judge_revision`

    def add_to(
        self, plan: pa.Table, versions: Mapping[str, Sequence[Any]] | None = None
    ) -> pa.Table:
        """Append the column `fingerprint`, 32 hex digits; `versions`: with `check_sources`, of the
        columns `PICTURES`, and of `references` a list for each row. A column `DEPENDS_ON` goes no
        further."""
        own = [DEPENDS_ON] if DEPENDS_ON in plan.column_names else []
        thin, plan = plan.select([*_COLUMNS, *own]), plan.drop_columns(own)
        for name, found in (versions or {}).items():
            thin = thin.append_column(f"{name}_version", pa.array(found))
        parts_of = _RECIPES[self.recipe]
        rest = ", " + json.dumps(self._identity(), sort_keys=True)[1:]
        prints = [
            _digest([*parts_of(row, self._seed(row)), *self._later_parts(row)], rest)
            for batch in thin.to_batches(max_chunksize=ROWS_AT_ONCE)
            for row in batch.to_pylist()
        ]
        for row, before in later_rows(plan):  # what it edits depends on all turns before it
            prints[row] = _digest([prints[row], prints[before]], "]")
        return plan.append_column("fingerprint", pa.array(prints, pa.string()))

    def _seed(self, row: dict[str, Any]) -> int:
        return row_seed(self.job_seed, row["id"], self.same_seed)

    def _later_parts(self, row: dict[str, Any]) -> list[Any]:
        """List mask, further images, what its plan says, the LoRA of its style, the judge and the
        translator, where there are any: a row without them keeps the fingerprint that it had before
        rows could have them."""
        parts = []
        if mask := row["mask"] or row["mask_sha256"]:
            parts.append({"mask": mask, "version": row.get("mask_version")})
        if references := [one["path"] or one["sha256"] for one in row["references"]]:
            parts.append({"references": references, "versions": row.get("references_version")})
        if others := row.get(DEPENDS_ON):
            parts.append({DEPENDS_ON: others})
        if (lora := _lora_of(row, self.spec)) is not None:
            parts.append({"lora": lora.sha256})
        guided = json.loads(row["options"]).get("auto_guidance")
        if self.judge and (guided or self.spec.defaults.get("auto_guidance", "off")) != "off":
            parts.append({"judge": self.judge})
        engine, text = self.engine, row["instruction"] or ""
        if engine.translate != "off" and unknown_scripts(text, self.spec.scripts):
            parts.append({"translate": engine.translate, "model": engine.translate_model})
        return parts

    def _identity(self) -> list[Any]:
        """List what of model and engine changes pixels: the whole spec, the weights, precision."""
        spec, precision = self.spec, self._precision()
        if self.recipe > 1:
            return [spec.identity(), self.revision, *precision]
        defaults = [spec.defaults.get(name) for name in _DEFAULTS_1]
        sides = [spec.resolution, spec.multiple]
        identity = [spec.name, self.revision, *sides, *defaults, *precision]
        known = {*_DEFAULTS_1, _UNLISTED_1}
        later = {name: value for name, value in spec.defaults.items() if name not in known}
        return [*identity, later] if later else identity

    def _precision(self) -> list[Any]:
        """List the settings of engine and files that change bits.

        Those that came later have names, and stand there only where they are not their defaults:
        fingerprints stay what they were.
        """
        engine = self.engine
        precision: list[Any] = [engine.dtype, engine.device, engine.determinism]
        later: dict[str, str] = {}
        if engine.text_encoder == "cpu":  # other bits than a GPU's; "swap" computes what it does
            later["text_encoder"] = "cpu"
        if engine.quantization != "none":
            later["quantization"] = engine.quantization
        return [*precision, *(named for named in (later, dict(self.encoding)) if named)]


def _lora_of(row: dict[str, Any], spec: ModelSpec) -> Adapter | None:
    if not spec.styles:
        return None
    style = json.loads(row["options"]).get("style")
    return spec.styles.get(style) if isinstance(style, str) else None


def _parts(row: dict[str, Any], seed: int) -> list[Any]:
    """List what of a row changes its result."""
    image = row["image"] or row["image_sha256"]
    asked = [row["instruction"], image, row["options"], row["model"], row["fault"]]
    return [*asked, seed, row.get("image_version")]


def _parts_1(row: dict[str, Any], seed: int) -> list[Any]:
    """List the same for outputs that were begun before recipe 2: fault and model were options.

    It says nothing of a model but what `_identity` lists: whoever gives a model something new that
    changes pictures, and is not one of its `defaults`, takes this recipe away, and refuses outputs
    that need it.
    """
    options = row["options"]
    beside = {name: row[name] for name in ("fault", "model") if row[name] is not None}
    if beside:
        options = json.dumps(json.loads(options) | beside, sort_keys=True)
    parts = [row["instruction"], row["image"] or row["image_sha256"], options, seed]
    return parts if row.get("image_version") is None else [*parts, row["image_version"]]


_RECIPES: dict[int, Callable[[dict[str, Any], int], list[Any]]] = {1: _parts_1, 2: _parts}


def _digest(parts: list[Any], rest: str) -> str:
    """Digest a JSON list of which `rest` is the end, the same for all rows."""
    return hashlib.sha256(f"{json.dumps(parts)[:-1]}{rest}".encode()).hexdigest()[:32]


def keys(table: pa.Table) -> pa.Array:
    """Join "id/fingerprint" of each row: what is edited once."""
    return pc.binary_join_element_wise(table["id"], table["fingerprint"], "/").combine_chunks()


def digest(plan: pa.Table) -> str:
    """Digest what a finished job has done, whatever the order of its rows."""
    lines = keys(plan)
    hashed = hashlib.sha256()
    for line in lines.take(pc.array_sort_indices(lines)):
        hashed.update(line.as_buffer())
        hashed.update(b"\n")
    return hashed.hexdigest()
