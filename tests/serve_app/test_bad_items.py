"""Twelve kinds of bad item, in each slot of four requests that share a batch."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import png
from tests.serve_app.conftest import PROMPT, files_of, post_form

SLOTS = 4
STEPS = 4
Bad = tuple[bytes, dict[str, object], int, str]  # file, fields, status, code


def _animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _flat(height_px: int, width_px: int) -> bytes:
    return png(np.zeros((height_px, width_px, 3), np.uint8))


BAD: dict[str, Callable[[bytes], Bad]] = {
    "a text file": lambda good: (b"I am not a picture.", {}, 400, "image_unsupported"),
    "a truncated file": lambda good: (good[: len(good) // 2], {}, 400, "image_truncated"),
    "two frames": lambda good: (_animated(), {}, 400, "image_animated"),
    "15 px": lambda good: (_flat(15, 15), {}, 400, "image_too_small"),
    "17:1": lambda good: (_flat(16, 272), {}, 400, "image_too_narrow"),
    "12,001 px": lambda good: (_flat(800, 12_001), {}, 400, "image_too_large"),
    # these reach the replica, and only there it shows that they cannot be
    "over 77 tokens": lambda good: (
        good,
        {"prompt": "a vase and " * 150},
        400,
        "instruction_too_long",
    ),
    "a script that the model cannot read": lambda good: (
        good,
        {"prompt": "сделай ночь", "strict_language": "true"},
        400,
        "instruction_language",
    ),
    "an empty instruction": lambda good: (good, {"prompt": " "}, 400, "instruction_empty"),
    "a scale of NaN": lambda good: (good, {"guidance_scale": "nan"}, 400, "option_invalid"),
    "an unknown field": lambda good: (good, {"step": "4"}, 400, "option_unknown"),
    "another model": lambda good: (good, {"model": "gpt-image-1.5"}, 404, "model_not_found"),
}


def together(http: httpx.Client, items: list[tuple[bytes, dict[str, object]]]) -> list:
    barrier = Barrier(len(items))

    def send(item: tuple[bytes, dict[str, object]]) -> httpx.Response:
        barrier.wait()
        return post_form(http, item[0], num_inference_steps=STEPS, seed=7, **item[1])

    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(send, items))


@pytest.fixture(scope="module")
def good(photographs: dict[str, bytes]) -> list[tuple[bytes, dict[str, object]]]:
    return [(photographs["coffee"], {"prompt": f"{PROMPT} {k}"}) for k in range(SLOTS)]


@pytest.fixture(scope="module")
def undisturbed(
    http: httpx.Client, good: list[tuple[bytes, dict[str, object]]]
) -> list[list[bytes]]:
    return [files_of(response) for response in together(http, good)]


@pytest.mark.parametrize(
    ("kind", "slot"),
    [
        pytest.param(
            kind,
            slot,
            marks=[] if slot == place % SLOTS else pytest.mark.chaos,
            id=f"{kind} {slot}",
        )
        for place, kind in enumerate(BAD)
        for slot in range(SLOTS)
    ],
)
def test_a_bad_item_fails_alone_whatever_its_slot(
    http: httpx.Client,
    good: list[tuple[bytes, dict[str, object]]],
    undisturbed: list[list[bytes]],
    kind: str,
    slot: int,
) -> None:
    data, fields, status, code = BAD[kind](good[slot][0])
    items = [*good[:slot], (data, {"prompt": PROMPT, **fields}), *good[slot + 1 :]]
    responses = together(http, items)
    bad = responses[slot]
    assert (bad.status_code, bad.json()["error"]["code"]) == (status, code)
    for k in range(SLOTS):
        assert k == slot or files_of(responses[k]) == undisturbed[k]
