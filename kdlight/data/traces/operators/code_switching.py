"""Prompts in which fragments are replaced by their translations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from unicodedata import category

from kdlight.checks import check_choice, check_integer, check_range
from kdlight.data.traces.mappings import as_mapping
from kdlight.data.traces.operators.selection import Selection, warn_of_missing
from kdlight.data.traces.operators.words import UNSPACED
from kdlight.data.traces.prompt_groups import in_order
from kdlight.data.traces.trace import Prompt, Trace
from kdlight.data.traces.trace_checks import check_number, check_text, check_texts

Translations = Mapping[str, "str | None"]

ALONE = re.compile(f"[{UNSPACED}]")
"""A character of a script that puts no spaces between words."""

APOSTROPHES = "'\u2019"


ROLES = ("system", "developer", "user", "assistant", "tool")
"""The roles of messages in a prompt."""


def code_switch(
    traces: Iterable[Trace],
    translations: Translations | str | Path,
    p: float = 0.5,
    seed: int = 0,
    *,
    roles: Sequence[str] = ("user",),
) -> Selection:
    """Replace fragments of prompts by their translations, each with probability ``p``.

    Chai et al., "xCoT", 2024, mix languages within the prompts of one language, while the response
    stays. What a fragment is and how it is drawn are choices of kdlight: fragments are whole words
    or several of them, in upper and lower case as given; where several begin at one place, the
    longest counts.

    Args:
        traces: traces; scores are not needed. Responses and prompt ids stay as they are.
        translations: translations by fragment, or the path of a JSON file with them. A fragment
            without a translation, null or blank, is counted and stays as it is.
        p: probability of each occurrence of a fragment to be replaced.
        seed: seed of the draws, which depend on it and on the prompt only. All traces of a prompt
            get the same new prompt, so that chosen and rejected responses stay comparable.
        roles: roles of the messages to change, in prompts of messages.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If ``p`` is outside [0, 1], there are no translations or no roles, or a fragment
            is blank or has spaces around it.

    Example:
        >>> traces = [Trace("How many apples are left?", "3")]
        >>> code_switch(traces, {"apples": "Äpfel", "app": "?"}, p=1.0)[0].prompt
        'How many Äpfel are left?'
    """
    fragments = as_mapping("translations", translations)
    for fragment, translation in fragments.items():
        if not fragment or fragment != fragment.strip():
            raise ValueError(
                f"translations must be of fragments without spaces around them, got {fragment!r}"
            )
        if translation is not None:
            check_text(f"the translation of {fragment!r}", translation)
    check_number("p", p)
    check_range("p", p, 0, 1)
    check_integer("seed", seed)
    check_texts("roles", roles, one="role")
    for role in roles:
        check_choice("roles", role, ROLES)
    switch = _Switch(fragments, p, roles)
    kept, changed = [], 0
    for trace in in_order(traces):
        digest = sha256(f"{seed}:{trace.prompt_id}".encode()).digest()
        prompt = switch.prompt(trace.prompt, Random(int.from_bytes(digest, "big")))
        changed += prompt != trace.prompt
        kept.append(
            trace if prompt == trace.prompt else replace(trace, prompt=prompt, perplexity=None)
        )
    notes = [
        f"changed: {changed} of {len(kept)} traces, {switch.replaced} of {switch.found} fragments"
    ]
    selection = Selection(kept, missing=switch.missing, notes=notes if kept else [])
    return warn_of_missing("code_switch", selection, remedy="they stay as they are; translate them")


class _Switch:
    """Replaces fragments and counts them."""

    def __init__(self, translations: Translations, p: float, roles: Sequence[str]) -> None:
        self.translations, self.p, self.roles = translations, p, roles
        self.sizes = sorted({len(fragment) for fragment in translations}, reverse=True)
        self.found = self.replaced = 0
        self.missing = Counter[str]()

    def prompt(self, prompt: Prompt, random: Random) -> Any:
        """Return a prompt with the texts of some of its messages changed."""
        if isinstance(prompt, str):
            return self._text(prompt, random)
        return [
            {**message, "content": self._content(message["content"], random)}
            if message["role"] in self.roles and "content" in message
            else message
            for message in prompt
        ]

    def _content(self, content: Any, random: Random) -> Any:
        """Return the content of a message: a text, a list of parts, or nothing."""
        if isinstance(content, str):
            return self._text(content, random)
        if not isinstance(content, Sequence):
            return content
        return [
            {**part, "text": self._text(part["text"], random)} if "text" in part else part
            for part in content
        ]

    def _text(self, text: str, random: Random) -> str:
        borders = _borders(text)
        pieces, done = [], 0
        for start in range(len(text)):
            fragment = self._fragment_at(text, start, borders) if start >= done else None
            if fragment is None:
                continue
            self.found += 1
            translation = self.translations[fragment]
            drawn = random.random() < self.p  # drawn for all, so that no draw depends on another
            if translation is None or not translation.strip():
                self.missing[f"translation of {fragment!r}"] += 1
            elif drawn:
                self.replaced += 1
                pieces += [text[done:start], translation]
                done = start + len(fragment)
                continue
            pieces.append(text[done : start + len(fragment)])
            done = start + len(fragment)
        return "".join([*pieces, text[done:]])

    def _fragment_at(self, text: str, start: int, borders: set[int]) -> str | None:
        """Return the longest fragment of whole words at a place."""
        if start not in borders:
            return None
        for size in self.sizes:
            fragment = text[start : start + size]
            if start + size in borders and fragment in self.translations:
                return fragment
        return None


def _borders(text: str) -> set[int]:
    """Return where words begin and end; in scripts without spaces, each character is a word."""
    inside = [_is_word(char) for char in text]
    together = [a and b for a, b in zip(inside, inside[1:], strict=False)]
    for place in range(1, len(text) - 1):  # as in "don't"
        if text[place] in APOSTROPHES and inside[place - 1] and inside[place + 1]:
            together[place - 1] = together[place] = True
    return {0, len(text)} | {
        place
        for place, joined in enumerate(together, start=1)
        if not joined and not _is_joined(text[place])
    }


def _is_word(char: str) -> bool:
    """Return whether a character may be a part of a longer word."""
    return (char.isalnum() or char == "_" or _is_joined(char)) and not ALONE.match(char)


def _is_joined(char: str) -> bool:
    """Return whether a character, such as an accent, belongs to the one before it."""
    return category(char).startswith("M") or char in "\u200c\u200d"
