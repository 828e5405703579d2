"""Pairs go out as the data sets that others read, of a factory and of any other job."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from PIL import Image

from batch_jobs.export.delivery import deliver
from batch_jobs.export.file import export_ledger
from storage.storage import Storage
from tests.batch_jobs.jobs import run_here
from tests.batch_jobs.shapes import write_lines
from tests.triplet_jobs.factories import ARITHMETIC, changed, data_set, factory_here, files, rows_of


def test_a_factory_goes_out_in_every_shape_with_what_was_kept_and_nothing_else(
    captions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    factory_here(captions, out, changed(ARITHMETIC, n_samples=2, max_out_samples=1)).run()
    kept, storage = rows_of(out), Storage(str(out))
    assert 0 < len(kept) <= 12
    single = export_ledger(storage, "instruct-pix2pix")
    assert pq.read_table(single.dest) == data_set(out) and single.rows == len(kept)

    ultra = pq.read_table(export_ledger(storage, "triplets").dest).to_pylist()
    for row in ultra:
        expected = kept[row["idx"]]
        assert row["source_image"]["bytes"] == expected["original_image"]["bytes"]
        assert row["edited_image"]["bytes"] == expected["edited_image"]["bytes"]
        assert row["target_caption"] == expected["edited_prompt"]
    assert len(ultra) == len(kept)

    folder = Path(export_ledger(storage, "imagefolder").dest)
    lines = [json.loads(line) for line in (folder / "train/metadata.jsonl").open()]
    for line in lines:
        expected = kept[line["id"]]
        for name in ("original", "edited"):
            file = folder / "train" / line[f"{name}_image_file_name"]
            assert file.read_bytes() == expected[f"{name}_image"]["bytes"]
        assert (line["edit_prompt"], line["kind"]) == (expected["edit_prompt"], expected["kind"])
    assert len(lines) == len(kept)

    with tarfile.open(export_ledger(storage, "webdataset").dest) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        read = {name: file.read() for name, file in members.items() if file is not None}
    assert len(read) == 3 * len(kept)
    for number in range(len(kept)):
        told = json.loads(read[f"{number:07d}.json"])
        edited = read[f"{number:07d}.edited.png"]
        assert edited == kept[told["id"]]["edited_image"]["bytes"]


def test_parquet_and_card_say_how_datasets_is_to_read_them(captions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    factory_here(captions, out).run()
    exported = export_ledger(Storage(str(out)), "triplets").dest
    for path, pictures in (
        (out / "data" / "train-00000.parquet", {"original_image", "edited_image"}),
        (Path(exported), {"source_image", "edited_image", "mask_image"}),
    ):
        schema = pq.read_schema(path)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert list(features) == schema.names
        assert {name for name, one in features.items() if one["_type"] == "Image"} == pictures
        for name in set(features) - pictures:
            kind = "double" if features[name]["dtype"] == "float64" else features[name]["dtype"]
            assert kind == str(schema.field(name).type)
    _, card, _ = (out / "README.md").read_text().split("---\n", 2)
    (config,) = yaml.safe_load(card)["configs"]
    (split,) = config["data_files"]
    assert (config["config_name"], split["split"]) == ("default", "train")
    assert {path.name for path in out.glob(split["path"])} == files(out, "data")

    factory_here(captions, out, changed(ARITHMETIC, min_change=250.0)).run()
    nothing = pq.ParquetFile(out / "data" / "train-00000.parquet")
    assert (nothing.num_row_groups, nothing.schema_arrow.names[:2]) == (
        0,  # on an empty one it fails, instead of saying that there are no rows
        ["original_prompt", "original_image"],
    )


def test_what_was_filtered_is_a_line_too(captions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    factory_here(captions, out, changed(ARITHMETIC, min_change=40.0)).run()
    kept, storage = rows_of(out), Storage(str(out))
    assert 0 < len(kept) < 12
    for shape in ("jsonl", "dataflow", "openai-batch"):
        lines = Path(export_ledger(storage, shape).dest).read_text().splitlines()
        assert len(lines) == 12
        if shape == "openai-batch":
            answers = {
                line["custom_id"]: line["response"]["body"] for line in map(json.loads, lines)
            }
            assert {id for id, body in answers.items() if body["data"]} == set(kept)
    table = Path(export_ledger(storage, "csv").dest).read_text().splitlines()
    assert len(table) == 13 and ",filtered" in table[0]
    assert deliver(storage, str(tmp_path / "delivered")).pictures == len(kept)


def test_a_batch_job_goes_out_as_pairs_too_with_the_kind_of_its_files(
    album: Path, tmp_path: Path
) -> None:
    row = {"id": "a", "image": str(album / "coffee.jpg"), "instruction": "add fog"}
    row["original_prompt"] = "a cup"
    out = tmp_path / "out"
    run_here(write_lines(tmp_path / "m.jsonl", [row, {**row, "id": "b", "image": "no.jpg"}]), out)
    folder = Path(export_ledger(Storage(str(out)), "imagefolder", str(tmp_path / "set")).dest)
    (line,) = [json.loads(line) for line in (folder / "train/metadata.jsonl").open()]
    assert (line["original_prompt"], line["edit_prompt"]) == ("a cup", "add fog")
    original = (folder / "train" / "0000000_original.jpg").read_bytes()
    assert original == (album / "coffee.jpg").read_bytes()
    edited = (folder / "train" / line["edited_image_file_name"]).read_bytes()
    assert Image.open(io.BytesIO(edited)).format == "PNG"
