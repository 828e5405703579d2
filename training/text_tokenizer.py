"""The tokenizer of pocket: byte-level BPE in CLIP's manner, made for English and Chinese.

English merges are learned from the phrasings and a list of common words. Chinese merges join the
three bytes of one character and never two characters: each of the 3,755 common characters of
GB 2312 is one token, so 40 of them take 42 of the 77 positions, and a new word is read through
its characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"
ENGLISH_MERGES = 3000
POSITIONS = 77

Merge = tuple[str, str]


def byte_symbols() -> dict[int, str]:
    """Byte -> the printable character that stands for it in byte-level BPE (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    spare = (byte for byte in range(256) if byte not in table)
    table.update({byte: chr(256 + i) for i, byte in enumerate(spare)})
    return table


def english_merges(lines: list[str]) -> list[Merge]:
    """Merges learned from lines of English."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX, continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(byte_symbols().values())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + ENGLISH_MERGES,
        initial_alphabet=alphabet,
        end_of_word_suffix=SUFFIX,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(first, second) for first, second in merges]


def chinese_characters(lines: list[str]) -> list[str]:
    """The 3,755 common characters of GB 2312, its punctuation, and any other that the lines use."""
    rows = [*range(0xA1, 0xA4), *range(0xB0, 0xD8)]
    known = {
        bytes([row, cell]).decode("gb2312", errors="ignore")
        for row in rows
        for cell in range(0xA1, 0xFF)
    }
    used = {character for line in lines for character in line}
    return sorted(c for c in known | used if c and len(c.encode()) == 3)


def chinese_merges(characters: list[str]) -> Iterator[Merge]:
    """First two bytes, then the third: inside a run of characters and at its end."""
    symbol = byte_symbols()
    spelled = ["".join(symbol[byte] for byte in c.encode()) for c in characters]
    yield from sorted({(s[0], s[1]) for s in spelled})
    for s in spelled:
        yield s[:2], s[2]
        yield s[:2], s[2] + SUFFIX


def make_tokenizer(english: list[str], chinese: list[str]) -> CLIPTokenizer:
    """A CLIPTokenizer of 77 positions; the padding token is the end-of-text token."""
    symbols = sorted(byte_symbols().values())
    merges = english_merges(english) + list(chinese_merges(chinese_characters(chinese)))
    names = [START, END, *symbols, *(s + SUFFIX for s in symbols)]
    names += [first + second for first, second in merges]
    vocabulary = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=POSITIONS,
    )


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer's files."""
    tokenizer.save_pretrained(folder)
