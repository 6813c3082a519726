"""The space that starter's two towers share, and the place of each ImageNet class in it.

Everything here is computed from texts alone: no image is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
EmbedTexts = Callable[[Sequence[str]], Array]
"""Texts to MiniLM's unit embeddings, float32 ``[n, 384]``."""

# A category is a useful hypernym when people say it (its words are in the tokenizer's vocabulary, whose ids
# rise with rarity) and when it says something: "entity" and "artifact" stand above half of all classes.
COMMON_ID = 25_000
FEWEST_CLASSES = 2
MOST_CLASSES = 150

# What people wrap around a word. The space is whitened over words and wrappings, so that neither a few
# directions that all texts share nor the wrapping outweigh what the word means.
PHRASINGS = (
    "{word}",
    "{a_word}",
    "{words}",
    "a photo of {a_word}",
    "photos of {words}",
    "{a_word} at night",
    "a black {word}",
    "a red {word} on a table",
    "{words} on a lake",
    "a small {word} in the grass",
    "two {words} by the sea",
    "a close-up of {a_word}",
    "{a_word} on a white background",
    "an old {word} in the street",
    "a man with {a_word}",
    "{a_word} in the snow",
)
# The plain ones place a class; "a photo of a" twice, being what most people and most templates say.
PLAIN_PHRASINGS = ("{word}", "{a_word}", "a photo of {a_word}", "a photo of a {word}", "photos of {words}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of the space; ``docs/starter.md`` says what they were chosen on.

    Attributes:
        hypernym_weight: weight of the mean of the hypernyms' places beside the class name's own, which weighs one.
        shrinkage: how far the covariance is drawn to the identity before whitening, as a share of its mean variance.
    """

    hypernym_weight: float = 0.9
    shrinkage: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Space:
    """The shared space: ``place = (unit embedding - mean) @ projection``, and the classes' places in it.

    Attributes:
        mean: float32 ``[384]``.
        projection: float32 ``[384, 384]``.
        classes: float32 ``[1000, 384]``.
    """

    mean: Array
    projection: Array
    classes: Array


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """WordNet above the ImageNet classes.

    Attributes:
        classes: the synset of each class, in the order of the classifier's outputs.
        words: the words of each synset, in WordNet's order.
        parents: the synsets right above each synset.
    """

    classes: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    parents: dict[str, tuple[str, ...]]


def read_taxonomy(record: dict[str, Any]) -> Taxonomy:
    """Read what ``extract_wordnet.py`` wrote."""
    synsets = record["synsets"]
    return Taxonomy(
        classes=tuple(record["classes"]),
        words={name: tuple(entry["words"]) for name, entry in synsets.items()},
        parents={name: tuple(entry["hypernyms"]) for name, entry in synsets.items()},
    )


def list_ancestors(taxonomy: Taxonomy, synset: str) -> list[str]:
    """A synset and all above it, nearest first; equals in the order of their ids."""
    distance = {synset: 0}
    waiting = [synset]
    for name in waiting:
        for parent in taxonomy.parents[name]:
            if parent not in distance:
                distance[parent] = distance[name] + 1
                waiting.append(parent)
    return sorted(distance, key=lambda name: (distance[name], name))


def choose_hypernyms(taxonomy: Taxonomy, vocabulary: dict[str, int]) -> list[list[str]]:
    """Choose the useful hypernyms of each class.

    Args:
        taxonomy: WordNet above the classes.
        vocabulary: the tokenizer's words to their ids.

    Returns:
        For each class the words for its useful hypernyms, nearest first.
    """
    ancestors = [list_ancestors(taxonomy, name) for name in taxonomy.classes]
    below: dict[str, int] = {}
    for names in ancestors:
        for name in names:
            below[name] = below.get(name, 0) + 1
    chosen = []
    for names in ancestors:
        words: list[str] = []
        for name in names[1:]:
            if not FEWEST_CLASSES <= below[name] <= MOST_CLASSES:
                continue
            common = [word for word in taxonomy.words[name] if is_common(word, vocabulary)]
            if common and common[0] not in words:
                words.append(common[0])
        chosen.append(words)
    return chosen


def is_common(word: str, vocabulary: dict[str, int]) -> bool:
    """Whether every part of a lower-case word or compound is a frequent word."""
    parts = word.lower().replace("-", " ").split()
    return word[0].islower() and all(vocabulary.get(part, COMMON_ID) < COMMON_ID for part in parts)


def phrase(pattern: str, word: str) -> str:
    """Put a word into a phrasing."""
    return pattern.format(word=word, a_word=with_article(word), words=f"{word}s")


def with_article(word: str) -> str:
    """A word with its indefinite article, by its first letter."""
    return f"an {word}" if word[0].lower() in "aeiou" else f"a {word}"


def build_space(
    taxonomy: Taxonomy, names: Sequence[str], vocabulary: dict[str, int], embed: EmbedTexts, recipe: Recipe
) -> Space:
    """Build the space.

    Args:
        taxonomy: WordNet above the classes.
        names: the class names that people use, in the order of the classifier's outputs.
        vocabulary: the tokenizer's words to their ids.
        embed: MiniLM.
        recipe: the settings.
    """
    hypernyms = choose_hypernyms(taxonomy, vocabulary)
    firsts = {words[0] for words in taxonomy.words.values() if is_common(words[0], vocabulary)}
    mean, projection = whiten(sorted({*names, *firsts}), embed, recipe.shrinkage)

    def place(words: Sequence[str]) -> Array:
        vectors = [embed([phrase(pattern, word) for word in words]) for pattern in PLAIN_PHRASINGS]
        return _unit((np.mean(vectors, axis=0) - mean) @ projection)

    classes = place(names)
    words = sorted({word for above in hypernyms for word in above})
    category = dict(zip(words, place(words), strict=True))
    for index, above in enumerate(hypernyms):
        if above:
            classes[index] += recipe.hypernym_weight * _unit(np.mean([category[word] for word in above], axis=0))
    return Space(
        mean=mean.astype(np.float32), projection=projection.astype(np.float32), classes=classes.astype(np.float32)
    )


def whiten(words: Sequence[str], embed: EmbedTexts, shrinkage: float) -> tuple[Array, Array]:
    """The mean and the symmetric whitening, shrunk towards the identity, of words in every phrasing.

    Args:
        words: what the phrasings are filled with.
        embed: MiniLM.
        shrinkage: added to every eigenvalue, as a share of their mean.

    Returns:
        The mean, float64 ``[384]``, and the projection, float64 ``[384, 384]``, which keeps the mean variance.
    """
    vectors = np.stack([embed([phrase(pattern, word) for word in words]) for pattern in PHRASINGS]).astype(np.float64)
    # How words differ, and how the wrapping moves them.
    middles = vectors.mean(axis=0)
    mean = middles.mean(axis=0)
    inside = (vectors - middles).reshape(-1, vectors.shape[-1])
    outside = middles - mean
    covariance = inside.T @ inside / len(inside) + outside.T @ outside / len(outside)
    values, directions = np.linalg.eigh(covariance)
    values += shrinkage * values.mean()
    return mean, np.asarray((directions * (values.mean() / values) ** 0.5) @ directions.T)


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))
