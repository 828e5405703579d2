"""Phrases: an edit that `pocket` knows, in plain English, for a text that asks for it in Chinese.

`pocket`'s text encoder reads both. What it understands is told by the edits that it knows
(`engine.models.known_edits`), and each of those has an English text.
"""

from __future__ import annotations

import torch

from engine.catalogue import MODELS
from engine.errors import InstructionLanguage
from engine.models import Placement
from engine.models.clip_text import ClipText
from engine.models.known_edits import KnownEdits
from engine.models.parts import load_text_encoder
from engine.weights import find_weights


class PhraseTranslator:
    """Says in one of pocket's phrases what a text asks for: a `translation.Translator`."""

    waits = False

    def __init__(self) -> None:
        """Load pocket's text encoder, on the CPU; raises `ModelError`."""
        from transformers import CLIPTextModel, CLIPTokenizer

        folder, _ = find_weights(MODELS["pocket"])
        placement = Placement(torch.device("cpu"), torch.float32)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = load_text_encoder(CLIPTextModel, folder / "text_encoder", placement)
        self._text = ClipText(tokenizer, encoder, torch.float32)
        self._known = KnownEdits.load(folder)

    @torch.inference_mode()
    def translate(self, text: str) -> str:
        """Return the nearest phrase.

        Raises `InstructionTooLong`, and `InstructionLanguage` for a text that means none of them.
        """
        self._text.check(text, "pocket", param="instruction")
        states = self._text.embed(text)
        phrase = self._known.nearest(states)["english"]
        if not self._known.knows(states, self._text.count(text)):
            raise InstructionLanguage(
                f"translate: no phrase that is known says this; the nearest is {phrase!r}: write "
                "it in English"
            )
        return phrase
