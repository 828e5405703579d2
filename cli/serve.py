"""`rayedit serve`: the OpenAI-compatible API on Ray Serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.edit import AcceptFlag, MetadataFlag
from engine.config import EngineConfig
from engine.errors import OptionInvalid
from engine.flags import with_flags
from engine.options import Determinism


@with_flags((EngineConfig, ("translate",)))
def serve(
    config: Annotated[Path | None, typer.Option(help="YAML; see configs/serve/.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name, folder, or hub_id@revision; given again: one more model."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    determinism: Annotated[Determinism | None, typer.Option(help="What bytes depend on.")] = None,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="A line for each API key: its sha256, its name.")
    ] = None,
    accept: AcceptFlag = None,
    metadata: MetadataFlag = None,
    insecure_public: Annotated[
        bool | None, typer.Option("--insecure-public", help="Public address, no API keys.")
    ] = None,
    **engine: Any,
) -> None:
    """Serve POST /v1/images/edits until Ctrl-C."""
    from engine.config import load_config
    from serve_app.app import ServeConfig, run_server

    alone = model[0] if model and len(model) == 1 else None
    settings = load_config(
        config,
        ServeConfig,
        engine={"model": alone, "determinism": determinism, **engine},
        models={} if alone else _named(model or []),
        api_keys_file=api_keys_file and str(api_keys_file.resolve()),
        accept=accept,
        metadata=metadata,
        insecure_public=insecure_public,
    )
    run_server(settings, host=host, port=port)


def _named(models: list[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Make `models` of a configuration from what several --model say: a folder has its own name,
    a hub id its own. Raises `OptionInvalid` for two of one name."""
    named: dict[str, dict[str, dict[str, str]]] = {}
    for model in models:
        folder = Path(model)
        name = folder.resolve().name if folder.is_dir() else model.partition("@")[0]
        if name in named:
            raise OptionInvalid(
                f'--model: two are named "{name}"; name them in a --config, under models',
                param="model",
            )
        named[name] = {"engine": {"model": model}}
    return named
