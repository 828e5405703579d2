"""A row of each of twelve public edit data sets, in the columns and the kind of file that it has.

The columns are those of the data sets' cards and loaders; the pictures are this project's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SAID = "make it night"
Row = dict[str, Any]


def _held(data: bytes) -> Row:
    """`datasets.Image`, as Parquet has it."""
    return {"bytes": data, "path": None}


def rows(photo: bytes, other: bytes) -> dict[str, tuple[str, Row]]:
    """Name -> (its file, a row); `photo` is to be edited, `other` stands for all other pictures."""
    image, rest = _held(photo), _held(other)
    return {
        "instructpix2pix-clip-filtered": (
            "train-00000.parquet",
            {
                "original_prompt": "a street",
                "original_image": image,
                "edit_prompt": SAID,
                "edited_prompt": "a street at night",
                "edited_image": rest,
            },
        ),
        "MagicBrush": (
            "train.parquet",
            {
                "img_id": "242679",
                "turn_index": 1,
                "source_img": image,
                "mask_img": rest,
                "instruction": SAID,
                "target_img": rest,
                "source_global_caption": "a street",
                "target_global_caption": "a street at night",
            },
        ),
        "UltraEdit": (
            "FreeForm_0.parquet",
            {
                "idx": 7,
                "source_image": image,
                "edited_image": rest,
                "mask_image": rest,
                "edit_prompt": SAID,
                "edit_object": "sky",
                "source_caption": "a street",
                "target_caption": "a street at night",
                "clip_sim_dir": 0.25,
                "ssim": 0.5,
            },
        ),
        "OmniEdit": (
            "dev-00000.parquet",
            {
                "omni_edit_id": "task_env_1",
                "task": "env",
                "src_img": image,
                "edited_img": rest,
                "edited_prompt_list": ["Please change the time of day to night.", SAID],
                "width": 600,
                "height": 400,
                "o_score": 9.5,
            },
        ),
        "AnyEdit": (
            "validation.parquet",
            {
                "edit_instruction": SAID,
                "edit_type": "tune_transfer",
                "image_file": image,
                "edited_file": rest,
                "visual_input": None,
                "input": "a street",
                "output": "a street at night",
            },
        ),
        "ImgEdit": (
            "background.jsonl",
            {
                "input_images": ["photos/a.jpg"],
                "output_images": ["edited/a.png"],
                "prompt": SAID,
                "score": 4,
            },
        ),
        "Pico-Banana-400K": (
            "sft_with_local_source_image_path.jsonl",
            {
                "open_image_input_url": "https://example.org/a.jpg",
                "text": SAID,
                "output_image": "images/positive-edit/1.png",
                "edit_type": "Change time of day",
                "summarized_text": "Night.",
                "local_input_image": "photos/a.jpg",
            },
        ),
        "GEdit-Bench": (
            "train-00000.parquet",
            {
                "key": "a1",
                "task_type": "background_change",
                "instruction": SAID,
                "instruction_language": "en",
                "input_image": image,
                "input_image_raw": rest,
                "Intersection_exist": True,
            },
        ),
        "RISEBench": (
            "data.json",
            {
                "index": "temporal_1",
                "instruction": SAID,
                "instruction_chinese": "变成夜晚",
                "image": ["photos/a.jpg"],
                "reference_txt": "It is night.",
                "category": "temporal_reasoning",
            },
        ),
        "EditReward-Data": (
            "dev.parquet",
            {
                "dev_id": 3,
                "source_image": image,
                "instruction": SAID,
                "left_image": rest,
                "right_image": rest,
                "vote_type": "leftvote",
            },
        ),
        "HQ-Edit": (
            "train-00000.parquet",
            {
                "input": "a street",
                "input_image": image,
                "edit": SAID,
                "inverse_edit": "make it day",
                "output": "a street at night",
                "output_image": rest,
            },
        ),
        "EmuEdit": (
            "test.parquet",
            {
                "instruction": SAID,
                "image": image,
                "task": "global",
                "split": "test",
                "idx": 12,
                "hash": "0f",
                "input_caption": "a street",
                "output_caption": "a street at night",
            },
        ),
    }


def write(folder: Path, name: str, photo: bytes, other: bytes) -> str:
    """Write the row of a data set, and the picture that it may name; returns its file."""
    file, row = rows(photo, other)[name]
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(photo)
    _WRITERS[Path(file).suffix](folder / file, row)
    return str(folder / file)


def _parquet(path: Path, row: Row) -> None:
    pq.write_table(pa.Table.from_pylist([row]), path)


_WRITERS: dict[str, Callable[[Path, Row], object]] = {
    ".parquet": _parquet,
    ".jsonl": lambda path, row: path.write_text(json.dumps(row) + "\n"),
    ".json": lambda path, row: path.write_text(json.dumps([row], indent=1)),
}
NAMES = tuple(rows(b"", b""))
