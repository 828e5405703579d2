"""Writes the tables of docs/ from the code; `--check` fails where one is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from batch_jobs.config import JobConfig
from docs.api_page import api_page
from docs.manifest_page import manifest_page
from docs.markdown import default, page, table, type_name
from engine.config import EngineConfig
from engine.edit import WARNINGS
from engine.error_codes import error_classes
from engine.errors import EngineError
from serve_app import errors as http_errors
from serve_app.config import ServeConfig
from storage.backends import BACKENDS
from triplet_jobs.config import TripletConfig

HERE = Path(__file__).parent


def errors_page() -> str:
    intro = (
        "The same codes everywhere: `error.code` of an HTTP answer, `error_code` of the ledger.\n"
        "Sent again, a retryable one may succeed."
    )
    over_http = _error_table(error_classes(http_errors.__name__))
    softened = table(("code", "meaning"), [(f"`{code}`", text) for code, text in WARNINGS.items()])
    body = (
        f"{_error_table(error_classes())}\n## Over HTTP alone\n\n{over_http}\n"
        "## Warnings\n\n"
        "The edit was made; `warnings` says what was softened. PNG has checksums, so one wrong\n"
        "byte among its pixels is an error. JPEG and WebP have none: there a wrong byte may show\n"
        f"as wrong pixels and as nothing else.\n\n{softened}"
    )
    return page("Errors", intro, body)


def _error_table(classes: list[type[EngineError]]) -> str:
    rows = [
        (f"`{cls.code}`", str(cls.status), "yes" if cls.retryable else "no", _first_line(cls))
        for cls in classes
    ]
    return table(("code", "HTTP", "retryable", "meaning"), rows)


def config_page() -> str:
    parts = []
    for model, where in (
        (
            EngineConfig,
            "`engine:` of every YAML; `rayedit edit --config` also reads these keys alone",
        ),
        (JobConfig, "`rayedit batch --config`; configs/batch/"),
        (TripletConfig, "`rayedit triplets --config`; configs/triplets/"),
        (ServeConfig, "`rayedit serve --config`; configs/serve/"),
    ):
        rows = [
            (f"`{name}`", type_name(field.annotation), default(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        keys = table(("key", "type", "default", "meaning"), rows)
        parts.append(f"## {model.__name__}\n\n{where}\n\n{keys}")
    intro = "What an operator sets. An unknown key is refused with the nearest known one."
    return page("Configuration", intro, "\n".join(parts))


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
    return page("Storage", intro, table(head, rows))


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


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
    for name, made in PAGES.items():
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_text(made())
        elif not path.exists() or path.read_text() != made():
            stale.append(name)
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
