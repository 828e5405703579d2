"""A served model, as `/v1/models` describes it."""

from __future__ import annotations

from typing import get_args

from engine.options import EditOptions, Scheduler
from engine.spec import ModelSpec
from engine.styles import Styles
from serve_app.schemas import Model, ModelStatus, ModelStyle


def model_card(
    name: str, spec: ModelSpec, styles: Styles, created: int, status: ModelStatus | None = None
) -> Model:
    """Describe a model that is served as `name`; `created`: unix time in seconds at which its
    server started."""
    return Model(
        id=name,
        created=created,
        resolution_px=spec.resolution,
        size_multiple_px=spec.multiple,
        max_side_px=spec.max_side,
        max_sources=spec.max_sources,
        options=[name for name in EditOptions.model_fields if spec.has(name)],
        schedulers=[*get_args(Scheduler)],
        defaults=dict(spec.defaults),
        styles=[
            ModelStyle(
                id=name,
                description=style.description,
                template=style.template,
                options=style.given,
            )
            for name, style in styles.of_model(spec).items()
        ],
        status=status,
    )
