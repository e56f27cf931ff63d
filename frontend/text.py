"""Text as numbers: tokens, vocabularies, and the pairs, windows and masks that language models learn from.

>>> words = tokenize("The dog barks. Good dog!")
>>> vocabulary = Vocabulary(words)
>>> vocabulary.encode(["the", "dog", "sings"]).tolist()
[2, 1, 0]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from graphc.errors import ArgumentError
from graphc.locate import public

from .random import Random

__all__ = ["Vocabulary", "cbow_windows", "mask_tokens", "shifted", "skipgram_pairs", "tokenize"]

Token = TypeVar("Token")

IGNORED = -100  # the label that cross_entropy leaves out


def tokenize(text: str, lower: bool = True) -> list[str]:
    """The words of a text and, each by itself, its punctuation marks. An apostrophe inside a word stays.

    The characters of a text, as tokens, are ``list(text)``.

    >>> tokenize("It isn't a dog, is it?")
    ['it', "isn't", 'a', 'dog', ',', 'is', 'it', '?']
    """
    return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text.lower() if lower else text)


class Vocabulary:
    """Tokens and their ids 0, 1, ...: the specials first, then the others from the most frequent down, equals as they first occur.

    Tokens seen less than ``min_count`` times are left out. What is not in the vocabulary is ``"<unk>"``, if that is among the specials.

    >>> v = Vocabulary("the dog and the cat and the".split(), specials=["<pad>", "<unk>"], min_count=2)
    >>> v.tokens, v.counts.tolist()
    (['<pad>', '<unk>', 'the', 'and'], [0, 2, 3, 2])
    >>> v.decode(v.encode(["the", "bird"]))
    ['the', '<unk>']
    """

    UNKNOWN = "<unk>"

    def __init__(self, tokens: Iterable[str], specials: Sequence[str] = (UNKNOWN,), min_count: int = 1):
        seen = Counter(tokens)
        kept = [t for t, n in seen.most_common() if n >= min_count and t not in specials]
        self.specials = list(specials)
        self.tokens = [*specials, *kept]
        self._ids = {t: i for i, t in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ArgumentError(f"specials {self.specials} name a token twice", hint="four different texts")
        #: how often each token occurs in the text, by id; ``"<unk>"`` stands for all that were left out
        self.counts = np.array([seen[t] for t in self.tokens], np.int64)
        if self.UNKNOWN in self._ids:
            self.counts[self._ids[self.UNKNOWN]] += sum(seen.values()) - self.counts.sum()

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __getitem__(self, token: str) -> int:
        """The id of a token. Raises :class:`ArgumentError` for an unknown one where ``"<unk>"`` is no special."""
        found = self._ids.get(token, self._ids.get(self.UNKNOWN))
        if found is None:
            raise ArgumentError(f"{token!r} is not in the vocabulary", hint=f'give the vocabulary the special "{self.UNKNOWN}"')
        return found

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The ids of tokens, int64."""
        return np.array([self[t] for t in tokens], np.int64)

    def decode(self, ids: Any) -> list[str]:
        """The tokens of a row of ids."""
        return [self.tokens[i] for i in np.asarray(ids).tolist()]


def _around(tokens: Sequence[Token], place: int, window: int) -> list[Token]:
    if window < 1:
        raise ArgumentError(f"window = {window!r}", hint="at least one token on each side")
    return [*tokens[max(place - window, 0) : place], *tokens[place + 1 : place + 1 + window]]


def skipgram_pairs(tokens: Sequence[Token], window: int) -> list[tuple[Token, Token]]:
    """(centre, context) for each token and each of its at most ``2 window`` neighbours; nothing outside of the sentence is a neighbour.

    Tokens may be words or ids. Call it for each sentence by itself.

    >>> skipgram_pairs(["the", "quick", "fox"], window=1)
    [('the', 'quick'), ('quick', 'the'), ('quick', 'fox'), ('fox', 'quick')]
    """
    return [(centre, other) for i, centre in enumerate(tokens) for other in _around(tokens, i, window)]


def cbow_windows(tokens: Sequence[Token], window: int, pad: Token | None = None) -> list[tuple[list[Token], Token]]:
    """(context, centre) of each token. With ``pad`` every context holds ``2 window`` tokens, ``pad`` at the ends of the sentence.

    Ids that are padded go to ``nn.EmbeddingBag(words, size, padding_idx=pad)``, which averages the others.

    >>> cbow_windows(["the", "quick", "fox"], window=1, pad="<pad>")
    [(['<pad>', 'quick'], 'the'), (['the', 'fox'], 'quick'), (['quick', '<pad>'], 'fox')]
    """
    if pad is None:
        return [(_around(tokens, i, window), centre) for i, centre in enumerate(tokens)]
    edge = [pad] * window
    padded = [*edge, *tokens, *edge]
    return [(_around(padded, i + window, window), centre) for i, centre in enumerate(tokens)]


def shifted(text: Any) -> tuple[Any, Any]:
    """``(text[:-1], text[1:])``: what a language model reads, and at each place the next token, which it has to tell.

    >>> shifted("machine")
    ('machin', 'achine')
    """
    return text[:-1], text[1:]


def mask_tokens(
    ids: Any,
    vocabulary: Vocabulary,
    *,
    rate: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
    mask: str = "<mask>",
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """``(inputs, labels)`` of a masked language model (Devlin et al. 2018): ids of any shape with some of them hidden, and what stood there.

    A token is chosen with probability ``rate``; specials never are. Of the chosen, the first of ``shares`` become ``mask``, the second
    a random token that is no special, and the rest stay. Labels are -100, which ``cross_entropy`` ignores, where nothing was chosen.

    >>> v = Vocabulary("i am very hungry".split(), specials=["<mask>"])
    >>> inputs, labels = mask_tokens(v.encode(["i", "am", "very", "hungry"]), v, rate=0.3, shares=(1.0, 0.0), seed=2)
    >>> v.decode(inputs), labels.tolist()
    (['i', 'am', '<mask>', 'hungry'], [-100, -100, 3, -100])
    """
    if mask not in vocabulary:
        raise ArgumentError(f"{mask!r} is not in the vocabulary", hint=f'Vocabulary(tokens, specials=["{mask}", ...])')
    first = len(vocabulary.specials)
    if first == len(vocabulary):
        raise ArgumentError("the vocabulary holds specials only", hint="texts with tokens, or a smaller min_freq")
    given = np.asarray(ids, np.int64)
    choice, kind, other = Random(seed, "mask_tokens").uniform((3, *given.shape))
    chosen = (choice < rate) & (given >= first)
    drawn = first + (other * (len(vocabulary) - first)).astype(np.int64)
    inputs = np.where(chosen & (kind < shares[0]), vocabulary[mask], given)
    inputs = np.where(chosen & (kind >= shares[0]) & (kind < sum(shares)), drawn, inputs)
    return inputs, np.where(chosen, given, IGNORED)


public(globals())
