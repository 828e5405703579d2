"""The four CLIP scores are the reference's formulae over whatever CLIP is in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity, interpolate, normalize
from transformers import CLIPModel, CLIPTokenizer

from engine.errors import InstructionTooLong, ModelError, NonFinite
from engine.quality.clip_scores import MEAN, ClipScorer, ClipScores
from tests.tiny import clip
from tests.tiny.edits import source

CAPTIONS = ("a cat on a sofa", "a red fox on a sofa, at night")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip.build(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return ClipScorer(folder)


def pair(width_px: int = 96, height_px: int = 64) -> tuple[Image.Image, Image.Image]:
    before, after = (source(name, width_px, height_px) for name in ("chelsea", "coffee"))
    return Image.fromarray(before), Image.fromarray(after)


def by_the_formulae(folder: Path, pictures: tuple[Image.Image, Image.Image]) -> dict[str, float]:
    """The reference's scores, with its operations, of transformers' own call of both towers."""
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    levels = [torch.tensor(np.asarray(p)).permute(2, 0, 1)[None].float() / 255 for p in pictures]
    squares = [interpolate(x, size=32, mode="bicubic", align_corners=False) for x in levels]
    deviation = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(1, 3, 1, 1)
    shown = (torch.cat(squares) - torch.tensor(MEAN).view(1, 3, 1, 1)) / deviation
    tokens = tokenizer(list(CAPTIONS), padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        both = model(**tokens, pixel_values=shown)
    image, text = normalize(both.image_embeds), normalize(both.text_embeds)
    scores = {
        "clip_sim_0": cosine_similarity(image[:1], text[:1]),
        "clip_sim_1": cosine_similarity(image[1:], text[1:]),
        "clip_sim_dir": cosine_similarity(image[1:] - image[:1], text[1:] - text[:1]),
        "clip_sim_image": cosine_similarity(image[:1], image[1:]),
    }
    return {name: float(score) for name, score in scores.items()}


@pytest.mark.parametrize("size_px", [(96, 64), (24, 40)], ids=["larger", "smaller"])
def test_the_scores_are_those_of_the_formulae(
    scorer: ClipScorer, folder: Path, size_px: tuple[int, int]
) -> None:
    pictures = pair(*size_px)
    scores = asdict(scorer.score(*pictures, *CAPTIONS))
    assert scores == pytest.approx(by_the_formulae(folder, pictures), abs=1e-5)


def test_every_part_of_a_pair_counts(scorer: ClipScorer) -> None:
    before, after = pair()
    caption, edited = CAPTIONS
    scores = scorer.score(before, after, caption, edited)
    swapped = scorer.score(after, before, edited, caption)
    assert swapped.clip_sim_0 == pytest.approx(scores.clip_sim_1)
    assert swapped.clip_sim_dir == pytest.approx(scores.clip_sim_dir)
    backwards = scorer.score(before, after, edited, caption)
    assert backwards.clip_sim_dir == pytest.approx(-scores.clip_sim_dir)
    assert abs(backwards.clip_sim_0 - scores.clip_sim_0) > 1e-3
    assert abs(scores.clip_sim_dir) > 1e-3 and scores.clip_sim_image < 1 - 1e-3


def test_no_change_has_no_direction(scorer: ClipScorer) -> None:
    before, after = pair()
    assert scorer.score(before, after, CAPTIONS[0], CAPTIONS[0]).clip_sim_dir == 0
    same = scorer.score(before, before, *CAPTIONS)
    assert (same.clip_sim_dir, same.clip_sim_image) == pytest.approx((0, 1), abs=1e-6)


def test_scores_of_known_vectors() -> None:
    east, north = np.array([2.0, 0.0]), np.array([0.0, 3.0])
    scores = ClipScores.of(before=east, after=north, caption=east, edited_caption=east + north)
    # The captions turn by atan(3 / 2) from east, the pictures by a right angle.
    turned = np.array([2.0, 3.0]) / np.sqrt(13)
    change, said = np.array([-1.0, 1.0]), turned - [1.0, 0.0]
    direction = change @ said / np.linalg.norm(change) / np.linalg.norm(said)
    expected = (1.0, turned[1], direction, 0.0)
    assert tuple(asdict(scores).values()) == pytest.approx(expected, abs=1e-12)


def test_a_folder_says_itself_what_its_pictures_are_brought_to(
    scorer: ClipScorer, folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    settings = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (other / "preprocessor_config.json").write_text(json.dumps(settings))
    theirs = ClipScorer(other).score(*pair(), *CAPTIONS)
    assert abs(theirs.clip_sim_0 - scorer.score(*pair(), *CAPTIONS).clip_sim_0) > 1e-3


def test_a_caption_that_clip_would_cut_is_refused(scorer: ClipScorer) -> None:
    with pytest.raises(InstructionTooLong, match=r"caption has \d+ tokens and model .* reads 77"):
        scorer.score(*pair(), CAPTIONS[0], "very " * 60)


def test_what_is_no_clip_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere is no folder: .*clip-vit-large-patch14"):
        ClipScorer(tmp_path / "nowhere")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of a CLIP: visual_projection\.weight"):
        ClipScorer(other)
    (other / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP"):
        ClipScorer(other)
    (other / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(ModelError, match="holds a siglip, and no CLIP"):
        ClipScorer(other)


def test_scores_that_are_no_numbers_are_an_error(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["visual_projection.weight"].fill_(torch.nan)
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(NonFinite, match="no numbers for this pair"):
        ClipScorer(other).score(*pair(), *CAPTIONS)
