"""`rayedit sweep`: what its lists mean, and that a picture of a grid is an edit as any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cli.sweep import MOST_EDITS, Grid
from engine.errors import OptionInvalid
from tests.cli.test_cli import SMALL, printed_here, rayedit


def test_one_value_is_of_all_edits_and_several_make_rows_and_columns() -> None:
    grid = Grid.of({"seed": "7", "guidance_scale": "1, 3", "image_guidance_scale": "1,1.5,2"})
    assert grid.fixed == {"seed": "7"}
    assert (len(grid.rows), len(grid.columns)) == (2, 3)
    assert list(grid.cells)[3] == {
        "seed": "7",
        "guidance_scale": "3",
        "image_guidance_scale": "1",
    }


def test_one_list_is_a_row_and_equal_values_are_one() -> None:
    grid = Grid.of({"seed": "1,2,1", "negative_prompt": "dark, blurry", "restore_size": True})
    assert [cell["seed"] for cell in grid.cells] == ["1", "2"]
    assert grid.fixed == {"negative_prompt": "dark, blurry", "restore_size": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": "1"}, "0 options have several values: give one or two of them some"),
        ({"seed": "1,2", "strength": "0.5,1", "guidance_scale": "1,3"}, "3 options have several"),
        ({"seed": "1,,2"}, "--seed 1,,2: a value is missing"),
        (
            {"seed": ",".join(map(str, range(MOST_EDITS + 1)))},
            f"1 x {MOST_EDITS + 1} edits; a grid has at most {MOST_EDITS}",
        ),
    ],
)
def test_what_is_no_grid_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        Grid.of(options)


@pytest.mark.slow
def test_a_picture_of_the_grid_is_the_file_that_the_edit_alone_gives(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    photo = tmp_path / "coffee.jpg"
    photo.write_bytes(photographs["coffee"])
    (tmp_path / "small.yaml").write_text(SMALL)
    few = ("--config", tmp_path / "small.yaml", "--num-inference-steps", "2", "--seed", "3")
    grid, cells = tmp_path / "grid.png", tmp_path / "cells"
    scales = ("--guidance-scale", "1,3", "--image-guidance-scale", "1,1.3")
    printed = printed_here("sweep", photo, "变成夜晚", "-o", grid, "--cells", cells, *few, *scales)
    assert "2 x 2 edits, seed 3" in printed
    assert Image.open(grid).size == (12 + 3 * (256 + 12), 12 + 2 * (171 + 34 + 12))
    assert len(list(cells.iterdir())) == 4
    alone = tmp_path / "alone.png"
    scales = ("--guidance-scale", "3", "--image-guidance-scale", "1.3")
    printed_here("edit", photo, "变成夜晚", "-o", alone, *few, *scales)
    cell = cells / "guidance_scale-3-image_guidance_scale-1.3.png"
    assert cell.read_bytes() == alone.read_bytes()


def test_an_option_that_the_model_lacks_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    done = rayedit(
        "sweep", tmp_path / "grey.png", "x", "-o", tmp_path / "g.png", "--strength", "0.5,1"
    )
    assert done.returncode == 2
    assert "model pocket has no strength" in done.stderr
    assert not (tmp_path / "g.png").exists()
