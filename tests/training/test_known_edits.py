"""What pocket warns of is what it cannot do: hand-written requests that no training saw."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from safetensors.torch import load_file

from engine.models.known_edits import WEIGHTS
from engine.weights import KNOWN_EDITS
from tests.conftest import POCKET
from training.elsewhere import Elsewhere, beyond, listed
from training.phrase_book import LANGUAGES, every_kind
from training.text_encoder import TextEncoder
from training.train_known_edits import Head, features, warned


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load(POCKET)


def test_it_warns_of_what_it_cannot_do_and_seldom_of_what_it_can(encoder: TextEncoder) -> None:
    head = Head.load(POCKET / KNOWN_EDITS)
    found = [warned(head, encoder, "measured", language) for language in LANGUAGES]
    assert np.mean([warns for half in found for warns in half["can"]]) <= 0.03
    for half in found:
        assert np.mean(half["cannot"]) >= 0.85


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_request_that_measures_is_one_that_was_learned(language: str) -> None:
    def plain(text: str) -> str:
        return re.sub(r"\W", "", text.lower())

    measuring = {plain(text) for text in beyond(language)}
    assert len(beyond(language)) == 100
    templates = [plain(text) for text in (*listed(language, "plain"), *listed(language, "verbs"))]
    assert not measuring & set(templates)
    drawn = Elsewhere(3)
    assert not measuring & {plain(drawn.draw(language)) for _ in range(2000)}


def test_every_edit_has_a_name_in_both_languages_that_means_it(
    encoder: TextEncoder,
) -> None:
    edits = json.loads((POCKET / KNOWN_EDITS / "config.json").read_text(encoding="utf-8"))["edits"]
    assert len(edits) == len(every_kind())
    head, codes = (
        Head.load(POCKET / KNOWN_EDITS),
        load_file(POCKET / KNOWN_EDITS / WEIGHTS)["codes"].float(),
    )
    for language in LANGUAGES:
        names = [edit[language] for edit in edits]
        assert not head.warns(features(encoder, names)).any()
        assert (encoder.meanings(names) @ codes.T).argmax(-1).tolist() == list(range(len(names)))
