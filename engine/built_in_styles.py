"""The styles that ship with rayedit."""

from __future__ import annotations

from pathlib import Path

from engine.options import EditOptions
from engine.styles import Style, Styles

# Beside pocket's folder, whose digest is in the fingerprints of all its edits, and not in it.
_LORAS = Path(__file__).parent / "models" / "pocket_styles"

# Choices, no facts. Those without a model are instructions that any model reads; pocket was taught
# the first four (training/kinds.py). The old words for anime and realistic are of no use to it.
# `film` and `riso` are LoRAs of its own (training/train_style.py), without guidance: `film` is 3 dB
# nearer to the true edits in its look so (docs/decisions.md), by one row of the model, not three.
BUILT_IN = Styles(
    {
        "sketch": Style(
            description="a pencil drawing on white paper",
            template="turn it into a pencil sketch",
            seed=42,
        ),
        "vintage": Style(
            description="an old brown print with a white frame",
            template="a sepia photo with a white frame",
            seed=42,
        ),
        "noir": Style(
            description="black and white, dark towards the corners",
            template="black and white with a vignette",
            seed=42,
        ),
        "poster": Style(
            description="a few flat colours",
            template="turn it into a poster",
            seed=42,
        ),
        "film": Style(
            description="your instruction on warm colour film: muted, its blacks a little teal",
            model="pocket",
            lora=str(_LORAS / "film.safetensors"),
            seed=42,
            options=EditOptions(guidance_scale=1.0, image_guidance_scale=1.0),
        ),
        "riso": Style(
            description="your instruction as a print of indigo and coral ink on cream paper",
            model="pocket",
            lora=str(_LORAS / "riso.safetensors"),
            seed=42,
            options=EditOptions(guidance_scale=1.0, image_guidance_scale=1.0),
        ),
        "product": Style(
            description="your instruction, one noise for all; what it does not change is kept",
            seed=42,
            options=EditOptions(restore_size=True, detail="source", preserve="auto"),
        ),
        "anime": Style(
            description="a drawing as of an anime film",
            template="turn it into an anime drawing",
            negative_prompt="photograph, blurry",
            model="instruct-pix2pix",
            seed=42,
        ),
        "realistic": Style(
            description="a photograph of a drawing or a rendering",
            template="turn it into a realistic photograph",
            negative_prompt="drawing, painting, cartoon",
            model="instruct-pix2pix",
            seed=42,
        ),
    }
)
