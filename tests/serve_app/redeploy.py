"""Deploys a new version of the application into a running server's Ray: `serve deploy` again."""

from __future__ import annotations

import json
import sys

import ray

from engine.registry import find_model
from serve_app.app import deploy
from serve_app.config import ServeConfig
from tests.serve_app.editors import paced

if __name__ == "__main__":
    address, config, port = sys.argv[1:]
    settings = ServeConfig.of(json.loads(config))
    ray.init(address=address)
    spec = paced(find_model(settings.engine.model, settings.engine.resolution))
    deploy(settings, spec, "127.0.0.1", int(port))
