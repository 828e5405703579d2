"""Put the trained parts together: an ordinary diffusers folder in fp16, with a lock of sha256s.

`StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, safety_checker=None)` loads it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)

from engine.quality.judge import WEIGHTS
from engine.weights import JUDGE, KNOWN_EDITS
from training.editor import new_scheduler
from training.text_encoder import TextEncoder

LOCK_FILE = "weights.sha256.json"
UNLOCKED = {LOCK_FILE, "README.md"}
CARD = Path(__file__).parent / "model_card.md"


def assemble(vae: Path, unet: Path, text: Path) -> StableDiffusionInstructPix2PixPipeline:
    """The pipeline from the folders that the three training programs wrote."""
    encoder = TextEncoder.load(text)
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderKL.from_pretrained(vae),
        text_encoder=encoder.model,
        tokenizer=encoder.tokenizer,
        unet=UNet2DConditionModel.from_pretrained(unet),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline.to(torch.float16)


def clean_configs(folder: Path) -> None:
    """Take the paths of the training machine out of the configuration files."""
    for file in sorted(folder.rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def lock(folder: Path) -> dict[str, str]:
    """Relative name -> sha256 of every file that loading reads."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if (name := file.relative_to(folder).as_posix()) not in UNLOCKED
    }


def copy_judge(judge: Path, folder: Path) -> None:
    """Copy what `train_judge` wrote into a model's folder, and leave its checkpoint behind."""
    (folder / JUDGE).mkdir(exist_ok=True)
    for name in ("config.json", WEIGHTS):
        shutil.copyfile(judge / name, folder / JUDGE / name)


def export(vae: Path, unet: Path, text: Path, known: Path, judge: Path, output: Path) -> None:
    """Write the folder beside `output`, then put it in its place."""
    fresh = output.with_name(output.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    assemble(vae, unet, text).save_pretrained(fresh, safe_serialization=True)
    shutil.copytree(known, fresh / KNOWN_EDITS)
    copy_judge(judge, fresh)
    clean_configs(fresh)
    shutil.copyfile(CARD, fresh / "README.md")
    (fresh / LOCK_FILE).write_text(json.dumps(lock(fresh), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    fresh.rename(output)


def main() -> None:
    """Command line: `python -m training.export --vae DIR --unet DIR --text DIR --known DIR ...`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("vae", "unet", "text", "known", "judge", "output")
    for name in parts:
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    export(*(getattr(options, name) for name in parts))


if __name__ == "__main__":
    main()
