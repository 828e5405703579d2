"""`examples/dataflow_serving.py` stands in for the serving of DataFlow's pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

import rayedit
from examples.dataflow_serving import RayeditServing

Frame = pandas.DataFrame


class Step:
    """What its `FileStorage` and the operator over it do with a file of lines and a serving."""

    def __init__(self, first: Path, cache: Path, prefix: str = "dataflow_cache_step") -> None:
        self.first, self.written = first, cache / f"{prefix}_step1.jsonl"

    def run(self, serving: Any, *, save_image_with_idx: bool) -> Frame:
        frame = pandas.read_json(self.first, lines=True)
        asked: list[Any] = []
        for idx, row in frame.iterrows():
            image, text = row["images"], row["conversations"][-1]["content"]
            whole = {"idx": idx, "image_path": image, "prompt": text}
            asked.append(whole if save_image_with_idx else (image, text))
        made = serving.generate_from_input(asked)
        frame["output_image"] = [
            made.get(f"sample_{idx}", []) if isinstance(made, dict) else made[idx]
            for idx in range(len(frame))
        ]
        frame.to_json(self.written, orient="records", lines=True, force_ascii=False)
        return pandas.read_json(self.written, lines=True)


@pytest.fixture(scope="module")
def editor() -> Iterator[rayedit.Editor]:
    with rayedit.Editor("pocket", resolution=64) as editor:
        yield editor


@pytest.fixture
def prompts(tmp_path: Path, photographs: dict[str, bytes]) -> Callable[[], Path]:
    """Three pictures with one instruction, one of them broken; and one with another."""
    images = []
    for name in ("coffee", "rocket", "chelsea"):
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(photographs[name][: 9000 if name == "rocket" else None])
        images.append(str(path))
    texts = ["make it night"] * 3 + ["make it blue"]
    frame = Frame(
        {
            "images": [images[0], images[1], [images[2]], images[0]],
            "conversations": [[{"role": "user", "content": text}] for text in texts],
        }
    )
    path = tmp_path / "prompts.jsonl"
    frame.to_json(path, orient="records", lines=True)
    return lambda: path


@pytest.mark.parametrize("with_idx", [True, False])
def test_a_step_of_its_pipeline_edits_with_rayedit(
    tmp_path: Path, prompts: Callable[[], Path], editor: rayedit.Editor, with_idx: bool
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    serving = RayeditServing(str(cache), editor, batch_size=3, num_inference_steps=2, seed=1)
    frame = Step(prompts(), cache).run(serving, save_image_with_idx=with_idx)
    assert frame["output_image"].tolist() == [
        [] if index == 1 else [str(cache / f"sample_{index}" / f"sample_{index}_0.png")]
        for index in range(4)
    ]
    pictures = {Path(paths[0]).read_bytes() for paths in frame["output_image"] if paths}
    assert len(pictures) == 3
