"""The styles of a plan, written out: every row says all that its edit is made with.

So the fingerprint of a row sees what its style says today, and a style that changes is edited
again, in its own rows alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.planned import options_json
from engine.errors import RequestError
from engine.spec import ModelSpec
from engine.styles import Styles

_COLUMNS = ("instruction", "options", "fault")  # that a style writes
_ROWS_AT_ONCE = 8192  # of a long manifest, as Python objects


def with_styles(
    plan: pa.Table, styles: Styles, spec: ModelSpec, default: str | None = None
) -> pa.Table:
    """Write out the style of each row: its instruction and its options; `default`: of rows that
    name none. What is wrong with a row's style is its fault.

    Raises `OptionError` where `default` is no style of the model.
    """
    if default is not None:
        styles.find(default, spec)
    elif not pc.any(pc.match_substring(plan["options"], '"style"')).as_py():
        return plan
    parts = [
        _expanded(pa.Table.from_batches([batch]), styles, spec, default)
        for batch in plan.to_batches(max_chunksize=_ROWS_AT_ONCE)
    ]
    return pa.concat_tables(parts)


def _expanded(part: pa.Table, styles: Styles, spec: ModelSpec, default: str | None) -> pa.Table:
    rows = [
        _expand(row, styles, spec, default) for row in part.select([*_COLUMNS, "model"]).to_pylist()
    ]
    for name in _COLUMNS:
        at = part.schema.get_field_index(name)
        field = part.schema.field(at)
        part = part.set_column(at, field, pa.array([row[name] for row in rows], field.type))
    return part


def _expand(
    row: dict[str, Any], styles: Styles, spec: ModelSpec, default: str | None
) -> dict[str, Any]:
    """Write out the style of a row, unless it has a fault already or is another model's."""
    own = json.loads(row["options"])
    name = own.get("style", default)
    if name is None or row["fault"] is not None or row["model"] not in (None, spec.name):
        return row
    try:
        text, given = styles.expand(name, row["instruction"] or "", spec)
    except RequestError as error:
        return {**row, "fault": asdict(Fault.of(error))}
    options = options_json({**given, "style": name, **own})
    return {**row, "instruction": text, "options": options}
