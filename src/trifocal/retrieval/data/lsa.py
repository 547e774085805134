"""TF-IDF and a truncated singular value decomposition: texts as vectors, learnt from texts alone (Deerwester 1990).

Weights are 1 + ln(count) times ln((1 + n) / (1 + documents with the word)) + 1, rows of length one. Words that fewer
than `least` documents have, and those of a list, are left out. The right singular vectors span the space; a text with
no known word is zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from trifocal.errors import InvalidInput
from trifocal.retrieval.data.own import tokens_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LatentSpace"]


@dataclass(frozen=True, slots=True, eq=False)
class LatentSpace:
    """A fitted space.

    Args:
        vocabulary: column of each word.
        rarity: float64 (V,), the words' inverse document frequencies.
        directions: float32 (V, D).
        split: a lower-case text to its words.
    """

    vocabulary: dict[str, int]
    rarity: NDArray[np.float64]
    directions: NDArray[np.float32]
    split: Callable[[str], Sequence[str]] = tokens_of

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        *,
        dim: int,
        least: int = 2,
        stop_words: Collection[str] = (),
        split: Callable[[str], Sequence[str]] = tokens_of,
        seed: int = 0,
    ) -> Self:
        """Learn the space from texts.

        Args:
            texts: documents.
            dim: D, below the number of texts and of known words.
            least: documents that a word must be in.
            stop_words: lower-case words that do not count, such as `ENGLISH_STOP_WORDS`.
            split: a lower-case text to its words.
            seed: of the start vector of the decomposition.

        Raises:
            InvalidInput: too few texts or words for `dim`.
        """
        from scipy.sparse.linalg import svds

        documents = Counter(word for text in texts for word in set(split(text.lower())))
        words = sorted(word for word, count in documents.items() if count >= least and word not in stop_words)
        if dim < 1 or dim >= min(len(words), len(texts)):
            raise InvalidInput(
                f"{len(texts)} texts with {len(words)} words have no {dim} dimensions", remedy="Give fewer."
            )
        vocabulary = {word: place for place, word in enumerate(words)}
        counts = np.array([documents[word] for word in words], dtype=np.float64)
        rarity = np.log((1 + len(texts)) / (1 + counts)) + 1
        matrix = _weights([split(text.lower()) for text in texts], vocabulary, rarity)
        start = np.random.default_rng(seed).normal(size=min(matrix.shape))
        _, sizes, right = svds(matrix, k=dim, v0=start)
        order = np.argsort(-sizes, kind="stable")
        directions = right[order].T
        signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dim)])  # one of the two equal choices
        return cls(vocabulary, rarity, (directions * signs).astype(np.float32), split)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as float32 (N, D): unit vectors, or zeros where no word is known."""
        weights = _weights([self.split(text.lower()) for text in texts], self.vocabulary, self.rarity)
        vectors = np.asarray(weights @ self.directions, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return unit


def _weights(documents: Sequence[Sequence[str]], vocabulary: dict[str, int], rarity: NDArray[np.float64]) -> Any:
    from scipy.sparse import csr_matrix

    starts: list[int] = [0]
    columns: list[int] = []
    values: list[float] = []
    for words in documents:
        counted = Counter(vocabulary[word] for word in words if word in vocabulary)
        weights = np.array([1 + np.log(count) for count in counted.values()]) * rarity[list(counted)]
        columns.extend(counted)
        values.extend(weights / np.linalg.norm(weights) if counted else [])
        starts.append(len(columns))
    return csr_matrix((np.array(values, dtype=np.float64), columns, starts), shape=(len(documents), len(vocabulary)))
