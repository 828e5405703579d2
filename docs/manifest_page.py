"""docs/manifest.md as text: what a job reads, and the ledger that it writes."""

from __future__ import annotations

from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.manifest.columns import ALIASES, BESIDE, OTHERS_OPTIONS
from docs.markdown import page, table, type_name
from engine.fields import bounds
from engine.options import EditOptions

COLUMN_NOTES = {
    "id": "the manifest's id",
    "status": "`ok` or `error`",
    "error_code": "see errors.md; null where ok",
    "error_param": "the option or field that was wrong, if one was",
    "attempts": "how often the row was run",
    "fingerprint": "what the result depends on; the same fingerprint is never edited twice",
    "source": "image as the manifest names it, of a later turn the picture that it edits; null "
    "where the manifest holds the bytes",
    "chain_id": "rows of one edit each other's pictures, turn by turn",
    "turn": "from 1",
    "carried": "columns that mean nothing to an edit, as a JSON object",
    "place": "where: file, row group (0 in JSONL), row (in JSONL the byte where it starts)",
    "source_sha256": "of the source's bytes",
    "references": "further images as the manifest names them; null where it holds the bytes",
    "mask": "mask as the manifest names it; null where the manifest holds the bytes, or has none",
    "outputs": "one entry an image: uri, sha256, width_px, height_px, seed, edit_report, mask_uri, "
    "source_uri of a pair, and of an edit with a style its source_look and look",
    "scores": "of a pair of `rayedit triplets`",
    "filtered": "which score kept a pair out of the data set, or `not_among_best`: its pictures "
    "are not kept",
    "warnings": "codes of what was softened",
    "understood_as": "with the warning `instruction_unknown`: the edit that was made",
    "batch_size": "the most samples that shared a model call with it",
    "model_s": "seconds from its first model call to its last",
    "scheduler": "null: the model's own",
    "size": "null: from the model's resolution",
    "instruction": "as the model read it, a style written out",
    "instruction_used": "what the model read in its place, where it was translated",
    "style": "of the edit; what it says stands in the other columns",
}

INTRO = """\
A manifest is Parquet, JSONL, JSON (a list of objects), CSV or XLSX: a file, a folder or
a glob, in which `**` stands for any folders, none among them. All but Parquet and XLSX
may be packed by gzip. One row is one edit.
`image` (a path or URI, absolute or relative to the manifest's folder, of a glob to the
last folder before its first `*`, `?` or `[`; in Parquet also the bytes, or {bytes,
path}; in Parquet and JSONL also a data URL) and `instruction` are required, but that a
`style` may be the whole instruction ([styles](styles.md)). A local file may be named by
its `file:` URI, percents decoded; accents may be composed or not. `id` must be unique
and is generated where it is absent. Every option of an edit is a column of its name,
null (in CSV an empty cell) meaning the model's default.

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

In Parquet and JSONL `image` may be a list of such, for a model that edits from several:
the first is edited and makes the canvas, the others are seen beside it. What is wrong
with one of them is its row's own error, and `error_message` says which one.

Rows of one `chain_id` are the turns of one picture, and `turn` counts them from 1: the first names
its image, each later one edits what the turn before made, as it was published (of several images
the first), and needs none. Where it names one all the same it is not read, as in MagicBrush's own
multi-turn script, and that is said; further images of a list are seen. A chain that lacks a turn,
or has one twice, is refused. `--chain-id-column` and `--turn-column` say which columns are meant;
how such rows run says [jobs](jobs.md#turns).

`mask`, given in any of the ways of one image, is OpenAI's: a PNG of 8 bits a channel
with alpha, as large as the image when upright. Where alpha is 0 the edit is made,
where it is 255 the source's pixels stay; null: all may change. What is wrong with a
mask is its row's own error, and `error_param` is `mask`.

A column of a type that cannot hold its meaning (a `seed` that is bool) and any Arrow
extension type are refused by name. `rayedit validate` checks every row and a sample of
images before a job; `--estimate` edits 5 rows and estimates the time of all."""
NAMES = """\
## Other names that are understood

Those of public data sets, so that these are read as they are; of a list of instructions the last
one. Their ids (`idx`, `key`, `img_id`) are carried, since not all of them are unique: `--id-column`
takes one that is. Turns of one picture (MagicBrush) are rows of their own, each edited from the
image that it names, what a person made of the turn before; `--chain-id-column img_id --turn-column
turn_index` edits them as chains, each from what the model made.
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
([api.md](api.md)), `image_url` (also that of `mask`) a data URL, a path or a URI (in a batch of a
server a data URL alone, or a `file_id`); a request that failed has the API's status and error body
in `response`. Lines come out by id, numbers in it by
their value; any output can be exported as any shape.

Tables come out by `--to csv` and `--to xlsx`: a row for each row of the manifest, its outputs,
its options and what it carried. `--to triplets` writes Parquet in UltraEdit's columns (`idx`,
`source_image`, `edited_image`, `edit_prompt`, `mask_image`, captions, scores), then what was
carried: the pictures are in it, a row for each edited image, and rows that failed are not.
`--to instruct-pix2pix` has InstructPix2Pix's columns (`original_prompt`, `original_image`,
`edit_prompt`, `edited_prompt`, `edited_image`), `imagefolder` and `webdataset` are a folder and a
tar of the same: see [triplets.md](triplets.md).
"""


def manifest_page() -> str:
    """The page in Markdown."""
    options = [
        (f"`{name}`", type_name(field.annotation), bounds(field), field.description or "")
        for name, field in EditOptions.model_fields.items()
    ]
    aliases = [(f"`{alias}`", f"`{name}`") for alias, name in ALIASES.items()]
    aliases += [(f"`{alias}` beside `{by}`", f"`{name}`") for (alias, by), name in BESIDE.items()]
    others = [(f"`{other}`", f"`{name}`") for other, name in OTHERS_OPTIONS.items()]
    ledger = [
        (f"`{field.name}`", f"`{field.type}`".replace("|", "\\|"), COLUMN_NOTES.get(field.name, ""))
        for field in SCHEMA
    ]
    body = "\n".join(
        [
            "## Options\n\n" + table(("column", "type", "bounds", "meaning"), options),
            f"{NAMES}\n{table(('column', 'means'), aliases)}",
            f"{REFUSED}\n{table(('column', 'the option'), others)}",
            SHAPES,
            "## The ledger: `results/*.parquet`\n\n" + table(("column", "type", ""), ledger),
        ]
    )
    return page("Manifest and ledger", INTRO, body)
