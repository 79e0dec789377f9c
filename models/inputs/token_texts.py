"""What each token of an answer says: pieces that add up to its text."""

from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes that are no whole character."""
_LONGEST = 4
"""Bytes of a character in UTF-8, and so the most tokens that one is cut into."""


class TokenTexts:
    """Texts of tokens by their ids, each looked up once."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a transformers tokenizer."""
        self._tokenizer = tokenizer
        # Some tokenizers drop the space before a text's first token, so none stands first.
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"]
        self._before_text = self._decode(self._before)
        self._known: dict[int, str] = {}

    def __call__(self, ids: Sequence[int]) -> list[str]:
        """A text for each of `ids`, special tokens by their names.

        A character of several tokens belongs to the last of them; the others are empty.
        """
        texts: list[str] = []
        open_ids: list[int] = []
        for token in ids:
            if not open_ids and _UNFINISHED not in self._text(token):
                texts.append(self._text(token))
                continue
            open_ids.append(token)
            whole = self._after_another(open_ids)
            if _UNFINISHED not in whole:
                texts += [""] * (len(open_ids) - 1) + [whole]
                open_ids = []
            elif len(open_ids) == _LONGEST:
                texts += map(self._text, open_ids)
                open_ids = []
        return [*texts, *map(self._text, open_ids)]

    def _text(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = self._after_another([token])
        return self._known[token]

    def _after_another(self, ids: Sequence[int]) -> str:
        return self._decode([*self._before, *ids]).removeprefix(self._before_text)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
