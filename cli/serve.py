"""`rayedit serve`: the OpenAI-compatible API on Ray Serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.edit import AcceptFlag, MetadataFlag
from engine.options import Determinism


def serve(
    config: Annotated[Path | None, typer.Option(help="YAML; see configs/serve/.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Name, folder, or hub_id@revision.")
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
) -> None:
    """Serve POST /v1/images/edits until Ctrl-C."""
    from engine.config import load_config
    from engine.errors import OptionInvalid
    from serve_app.app import ServeConfig, run_server

    if model and len(model) > 1:
        raise OptionInvalid(
            f"--model is given {len(model)} times, and a server has one model: start another for "
            "each, at a --port of its own",
            param="model",
        )
    settings = load_config(
        config,
        ServeConfig,
        engine={"model": model[0] if model else None, "determinism": determinism},
        api_keys_file=api_keys_file and str(api_keys_file.resolve()),
        accept=accept,
        metadata=metadata,
        insecure_public=insecure_public,
    )
    run_server(settings, host=host, port=port)
