"""What Excel makes of a table is read as it is, or refused with its line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from batch_jobs.manifest.carried import carried_values
from batch_jobs.manifest.plan import open_manifest, read_manifest
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.writing import write_manifest
from engine.errors import ManifestInvalid, OutputUnusable
from storage.sources import places_of, read_source
from tests.batch_jobs.shapes import options

CHOSEN = Reading(columns=(("文件名", "image"), ("指令", "instruction")))
CELLS = st.text("a夜é;,\t \"\n'=|", min_size=1).filter(lambda cell: cell.strip() == cell)
TEXT = 'id,image,instruction\r\n1,夜.jpg,把它变成夜晚\r\n2,b.png,"加雾, 多一点"\r\n'
WANTED = [("1", "夜.jpg", "把它变成夜晚"), ("2", "b.png", "加雾, 多一点")]


def cells(location: Path, reading: Reading = CHOSEN) -> list[tuple[str, ...]]:
    plan = read_manifest(str(location), reading if "文件名" in str(location) else Reading())
    return [tuple(row.values()) for row in plan.select(["id", "image", "instruction"]).to_pylist()]


def workbook(path: Path, *sheets: list[list[Any]], **settings: Any) -> str:
    book = Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, start=1):
        sheet = book.create_sheet(f"Sheet{number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return str(path)


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        *(("utf-8", None), ("utf-8-sig", None), ("gbk", "GBK"), ("gb18030", "GBK")),
        *(("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_is_read_in_the_encodings_and_with_the_separators_of_excel(
    tmp_path: Path, encoding: str, title: str | None, separator: str
) -> None:
    text = TEXT.replace(", 多", "; 多").replace(",", separator).replace("; 多", ", 多")
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode(encoding))
    assert cells(path) == WANTED
    told = f'{path} is {title} and is read as that, such as "把它变成夜晚"; UTF-8 leaves no doubt'
    assert open_manifest(str(path)).notes == ([told] if title else [])


def test_the_line_by_which_excel_names_its_separator_is_none_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("sep=|\nid|image|instruction\n1|a.jpg|add; fog\n")
    assert cells(tmp_path / "m.csv") == [("1", "a.jpg", "add; fog")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            "image,instruction\na,b\ncaf\u00e9,fog\n".encode("latin-1"),
            "line 3: byte 0xe9 is not UTF",
        ),
        ("image,instruction\na,夜の街\n".encode("shift-jis"), "line 2: byte .* is not UTF-8"),
        ("image,instruction\na,cr\u00e9\u00e9e \u00e0 P\u00e9rou\n".encode("latin-1"), "line 2"),
    ],
)
def test_another_encoding_is_refused_with_its_line_and_what_to_do(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "m.csv").write_bytes(data)
    with pytest.raises(ManifestInvalid, match=says) as refused:
        read_manifest(str(tmp_path / "m.csv"))
    assert 'save it as UTF-8 (Excel: "CSV UTF-8")' in refused.value.message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,image,instruction\n1,a.jpg,"night\n2,b.png,day\n', 2),
        ('id,image,instruction\n0,c.jpg,fog\n1,a.jpg,"night\n2,b.png,"day"\n', 3),
        ('id,image,instruction\n1,"a.jpg"x,night\n', 2),
        ('id,image,"instruction\n1,a.jpg,night\n', 1),
        ('sep=,\nid,image,instruction\n1,a.jpg,"night\n', 3),
    ],
)
def test_an_unclosed_quote_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestInvalid, match=rf'm.csv, line {line}: a quote \("\) opens here'):
        read_manifest(str(tmp_path / "m.csv"))


def test_a_quoted_cell_may_have_lines_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('image,instruction\na.jpg,"say ""night""\nand fog"\n')
    assert cells(tmp_path / "m.csv")[0][2] == 'say "night"\nand fog'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,instruction\na,b,c\n", "line 2: 3 cells, the header has 2"),
        ("image,instruction,,\na,b,,c\n", "line 2: 4 cells, the header has 2"),
        ("image,instruction,note,note\na,b,c,d\n", "has two columns note: rename one"),
        ("文件名,指令\na,b\n", "Name the one that is meant: --image-column NAME"),
    ],
)
def test_a_cell_below_no_name_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(str(tmp_path / "m.csv"))


def test_what_excel_leaves_empty_is_nothing(tmp_path: Path) -> None:
    text = "image,instruction,,\na.jpg,night,,\n,,,\n\nb.jpg,fog,,,,\n"
    (tmp_path / "m.csv").write_text(text)
    assert [row[1:] for row in cells(tmp_path / "m.csv")] == [("a.jpg", "night"), ("b.jpg", "fog")]


def test_columns_are_chosen_by_any_name(tmp_path: Path) -> None:
    text = "文件名;指令;prompt;备注\n夜.jpg;变成夜晚;a caption;好\n"
    (tmp_path / "文件名.csv").write_text(text)
    manifest = open_manifest(str(tmp_path / "文件名.csv"), CHOSEN)
    (row,) = manifest.plan.to_pylist()
    assert (row["image"], row["instruction"]) == ("夜.jpg", "变成夜晚")
    assert carried_values(row["carried"]) == {"prompt": "a caption", "备注": "好"}
    ids = Reading.of({"image_column": "文件名", "instruction_column": "指令", "id_column": "备注"})
    assert read_manifest(str(tmp_path / "文件名.csv"), ids)["id"].to_pylist() == ["好"]
    wrong = Reading(columns=(("文件", "image"),))
    with pytest.raises(
        ManifestInvalid, match=r'no column "文件" \(--image-column\); it has 文件名'
    ):
        read_manifest(str(tmp_path / "文件名.csv"), wrong)


def test_a_workbook_is_a_manifest(tmp_path: Path) -> None:
    rows = [
        ["id", "image", "instruction", "seed", "restore_size", "价格"],
        [1, "夜.jpg", "把它变成夜晚", 7, True, 9.5],
        [None, None, None, None, None, None],
        [2.0, "b.png", "=加雾", None, None, None],
    ]
    path = workbook(tmp_path / "m.xlsx", [[], *rows], [["notes"]], [])
    manifest = open_manifest(path)
    assert manifest.plan["id"].to_pylist() == ["1", "2"]
    assert manifest.plan["row"].to_pylist() == [3, 5]  # as Excel counts
    first, second = options(manifest.plan)
    assert (first.seed, first.restore_size, second.seed) == (7, True, None)
    assert carried_values(manifest.plan["carried"][0].as_py()) == {"价格": 9.5}
    assert manifest.notes[0] == f'{path}: of its sheets "Sheet1" is read, not Sheet2'


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([["image", "instruction"], ["a", "b", "c"]], "row 2: 3 cells, the header has 2"),
        ([["image", "steps", "instruction"]], 'mean "num_inference_steps"'),
        ([], 'no column "image"; it has none'),
    ],
)
def test_a_workbook_that_is_no_manifest_is_refused(
    tmp_path: Path, rows: list[list[Any]], says: str
) -> None:
    path = workbook(tmp_path / "m.xlsx", rows)
    with pytest.raises(ManifestInvalid, match=says):
        read_manifest(path)
    (tmp_path / "m.xlsx").write_bytes(b"PK")
    with pytest.raises(ManifestInvalid, match=r"m\.xlsx cannot be read"):
        read_manifest(path)


@pytest.mark.parametrize("ending", ["xlsx", "csv", "parquet", "jsonl"])
def test_a_folder_is_written_as_a_manifest_and_read_again(tmp_path: Path, ending: str) -> None:
    shop = tmp_path / "shop"
    (shop / "夜").mkdir(parents=True)
    names = ["=1.jpg", "a b#%.png", "夜/c.webp"]
    for name in names:
        (shop / name).write_bytes(name.encode())
    dest = tmp_path / "lists" / f"m.{ending}"
    dest.parent.mkdir()
    rows, _ = write_manifest(str(shop), str(dest), Reading(("=夜", "fog")))
    plan = read_manifest(str(dest))
    assert rows == len(plan) == 6
    assert plan["instruction"].to_pylist() == ["=夜", "fog"] * 3
    read = [read_source(image, str(dest.parent)).decode() for image in plan["image"].to_pylist()]
    assert read == [name for name in names for _ in range(2)]
    with pytest.raises(OutputUnusable, match="is there already"):
        write_manifest(str(shop), str(dest), Reading())


def test_a_manifest_to_be_filled_in_has_an_empty_column(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    write_manifest(str(tmp_path), str(tmp_path / "m.xlsx"), Reading())
    sheet = load_workbook(tmp_path / "m.xlsx").active
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [
        ["id", "image", "instruction"],
        ["a.jpg", "a.jpg", None],
    ]


@pytest.mark.parametrize(
    ("name", "dest", "says"),
    [
        ("a.jpg", "m.txt", "name a .parquet, .csv, .xlsx, .jsonl"),
        ("a\x01.jpg", "m.xlsx", r"row 2: .* holds a control character"),
        ("a.jpg", "none/m.csv", r"none/m\.csv cannot be written: No such file"),
    ],
)
def test_a_manifest_that_cannot_be_written_is_refused(
    tmp_path: Path, name: str, dest: str, says: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(OutputUnusable, match=says):
        write_manifest(str(tmp_path), str(tmp_path / dest), Reading())


def test_backslashes_of_windows_are_folders_where_no_file_has_them_in_its_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(b"folder")
    assert read_source(r"sub\a.jpg", str(tmp_path)) == b"folder"
    (tmp_path / r"sub\a.jpg").write_bytes(b"name")
    assert read_source(r"sub\a.jpg", str(tmp_path)) == b"name"
    assert places_of("s3://b/a\\b.jpg", "") == ["s3://b/a\\b.jpg"]
    assert places_of("a\\b.jpg", "s3://b") == ["s3://b/a\\b.jpg", "s3://b/a/b.jpg"]


@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_cells_hold_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    separator: str,
    encoding: str,
    line_end: str,
) -> None:
    path = tmp_path_factory.mktemp("cells") / "m.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator, lineterminator=line_end)
        writer.writerows([("image", "instruction", "note"), *rows])
    plan = read_manifest(str(path))
    notes = [carried_values(one)["note"] for one in plan["carried"].to_pylist()]
    read = zip(plan["image"].to_pylist(), plan["instruction"].to_pylist(), notes, strict=True)
    assert list(read) == rows
