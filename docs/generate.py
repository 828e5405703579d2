"""Writes the tables of docs/ from the code; `--check` fails where one is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batch_jobs.config import JobConfig
from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.manifest.columns import ALIASES, BESIDE, OTHERS_OPTIONS
from docs.reference import api_page
from engine.config import EngineConfig
from engine.edit import WARNINGS
from engine.errors import EngineError, error_classes
from engine.fields import bounds
from engine.options import EditOptions
from serve_app import errors as http_errors
from serve_app.config import ServeConfig
from storage.backends import BACKENDS

HERE = Path(__file__).parent

COLUMN_NOTES = {
    "id": "the manifest's id",
    "status": "`ok` or `error`",
    "error_code": "see errors.md; null where ok",
    "error_param": "the option or field that was wrong, if one was",
    "attempts": "how often the row was run",
    "fingerprint": "what the result depends on; the same fingerprint is never edited twice",
    "source": "image as the manifest names it; null where the manifest holds the bytes",
    "carried": "columns that mean nothing to an edit, as a JSON object",
    "place": "where: file, row group (0 in JSONL), row (in JSONL the byte where it starts)",
    "source_sha256": "of the source's bytes",
    "references": "further images as the manifest names them; null where it holds the bytes",
    "mask": "mask as the manifest names it; null where the manifest holds the bytes, or has none",
    "outputs": "one entry an image: uri, sha256, width_px, height_px, seed, edit_report, mask_uri, "
    "and of an edit with a style its source_look and look",
    "warnings": "codes of what was softened",
    "batch_size": "the most samples that shared a model call with it",
    "model_s": "seconds from its first model call to its last",
    "scheduler": "null: the model's own",
    "size": "null: from the model's resolution",
    "instruction": "as the model read it, a style written out",
    "style": "of the edit; what it says stands in the other columns",
}


FILES = """\
Of a folder every manifest below it is read. Other files, outputs of jobs and a `.json` (more often
a description: name it) are left out and named; hidden ones, and what begins with `_`, are passed
over. A folder `split=train` gives what lies below it a column `split`. An empty file has no rows,
and is named. Relative images start from `--image-base`, where it is given; `--image-root` is a
fence, and moves nothing. Windows' `\\` in a path is a `/`, where no file has it in its name.

A CSV is UTF-8, or what Excel makes of it: UTF-16, GBK (with a line that says so), semicolons or
tabs in place of commas. Of a workbook the first sheet is read, of a formula its value.
`--image-column`, `--instruction-column` and `--id-column` say which columns are meant, whatever
they are called.

A folder of pictures needs no manifest: `--instruction TEXT` edits every picture below it, given
again every picture with each, `--glob` says which; the id of a row is the path of its picture.
With a `--style` that is the whole instruction there may be none.
`rayedit manifest FOLDER -o m.xlsx` writes them down, to be edited.

"""
NAMES = """\
## Other names that are understood

Those of public data sets, so that these are read as they are; of a list of instructions the last
one. Their ids (`idx`, `key`, `img_id`) are carried, since not all of them are unique: `--id-column`
takes one that is. Turns of one picture (MagicBrush) are rows of their own, each edited from the
image that it names.
"""
REFUSED = """\
## Columns that mean nothing to an edit

They are named at the start, and go into the ledger's `carried` (`--no-carry`: they do not), but
files and what is longer than 10,000 characters as JSON. One that looks like an option is refused,
with the right name: in another spelling (`Seed`), or as other programs call it.
"""

SHAPES = """\
## JSONL of others

A JSONL file has the shape of its first line; names of columns may differ from line to line. Of an
image as `{"bytes"}` the bytes are base64.

| shape | a line | comes out by `rayedit export OUTPUT --to` |
| --- | --- | --- |
| columns | `{"id", "image", "instruction", ...}` | `jsonl`: the ledger's columns |
| DataFlow | `{"images", "conversations"}`, and `id`, `mask` and options as columns | `dataflow`: \
`images`, `conversations`, `output_image`, `id`, `mask` where the manifest names one, and `error` \
where it failed |
| OpenAI Batch | `{"custom_id", "method": "POST", "url": "/v1/images/edits", "body"}` | \
`openai-batch`: `id`, `custom_id`, `response` {`status_code`, `request_id`, `body`}, `error` |

DataFlow: `images` is one path, or a list of several; the `content` of the last message is the
instruction, as in DataFlow itself. OpenAI Batch: the body is that of the HTTP API
([api.md](api.md)), `image_url` (also that of `mask`) a data URL, a path or a URI; a request that
failed has the API's status and error body in `response`. Lines come out by id, numbers in it by
their value; any output can be exported as any shape.

Tables come out by `--to csv` and `--to xlsx`: a row for each row of the manifest, its outputs,
its options and what it carried. `--to triplets` writes Parquet in UltraEdit's columns (`idx`,
`source_image`, `edited_image`, `edit_prompt`, `mask_image`, captions, scores), then what was
carried: the pictures are in it, a row for each edited image, and rows that failed are not.
"""


def errors_page() -> str:
    intro = (
        "The same codes everywhere: `error.code` of an HTTP answer, `error_code` of the ledger.\n"
        "Sent again, a retryable one may succeed."
    )
    over_http = _error_table(error_classes(http_errors.__name__))
    softened = _table(("code", "meaning"), [(f"`{code}`", text) for code, text in WARNINGS.items()])
    body = (
        f"{_error_table(error_classes())}\n## Over HTTP alone\n\n{over_http}\n"
        "## Warnings\n\n"
        "The edit was made; `warnings` says what was softened. PNG has checksums, so one wrong\n"
        "byte among its pixels is an error. JPEG and WebP have none: there a wrong byte may show\n"
        f"as wrong pixels and as nothing else.\n\n{softened}"
    )
    return _page("Errors", intro, body)


def _error_table(classes: list[type[EngineError]]) -> str:
    rows = [
        (f"`{cls.code}`", str(cls.status), "yes" if cls.retryable else "no", _first_line(cls))
        for cls in classes
    ]
    return _table(("code", "HTTP", "retryable", "meaning"), rows)


def config_page() -> str:
    parts = []
    for model, where in (
        (
            EngineConfig,
            "`engine:` of every YAML; `rayedit edit --config` also reads these keys alone",
        ),
        (JobConfig, "`rayedit batch --config`; configs/batch/"),
        (ServeConfig, "`rayedit serve --config`; configs/serve/"),
    ):
        rows = [
            (f"`{name}`", _type(field.annotation), _default(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        table = _table(("key", "type", "default", "meaning"), rows)
        parts.append(f"## {model.__name__}\n\n{where}\n\n{table}")
    intro = "What an operator sets. An unknown key is refused with the nearest known one."
    return _page("Configuration", intro, "\n".join(parts))


def manifest_page() -> str:
    options = [
        (f"`{name}`", _type(field.annotation), bounds(field), field.description or "")
        for name, field in EditOptions.model_fields.items()
    ]
    aliases = [(f"`{alias}`", f"`{name}`") for alias, name in ALIASES.items()]
    aliases += [(f"`{alias}` beside `{by}`", f"`{name}`") for (alias, by), name in BESIDE.items()]
    others = [(f"`{other}`", f"`{name}`") for other, name in OTHERS_OPTIONS.items()]
    ledger = [
        (f"`{field.name}`", f"`{field.type}`".replace("|", "\\|"), COLUMN_NOTES.get(field.name, ""))
        for field in SCHEMA
    ]
    intro = (
        "A manifest is Parquet, JSONL, JSON (a list of objects), CSV or XLSX: a file, a folder or\n"
        "a glob, in which `**` stands for any folders, none among them. All but Parquet and XLSX\n"
        "may be packed by gzip. One row is one edit.\n"
        "`image` (a path or URI, absolute or relative to the manifest's folder, of a glob to the\n"
        "last folder before its first `*`, `?` or `[`; in Parquet also the bytes, or {bytes,\n"
        "path}; in Parquet and JSONL also a data URL) and `instruction` are required, but that a\n"
        "`style` may be the whole instruction ([styles](styles.md)). A local file may be named by\n"
        "its `file:` URI, percents decoded; accents may be composed or not. `id` must be unique\n"
        "and is generated where it is absent. Every option of an edit is a column of its name,\n"
        "null (in CSV an empty cell) meaning the model's default.\n\n"
        f"{FILES}"
        "In Parquet and JSONL `image` may be a list of such, for a model that edits from several:\n"
        "the first is edited and makes the canvas, the others are seen beside it. What is wrong\n"
        "with one of them is its row's own error, and `error_message` says which one.\n\n"
        "`mask`, given in any of the ways of one image, is OpenAI's: a PNG of 8 bits a channel\n"
        "with alpha, as large as the image when upright. Where alpha is 0 the edit is made,\n"
        "where it is 255 the source's pixels stay; null: all may change. What is wrong with a\n"
        "mask is its row's own error, and `error_param` is `mask`.\n\n"
        "A column of a type that cannot hold its meaning (a `seed` that is bool) and any Arrow\n"
        "extension type are refused by name. `rayedit validate` checks every row and a sample of\n"
        "images before a job; `--estimate` edits 5 rows and estimates the time of all."
    )
    body = "\n".join(
        [
            "## Options\n\n" + _table(("column", "type", "bounds", "meaning"), options),
            f"{NAMES}\n{_table(('column', 'means'), aliases)}",
            f"{REFUSED}\n{_table(('column', 'the option'), others)}",
            SHAPES,
            "## The ledger: `results/*.parquet`\n\n" + _table(("column", "type", ""), ledger),
        ]
    )
    return _page("Manifest and ledger", intro, body)


def storage_page() -> str:
    rows = [
        (
            f"`{backend.scheme}://`",
            backend.title,
            f"`{backend.package}`" if backend.package else "",
            backend.settings,
            "yes" if backend.may_be_output else "no",
            ", ".join(f"`{key}`" for key in backend.version_keys) or "its size alone",
        )
        for backend in BACKENDS
    ]
    head = ("URI", "storage", "package", "set in every node's environment", "output", "version")
    intro = (
        "Manifests and images are read from any of these, for example\n"
        "`hf://datasets/OWNER/NAME/data/*.parquet`; a job writes where `output` says yes. All go\n"
        "through fsspec. s3fs is in `requirements.lock`; gcsfs is to be installed. Beside the\n"
        "size `--check-sources` compares the `version`.\n\n"
        "Time-outs, 408, 425, 429 and 5xx are asked again with growing pauses, about 6 s on top\n"
        "of the client's own; then a row's source is an `internal_error` of that row, and an\n"
        "output that cannot be written stops the job with 4. Files appear whole or not at all."
    )
    return _page("Storage", intro, _table(head, rows))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is Literal:
        return " \\| ".join(str(value) for value in get_args(annotation))
    if isinstance(annotation, UnionType) or get_args(annotation):
        return " \\| ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    return getattr(annotation, "__name__", str(annotation))


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, BaseModel):
        return "see above"
    return "" if field.default in (None, ()) else f"`{field.default}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _page(title: str, intro: str, body: str) -> str:
    return f"# {title}\n\nGenerated by `make docs`; do not edit.\n\n{intro}\n\n{body}"


PAGES = {
    "api.md": api_page,
    "config.md": config_page,
    "errors.md": errors_page,
    "manifest.md": manifest_page,
    "storage.md": storage_page,
}


def main() -> None:
    """Write the pages, or with `--check` compare them."""
    stale = []
    for name, page in PAGES.items():
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_text(page())
        elif not path.exists() or path.read_text() != page():
            stale.append(name)
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
