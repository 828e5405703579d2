"""The styles of a plan, written out: every row says all that its edit is made with.

So the fingerprint of a row sees what its style says today, and a style that changes is edited
again, in its own rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
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
    plan: pa.Table,
    styles: Styles,
    spec: ModelSpec,
    default: str | None = None,
    said: Collection[str] = (),
) -> pa.Table:
    """Write out the style of each row: its instruction and its options. What is wrong with a row's
    style is its fault.

    `default`: of rows that name none; `said`: options that the job says beside it, which outrank
    it. Raises `OptionError` where the default is no style of the model.
    """
    if default is not None:
        styles.find(default, spec)
    elif not pc.any(pc.match_substring(plan["options"], '"style"')).as_py():
        return plan
    styled = _StyledRows(styles, spec, default, said)
    batches = plan.to_batches(max_chunksize=_ROWS_AT_ONCE)
    return pa.concat_tables([styled.of(pa.Table.from_batches([batch])) for batch in batches])


@dataclass(frozen=True, slots=True)
class _StyledRows:
    """Makes them, with what `with_styles` is given."""

    styles: Styles
    spec: ModelSpec
    default: str | None
    said: Collection[str]

    def of(self, part: pa.Table) -> pa.Table:
        """Write out the styles of these rows."""
        rows = [self._row(row) for row in part.select([*_COLUMNS, "model"]).to_pylist()]
        for name in _COLUMNS:
            at = part.schema.get_field_index(name)
            field = part.schema.field(at)
            part = part.set_column(at, field, pa.array([row[name] for row in rows], field.type))
        return part

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write out one, unless it has a fault already or is another model's."""
        own = json.loads(row["options"])
        name = own.get("style", self.default)
        if name is None or row["fault"] is not None or row["model"] not in (None, self.spec.name):
            return row
        try:
            text, given = self.styles.expand(name, row["instruction"] or "", self.spec)
        except RequestError as error:
            return {**row, "fault": asdict(Fault.of(error))}
        if "style" not in own:
            given = {option: given[option] for option in given if option not in self.said}
        options = options_json({**given, "style": name, **own})
        return {**row, "instruction": text, "options": options}
