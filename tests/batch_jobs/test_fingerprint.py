"""The same fingerprint, the same edit; whatever changes a picture changes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any, get_args

import pyarrow as pa
import pytest

from batch_jobs.ledger.fingerprint import Fingerprints
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import PLAN, PlannedReference, PlannedRow
from batch_jobs.records import to_table
from engine.config import EngineConfig, Quantization, TextEncoderPlace
from engine.errors import ModelError
from engine.options import EditOptions
from engine.registry import find_model
from engine.seeding import row_seed
from engine.spec import ModelSpec

POCKET = find_model("pocket")
ROW = PlannedRow(
    file="m.csv",
    id="a",
    image="x.jpg",
    image_sha256=None,
    mask=None,
    mask_sha256=None,
    row_group=0,
    row=1,
    instruction="add fog",
    options='{"seed": 5}',
    model=None,
    fault=None,
)
MASKED = replace(ROW, mask="m.png")
BESIDE = (PlannedReference("y.jpg", None), PlannedReference("z.jpg", None))
SEVERAL = replace(ROW, references=BESIDE)
SPEC = ModelSpec(
    "made-up",
    source="",
    editor="",
    defaults={"num_inference_steps": 20, "guidance_scale": 7.5, "negative_prompt": ""},
    resolution=64,
    multiple=8,
)


def of(
    row: PlannedRow = ROW,
    version: str | None = None,
    mask_version: str | None = None,
    reference_versions: list[str | None] | None = None,
    **changes: Any,
) -> str:
    given = {"spec": POCKET, "revision": "r", "engine": EngineConfig(), "job_seed": 0, **changes}
    plan: pa.Table = to_table(PlannedRow, [row]).select(PLAN.names)
    asked = {"image": version, "mask": mask_version, "references": reference_versions}
    versions = {name: [found] for name, found in asked.items()} if any(asked.values()) else None
    return Fingerprints(**given).add_to(plan, versions)["fingerprint"][0].as_py()


@pytest.mark.parametrize("way", ["on", "fast"])
def test_another_judge_redoes_the_rows_whose_guidance_sets_itself_and_no_others(way: str) -> None:
    guided = replace(ROW, options=json.dumps({"auto_guidance": way}))
    off = replace(ROW, options=json.dumps({"auto_guidance": "off"}))
    by_operator = POCKET.preset(EditOptions.parse({"auto_guidance": way}))
    assert of(ROW) == of(ROW, judge="1")
    assert of(off) == of(off, judge="1")
    assert of(off, spec=by_operator) == of(off, spec=by_operator, judge="1")
    assert len({of(guided), of(guided, judge="1"), of(guided, judge="2")}) == 3
    assert of(ROW, spec=by_operator, judge="1") != of(ROW, spec=by_operator, judge="2")


@pytest.mark.parametrize(
    "changes",
    [
        {"row": replace(ROW, instruction="add snow")},
        {"row": replace(ROW, image="y.jpg")},
        {"row": replace(ROW, image=None, image_sha256="0f")},
        {"row": replace(ROW, options='{"seed": 6}')},
        {"row": replace(ROW, model="pocket")},
        {"row": replace(ROW, fault=Fault("option_invalid", "mask", "mask"))},
        {"row": replace(ROW, id="b")},  # its seed comes from it
        {"job_seed": 1},
        {"version": "10 etag"},
        {"row": MASKED},
        {"row": replace(ROW, mask_sha256="0f")},
        {"revision": "s"},
        {"engine": EngineConfig(determinism="strict")},
        {"spec": replace(POCKET, defaults={**POCKET.defaults, "guidance_scale": 9.0})},
        {"spec": replace(POCKET, max_side=POCKET.max_side * 2)},
    ],
    ids=str,
)
def test_what_changes_a_picture_changes_its_fingerprint(changes: dict[str, Any]) -> None:
    assert of(**changes) != of()


def test_where_things_lie_changes_no_fingerprint() -> None:
    moved = replace(ROW, file="n.csv", row=7)
    assert of(moved) == of(spec=replace(POCKET, source="/elsewhere")) == of()
    assert len(of()) == 32


def test_a_model_that_says_what_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(ModelError, match="not serialisable"):
        of(spec=replace(POCKET, half=object()))


@pytest.mark.parametrize("recipe", [1, 2])
def test_another_mask_or_another_version_of_it_is_another_edit(recipe: int) -> None:
    prints = [
        of(recipe=recipe),
        of(MASKED, recipe=recipe),
        of(replace(ROW, mask="n.png"), recipe=recipe),
        of(replace(ROW, mask_sha256="0f"), recipe=recipe),
        of(replace(ROW, image="m.png", mask="x.jpg"), recipe=recipe),
        of(MASKED, mask_version="10 etag", recipe=recipe),
        of(MASKED, mask_version="11 etag", recipe=recipe),
        of(MASKED, version="10 etag", recipe=recipe),
        of(version="m.png", recipe=recipe),
    ]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("recipe", [1, 2])
def test_other_further_images_their_order_or_their_versions_are_another_edit(recipe: int) -> None:
    first, second = BESIDE
    rows = [
        ROW,
        SEVERAL,
        MASKED,
        replace(SEVERAL, mask="m.png"),
        replace(ROW, references=(first,)),
        replace(ROW, references=(second, first)),
        replace(ROW, references=(first, PlannedReference(None, "0f"))),
    ]
    prints = [of(row, recipe=recipe) for row in rows]
    for versions in (["10 etag", None], ["11 etag", None], [None, "10 etag"]):
        prints.append(of(SEVERAL, reference_versions=versions, recipe=recipe))
    assert len(set(prints)) == len(prints)


ROWS = {
    "path": ROW,
    "held": replace(ROW, image=None, image_sha256="0f"),
    "model": replace(ROW, model="pocket"),
    "fault": replace(ROW, fault=Fault("option_invalid", "mask", "mask")),
    "no image": replace(ROW, image=None),
}
OF_RECIPE_1 = {  # computed on 2026-11-28, by the code before rows had masks
    ("path", None): "f1836affdc9bb95c78d9565af89a0ca6",
    ("held", None): "0dbaee86def458fd37e1d82dd1a5e663",
    ("model", None): "5acae26082ad468639bc72116b485c99",
    ("fault", None): "c7ace362d60604ab49b890e0fc2e45ad",
    ("no image", None): "e447bd0410dbae3bf5bc312b27523e4b",
    ("path", "10 etag"): "aabcfc81a29f681561ad5fbb8799c420",
}


@pytest.mark.parametrize(("name", "version"), OF_RECIPE_1)
def test_rows_without_a_mask_keep_the_fingerprints_of_recipe_1(
    name: str, version: str | None
) -> None:
    found = of(ROWS[name], version, spec=SPEC, recipe=1)
    assert found == OF_RECIPE_1[name, version]


@pytest.mark.parametrize(("name", "version"), OF_RECIPE_1)
def test_rows_without_a_mask_keep_the_fingerprints_of_recipe_2(
    name: str, version: str | None
) -> None:
    row, engine = ROWS[name], EngineConfig()
    fault = row.fault and asdict(row.fault)
    asked = [row.instruction, row.image or row.image_sha256, row.options, row.model, fault]
    told = [*asked, row_seed(0, "a"), version, SPEC.identity(), "r"]
    told += [engine.dtype, engine.device, engine.determinism]
    written = json.dumps(told, sort_keys=True).encode()
    assert of(row, version, spec=SPEC) == hashlib.sha256(written).hexdigest()[:32]


@pytest.mark.parametrize("recipe", [1, 2])
def test_texts_read_on_the_cpu_are_told_apart_and_swapped_weights_are_not(recipe: int) -> None:
    """The CPU's bits are its own; weights that are swapped in compute what they always did."""
    prints = {
        place: of(engine=EngineConfig(text_encoder=place), recipe=recipe)
        for place in get_args(TextEncoderPlace)
    }
    assert prints["device"] == prints["swap"] == of(recipe=recipe)
    assert prints["cpu"] != prints["device"]


@pytest.mark.parametrize("recipe", [1, 2])
def test_each_kind_of_quantised_weights_is_told_apart(recipe: int) -> None:
    kinds = get_args(Quantization)
    prints = {of(engine=EngineConfig(quantization=kind), recipe=recipe) for kind in kinds}
    both = EngineConfig(quantization="int8", text_encoder="cpu")
    assert len(prints | {of(engine=both, recipe=recipe)}) == len(kinds) + 1
    assert of(engine=EngineConfig(quantization="none"), recipe=recipe) == of(recipe=recipe)


def test_a_default_that_came_after_recipe_1_is_in_its_fingerprints_too() -> None:
    """Without it an output that is gone on with would hold pictures of two kinds."""
    prints = [
        of(spec=replace(SPEC, defaults=SPEC.defaults | later), recipe=1)
        for later in ({}, {"restore_size": True}, {"restore_size": False}, {"detail": "source"})
    ]
    assert len(set(prints)) == len(prints)
