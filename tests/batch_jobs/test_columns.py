"""The columns of a manifest have the types that their meanings need."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest.plan import read_manifest
from engine.errors import ManifestInvalid
from tests.batch_jobs.shapes import write_lines

MARKED = {b"ARROW:extension:name": b"example.tensor"}


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.field("seed", pa.bool_()), '"seed" is bool; it must be a number'),
        (pa.field("num_images", pa.list_(pa.int32())), '"num_images" is list'),
        (pa.field("size", pa.int64()), '"size" is int64; it must be text'),
        (pa.field("restore_size", pa.timestamp("s")), '"restore_size" is timestamp'),
        (pa.field("prompt", pa.int64()), '"prompt" is int64; it must be text'),
        (pa.field("input_image", pa.int64()), '"input_image" is int64; it must be text (path'),
        (pa.field("image", pa.list_(pa.int64())), '"image" is list'),
        (pa.field("image", pa.list_(pa.list_(pa.binary()))), '"image" is list'),
        (pa.field("mask", pa.list_(pa.binary())), '"mask" is list'),
        (pa.field("image", pa.struct([("url", pa.string())])), '"image" is struct'),
        (pa.field("mask", pa.int64()), '"mask" is int64; it must be text (path or URI)'),
        (pa.field("id", pa.float64()), '"id" is double; it must be text or whole'),
        (pa.field("id", pa.uuid()), '"id" has the extension type arrow.uuid'),
        (pa.field("any", pa.binary(), metadata=MARKED), "extension type example.tensor"),
        (
            pa.field("any", pa.struct([pa.field("in", pa.binary(), metadata=MARKED)])),
            '"any" has the extension type example.tensor',
        ),
    ],
)
def test_a_column_of_a_wrong_type_is_refused_by_name(
    tmp_path: Path, column: pa.Field, says: str
) -> None:
    meaning = {"prompt": "instruction", "input_image": "image"}.get(column.name, column.name)
    fields = [pa.field("image", pa.string()), pa.field("instruction", pa.string())]
    schema = pa.schema([*(field for field in fields if field.name != meaning), column])
    pq.write_table(schema.empty_table(), tmp_path / "m.parquet")
    with pytest.raises(ManifestInvalid) as raised:
        read_manifest(str(tmp_path / "m.parquet"))
    assert f"{tmp_path / 'm.parquet'}: column" in raised.value.message
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        *(("Seed", "seed"), ("steps", "num_inference_steps"), ("cfg_scale", "guidance_scale")),
        *(("guidance", "guidance_scale"), ("Guidance Scale", "guidance_scale")),
        *(("width", "size"), ("height", "size"), ("n", "num_images"), ("N", "num_images")),
        *(("Mask", "mask"), ("masks", "mask"), ("sampler", "scheduler"), ("Strength", "strength")),
        *(
            ("image_cfg_scale", "image_guidance_scale"),
            ("num-inference-steps", "num_inference_steps"),
        ),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_column_that_looks_like_an_option_is_refused_with_the_right_name(
    tmp_path: Path, column: str, meant: str, ending: str
) -> None:
    cells = {"image": "a.jpg", "instruction": "add fog", column: "1"}
    path = tmp_path / f"m.{ending}"
    if ending == "csv":
        path.write_text(f"{','.join(cells)}\n{','.join(cells.values())}\n")
    elif ending == "jsonl":
        write_lines(path, [cells])
    else:
        pq.write_table(pa.Table.from_pylist([cells]), path)
    with pytest.raises(ManifestInvalid) as refused:
        read_manifest(str(path))
    assert f'column "{column}" is not an option. Did you mean "{meant}"?' in refused.value.message
    assert refused.value.param == column


def test_an_empty_id_is_none_in_every_format(tmp_path: Path) -> None:
    rows = [{"id": id, "image": "a.jpg", "instruction": "add fog"} for id in ("a", "")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    write_lines(tmp_path / "m.jsonl", rows)
    (tmp_path / "m.csv").write_text("id,image,instruction\na,a.jpg,fog\n,a.jpg,fog\n")
    for ending in ("parquet", "jsonl", "csv"):
        with pytest.raises(ManifestInvalid, match="column id is null in rows 2 "):
            read_manifest(str(tmp_path / f"m.{ending}"))
