"""Pairs as files: a folder as `datasets` reads one (imagefolder), or a tar of samples (webdataset).

Both name a pair by its number; what is told of it lies beside its pictures as JSON.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any, BinaryIO

from batch_jobs.export.pairs import Pair, Pairs, Picture
from batch_jobs.export.triplets import INSTRUCT_PIX2PIX
from engine.formats import format_of
from storage.storage import Storage

METADATA = "train/metadata.jsonl"
_NAMES = {meaning: column for column, meaning in INSTRUCT_PIX2PIX.items()}
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}


def write_folder(pairs: Pairs, folder: Storage) -> None:
    """Write `train/0000000_original.png`, `train/0000000_edited.png` and so on, and last of all
    `train/metadata.jsonl`, whose `original_image_file_name` becomes the column `original_image`."""
    lines = []
    for number, pair in enumerate(pairs):
        line = told_of(pair)
        for name, picture in _pictures(pair).items():
            file = f"{number:07d}_{name}.{suffix_of(picture)}"
            folder.publish(f"train/{file}", picture.data)
            line[f"{name}_image_file_name"] = file
        lines.append(json.dumps(line, ensure_ascii=False))
    folder.publish(METADATA, "".join(f"{line}\n" for line in lines).encode())


def write_tar(pairs: Pairs, file: BinaryIO) -> None:
    """Write a tar of `0000000.original.png`, `0000000.edited.png`, `0000000.json` and so on."""
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, pair in enumerate(pairs):
            for name, picture in _pictures(pair).items():
                _add(tar, f"{number:07d}.{name}.{suffix_of(picture)}", picture.data)
            told = json.dumps(told_of(pair), ensure_ascii=False)
            _add(tar, f"{number:07d}.json", told.encode())


def told_of(pair: Pair) -> dict[str, Any]:
    """List all that is known of a pair beside its pictures, by the names of InstructPix2Pix's
    columns."""
    named = {_NAMES.get(name, name): value for name, value in pair.told.items()}
    return {"id": pair.id} | {k: v for k, v in named.items() if v is not None} | pair.carried


def suffix_of(picture: Picture) -> str:
    """Name the kind of a picture's file by its content."""
    kind = format_of(picture.data) or "PNG"
    return _SUFFIXES.get(kind, kind.lower())


def _pictures(pair: Pair) -> dict[str, Picture]:
    return {"original": pair.source, "edited": pair.edited}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
