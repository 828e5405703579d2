"""What every test shares: real photographs, and two real models small enough for a CPU."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import skimage.data
from PIL import Image

# Before Ray is imported: its token mode would write into the user's home.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["HOME"] = tempfile.mkdtemp(prefix="rayedit-home-")

from engine import EditActor, EditOptions, EngineConfig
from engine.catalogue import MODELS
from engine.registry import find_model
from engine.sources import Prepared, Source, prepare
from engine.spec import ModelSpec

hypothesis.settings.register_profile("rayedit", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("rayedit")

POCKET = Path(MODELS["pocket"].source)
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")


def photograph(name: str) -> np.ndarray:
    """A photograph that scikit-image's wheel ships, (H, W, 3) uint8."""
    return getattr(skimage.data, name)()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """The empty home folder of the run, removed after it."""
    folder = Path(os.environ["HOME"])
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def photographs() -> dict[str, bytes]:
    return {name: jpeg(photograph(name)) for name in PHOTOGRAPHS}


@pytest.fixture(scope="session")
def pocket() -> ModelSpec:
    """The embedded model at 64 px, so that an edit takes a fraction of a second."""
    return find_model("pocket", resolution=64)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """tiny("flux-kontext") -> a diffusers folder of that family with small random weights."""
    root = tmp_path_factory.mktemp("tiny")

    @cache
    def folder_of(family: str) -> Path:
        from tests.tiny import build

        return build(family, root / family)

    return folder_of


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """This process connected to the one Ray of the run."""
    from tests.batch_jobs.shared_ray import shared_ray

    with shared_ray(request.config):
        yield


Prepare = Callable[..., Prepared]


@pytest.fixture(scope="session")
def edit_of(photographs: dict[str, bytes], pocket: ModelSpec) -> Prepare:
    """edit_of("coffee", "make it night", seed=1, ...) -> a request at model size."""

    def make(
        name: str, instruction: str, *, id: str = "", spec: ModelSpec = pocket, **options: object
    ) -> Prepared:
        resolved = spec.resolve(EditOptions.parse(options), seed=0)
        return prepare(id or name, Source(photographs[name]), instruction, resolved, spec)

    return make


@pytest.fixture(scope="module")
def strict_actor(pocket: ModelSpec) -> Iterator[EditActor]:
    # as the servers of the tests
    config = EngineConfig(resolution=64, determinism="strict", num_threads=1)
    with EditActor(config, pocket) as actor:
        yield actor
