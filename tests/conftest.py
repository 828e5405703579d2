"""What every test shares: real photographs, and two real models small enough for a CPU."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

# Before Ray is imported: its token mode would write into the user's home.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["HOME"] = tempfile.mkdtemp(prefix="rayedit-home-")

from engine import EditActor, EditOptions, EngineConfig
from engine.registry import MODELS, ModelSpec, find_model
from engine.sources import Prepared, prepare

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
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder in the layout of SD 1.5's InstructPix2Pix with small random weights:
    4 latent channels, factor 8, epsilon prediction, leading timesteps with offset 1, PNDM."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("models") / "tiny-sd15"
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    shutil.copytree(POCKET / "tokenizer", folder / "tokenizer")
    tokenizer = json.loads((POCKET / "tokenizer" / "tokenizer_config.json").read_text())
    vocabulary = json.loads((POCKET / "text_encoder" / "config.json").read_text())["vocab_size"]
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=tokenizer["model_max_length"],
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    for name, part in (("vae", vae), ("unet", unet), ("text_encoder", text_encoder)):
        part.save_pretrained(folder / name)
    scheduler = {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = json.loads((POCKET / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "PNDMScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


Prepare = Callable[..., Prepared]


@pytest.fixture(scope="session")
def edit_of(photographs: dict[str, bytes], pocket: ModelSpec) -> Prepare:
    """edit_of("coffee", "make it night", seed=1, ...) -> a request at model size."""

    def make(
        name: str, instruction: str, *, id: str = "", spec: ModelSpec = pocket, **options: object
    ) -> Prepared:
        resolved = spec.resolve(EditOptions.parse(options), seed=0)
        return prepare(id or name, photographs[name], instruction, resolved, spec)

    return make


@pytest.fixture(scope="module")
def strict_actor(pocket: ModelSpec) -> Iterator[EditActor]:
    with EditActor(EngineConfig(determinism="strict"), pocket) as actor:
        yield actor
