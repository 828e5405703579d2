"""CLIP scores: how well a pair of pictures fits a pair of captions.

The four cosines that InstructPix2Pix's data set was filtered by (Brooks et al. 2023, section 3.1.2;
the names are those of its metadata), and the model that makes what they are of.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from engine.errors import ModelError, NonFinite
from engine.registry import read_json
from engine.text import check_length
from engine.weights import verify_weights

if TYPE_CHECKING:  # transformers and torch take seconds to import: only a scorer pays them
    import torch

LEAST_NORM = 1e-8  # torch's `cosine_similarity`: of no change the cosine is 0
KEPT_CAPTIONS = 1024  # a caption has many candidates
# OpenAI's, of the pictures that CLIP was trained on; a folder's own go before them.
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class ClipScores:
    """Four cosines, from -1 to 1; the reference asks for 0.2, 0.2, 0.2 and 0.7 at least."""

    clip_sim_0: float  # the picture and its caption
    clip_sim_1: float  # the edited picture and the edited caption
    clip_sim_dir: float  # the change between the pictures and the one between the captions
    clip_sim_image: float  # the two pictures

    @classmethod
    def of(
        cls, before: np.ndarray, after: np.ndarray, caption: np.ndarray, edited_caption: np.ndarray
    ) -> Self:
        """Score embeddings (D,) of two pictures and their captions, each of any length."""
        pictures, texts = (unit(before), unit(after)), (unit(caption), unit(edited_caption))
        return cls(
            cosine(pictures[0], texts[0]),
            cosine(pictures[1], texts[1]),
            cosine(pictures[1] - pictures[0], texts[1] - texts[0]),
            cosine(*pictures),
        )


def unit(embedding: np.ndarray) -> np.ndarray:
    """Scale an embedding (D,) to the length 1, in float64."""
    wide = embedding.astype(np.float64)
    return wide / np.linalg.norm(wide)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Return the cosine of the angle between two vectors (D,); 0 where one has no length."""
    lengths = [max(float(np.linalg.norm(vector)), LEAST_NORM) for vector in (left, right)]
    return float(left @ right) / math.prod(lengths)


class ClipScorer:
    """Scores pairs by a CLIP folder, as transformers saves a `CLIPModel`. For one thread."""

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        """Load the folder's safetensors in float32; raises `ModelError`.

        `device`: see `choose_device`.
        """
        import torch

        from engine.device import choose_device

        chosen = choose_device(device)
        self._name = Path(folder).name
        self._model, self._tokenizer = _load(Path(folder), chosen)
        self._length: int = self._model.config.text_config.max_position_embeddings
        self._side_px: int = self._model.config.vision_config.image_size
        levels = _levels(Path(folder))
        self._mean, self._deviation = (
            torch.tensor(values, device=chosen).view(3, 1, 1) for values in levels
        )
        self._caption = lru_cache(maxsize=KEPT_CAPTIONS)(self._embed_caption)

    def score(
        self, before: Image.Image, after: Image.Image, caption: str, edited_caption: str
    ) -> ClipScores:
        """Score a pair of pictures of any size under the captions that they were made for.

        Raises `InstructionTooLong` for a caption that CLIP would cut, `NonFinite` for scores that
        are no numbers.
        """
        import torch

        with torch.inference_mode():
            texts = [self._caption(text) for text in (caption, edited_caption)]
            pictures = [self._embed_picture(picture) for picture in (before, after)]
        scores = ClipScores.of(*pictures, *texts)
        if not all(map(math.isfinite, astuple(scores))):
            raise NonFinite(f"{self._name} gives no numbers for this pair: {scores}")
        return scores

    def _embed_caption(self, text: str) -> np.ndarray:
        """(D,) float32."""
        count = len(self._tokenizer(text, verbose=False).input_ids)
        check_length(count, self._length, self._name, param="caption")
        tokens = self._tokenizer(
            text, padding="max_length", max_length=self._length, return_tensors="pt"
        ).to(self._model.device)
        features = self._model.get_text_features(tokens.input_ids, tokens.attention_mask)
        return features.pooler_output[0].float().cpu().numpy()

    def _embed_picture(self, picture: Image.Image) -> np.ndarray:
        """(D,) float32. In a call of its own: two rows of one call may differ in their last bits
        where the pictures do not, and no change would have a direction."""
        features = self._model.get_image_features(pixel_values=self._shown(picture)[None])
        return features.pooler_output[0].float().cpu().numpy()

    def _shown(self, picture: Image.Image) -> torch.Tensor:
        """(3, S, S) float32, as the reference shows it: to a square whatever the aspect, by
        torch's bicubic, which does not blur first."""
        import torch
        from torch.nn.functional import interpolate

        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).to(self._model.device)
        levels = pixels.permute(2, 0, 1)[None].float() / 255
        side = (self._side_px, self._side_px)
        (square,) = interpolate(levels, side, mode="bicubic", align_corners=False)
        return (square - self._mean) / self._deviation


def find_clip(folder: str | Path) -> str:
    """Digest the files of a CLIP folder, all that its scores depend on; no torch.

    Raises `ModelError` where there is no CLIP.
    """
    _check(Path(folder))
    return verify_weights(Path(folder))


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is no folder: give one that holds a CLIP as transformers saves it, such as "
            "a copy of openai/clip-vit-large-patch14, which the reference scores by"
        )
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise ModelError(
            f"{folder} holds a {kind}, and no CLIP: the scores are of CLIP's two towers"
        )


def _load(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """The model and its tokenizer; raises `ModelError` where either is not all there."""
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    _check(folder)
    local = {"local_files_only": True}
    try:
        model, report = CLIPModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, **local)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be loaded as a CLIP: {error}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"{folder} lacks weights of a CLIP: {missing}, ...")
    return model.to(device).eval().requires_grad_(False), tokenizer


def _levels(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, 0 to 1, that pictures are brought to."""
    settings = folder / "preprocessor_config.json"
    own = read_json(settings) if settings.exists() else {}
    return tuple(own.get("image_mean", MEAN)), tuple(own.get("image_std", DEVIATION))
