"""Deploys a new version of the application into a running server's Ray: `serve deploy` again."""

from __future__ import annotations

import json
import sys

import ray

from serve_app.app import deploy
from serve_app.config import ServeConfig
from tests.serve_app.editors import paced

if __name__ == "__main__":
    address, config, port = sys.argv[1:]
    settings = ServeConfig.of(json.loads(config))
    ray.init(address=address)
    spec = paced(settings.engine.find_model())
    deploy(settings, spec, "127.0.0.1", int(port))
