"""Phrasings of every kind of edit, in English and Chinese, split into train and held-out.

`phrasings/english.txt` and `chinese.txt` hold phrases by kind: complements (a: "make it ..."),
nouns (n: "turn it into ...") and whole requests (v). `templates.txt` holds what is said around
them, `synonyms.txt` words that may stand for one another, `free.txt` requests for evaluation alone.
A fifth of each list of phrases and of templates is held out: a held-out instruction
is a held-out phrase in a held-out template, so neither was ever trained on.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from training.kinds import BASE, COMPOUNDS

FOLDER = Path(__file__).parent / "phrasings"
LANGUAGES = ("english", "chinese")
SLOTS = ("a", "n", "v")
SLOT_SHARES = {"a": 0.25, "n": 0.25, "v": 0.5}
COLOURED = ("tint", "sky", "keep", "frame")
HELD_OUT_SHARE = 0.2
STATEMENTS = ("I ", "the ", "all ", "it ", "what ", "{it} ", "only the sky", "black and white")
SPLITS = ("train", "held_out")

Lists = dict[str, list[str]]


def digest(text: str) -> bytes:
    """A fixed order that has nothing to do with meaning."""
    return hashlib.sha256(text.encode()).digest()


def split(items: list[str], part: str) -> list[str]:
    """The held-out fifth of a list of five or more, the other four fifths, or all of it."""
    distinct = sorted(set(items), key=digest)
    if part == "all":
        return distinct
    count = max(1, round(len(distinct) * HELD_OUT_SHARE)) if len(distinct) >= 5 else 0
    return distinct[:count] if part == "held_out" else distinct[count:]


@cache
def sections(name: str) -> dict[str, str]:
    """Title -> text of each section ("# title") of one file."""
    found: dict[str, str] = {}
    for block in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").split("# ")[1:]:
        title, _, text = block.partition("\n")
        found[title.strip()] = text.strip("\n")
    return found


def cut(text: str, mark: str = "|") -> list[str]:
    """Items between marks, one space stripped on each side."""
    return [item.removeprefix(" ").removesuffix(" ") for item in text.split(mark) if item.strip()]


@cache
def phrases(language: str, family: str, slot: str, part: str) -> tuple[str, ...]:
    """Phrases of one family and slot; compounds too short to split are train only."""
    text = sections(language).get(family, "")
    for line in text.splitlines():
        if line.startswith(f"{slot}: "):
            return tuple(split(cut(line[3:]), part))
    return ()


@cache
def templates(language: str, title: str, part: str) -> tuple[str, ...]:
    """Templates of one title, for example "english v"; repeated ones keep their weight."""
    items = cut(sections("templates")[f"{language} {title}"])
    chosen = set(split(items, part))
    return tuple(item for item in items if item in chosen)


@cache
def surroundings(language: str, title: str) -> tuple[str, ...]:
    """Words for the picture, or words before and after the request: never split."""
    return tuple(sections("templates")[f"{language} {title}"].split("|"))


@cache
def colour_words(language: str, colour: str) -> tuple[str, ...]:
    """What a colour is called; the first word is the plain one."""
    for entry in cut(sections("templates")[f"{language} colours"]):
        name, _, words = entry.partition(": ")
        if name == colour:
            return tuple(word.strip() for word in words.split(","))
    raise KeyError(colour)


def family_of(kind: str) -> tuple[str, str]:
    """("tint", "red") for tint_red; (kind, "") for a kind without a colour."""
    family, _, colour = kind.rpartition("_")
    return (family, colour) if family in COLOURED else (kind, "")


@cache
def synonyms(language: str) -> tuple[tuple[str, ...], ...]:
    """Groups of words that may stand for one another."""
    lines = sections("synonyms")[language].splitlines()
    return tuple(tuple(word.strip() for word in line.split("|")) for line in lines)


@cache
def free_requests(language: str, kind: str) -> tuple[str, ...]:
    """Hand-written requests that no training ever sees."""
    for line in sections("free").get(kind, "").splitlines():
        if line.startswith(f"{language}: "):
            return tuple(item.strip() for item in line.split(": ", 1)[1].split("|"))
    return ()


class PhraseBook:
    """Draws instructions for a kind from one side of the split.

    Only training instructions are varied with synonyms; held-out ones stay as they were written.
    """

    def __init__(self, seed: int, part: str = "train") -> None:
        self.random = np.random.default_rng(seed)
        self.part = part

    def pick(self, items: tuple[str, ...]) -> str:
        """One of several, all alike likely."""
        return items[self.random.integers(len(items))]

    def phrase(self, language: str, kind: str, slots: str = "anv") -> tuple[str, str]:
        """(slot, phrase) of a kind, the colour filled in."""
        family, colour = family_of(kind)
        lists = {s: phrases(language, family, s, self.part) for s in slots}
        shares = np.array([SLOT_SHARES[s] if lists[s] else 0.0 for s in slots])
        slot = slots[self.random.choice(len(slots), p=shares / shares.sum())]
        phrase = self.pick(lists[slot])
        if colour:
            words = colour_words(language, colour)
            plain = self.random.random() < 0.6
            phrase = phrase.replace("{c}", words[0] if plain else self.pick(words))
        return slot, phrase

    def core(self, language: str, kind: str) -> str:
        """A phrase in a template."""
        if "+" in kind and not phrases(language, kind, "v", self.part):
            return self.joined(language, *kind.split("+"))
        slot, phrase = self.phrase(language, kind)
        if phrase.startswith(STATEMENTS):
            return phrase
        return self.pick(templates(language, slot, self.part)).replace("{x}", phrase)

    def vary(self, language: str, text: str) -> str:
        """Swap words for their synonyms: one group in two that applies, in half of the texts."""
        if self.part == "held_out" or self.random.random() < 0.5:
            return text
        for group in synonyms(language):
            word = self.pick(group)
            if word not in text or self.random.random() < 0.5:
                continue
            other = self.pick(group)
            if language == "chinese":
                text = text.replace(word, other, 1)
            elif f" {word} " in f" {text} ":
                text = f" {text} ".replace(f" {word} ", f" {other} ", 1).strip()
        return text

    def joined(self, language: str, first: str, second: str) -> str:
        """Two kinds in one request, in either order."""
        if self.random.random() < 0.5:
            first, second = second, first
        _, one = self.phrase(language, first, "v")
        _, two = self.phrase(language, second, "v")
        frame = self.pick(templates(language, "and", self.part))
        return frame.replace("{x}", one).replace("{y}", two)

    def draw(self, kind: str, language: str = "") -> str:
        """One instruction: template, words for the picture, distractors, and slips of typing."""
        language = language or self.pick(LANGUAGES)
        joined = "+" in kind and self.random.random() < 0.4
        text = self.joined(language, *kind.split("+")) if joined else self.core(language, kind)
        return self.dress(language, self.vary(language, text))

    def dress(self, language: str, text: str) -> str:
        """Fill in {it}; sometimes words before and after, other case, punctuation or a typo."""
        named = "" if self.random.random() < 0.3 else self.pick(surroundings(language, "it"))
        text = text.replace("{it}", named.strip() or surroundings(language, "it")[0].strip())
        if self.random.random() < 0.12:
            text += self.pick(surroundings(language, "after")).rstrip()
        if self.random.random() < 0.10:
            text = self.pick(surroundings(language, "before")).strip() + " " + text
        return self.slip(language, text)

    def slip(self, language: str, text: str) -> str:
        """How people type: capitals, a full stop, now and then a wrong letter."""
        chance = self.random.random()
        if language == "english":
            if chance < 0.35:
                text = text[:1].upper() + text[1:]
            elif chance < 0.40:
                text = text.upper()
            if self.random.random() < 0.08 and len(text) > 12:
                place = int(self.random.integers(1, len(text) - 2))
                swapped = text[place + 1] + text[place]
                kept = swapped if self.random.random() < 0.5 else text[place]
                text = text[:place] + kept + text[place + 2 :]
        ends = (".", "!", "", "") if language == "english" else ("。", "！", "", "")
        return text + ends[self.random.integers(4)] if text[-1] not in "?？.。" else text


def every_kind() -> list[str]:
    """Names of all kinds, compounds last."""
    return [kind.name for kind in BASE + COMPOUNDS]
