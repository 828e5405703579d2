"""Deploys a new version of the application into a running server's Ray: `serve deploy` again."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import ray

from cluster.ray_private import on_loopback
from serve_app.app import deploy
from serve_app.config import ServeConfig
from serve_app.served import find_models
from tests.serve_app.editors import paced

if __name__ == "__main__":
    address, config, port = sys.argv[1:]
    settings = ServeConfig.of(json.loads(config))
    with on_loopback():  # where the server's own Ray is
        ray.init(address=address)
    models = [replace(model, spec=paced(model.spec)) for model in find_models(settings)]
    deploy(settings, models, "127.0.0.1", int(port))
