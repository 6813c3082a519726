"""Labels and templates: the built-in ones are the published ones, a user's own are read or refused by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from clipworks.errors import TextError, UnknownNameError, UsageError
from clipworks.text import prompts


def test_imagenet_has_a_thousand_classes_with_wordnet_ids() -> None:
    curated, raw = prompts.read_labels("imagenet"), prompts.read_labels("imagenet-synsets")
    assert len(curated) == len(raw) == 1000
    assert curated.ids == raw.ids
    assert len(set(curated.ids)) == 1000
    assert (curated.ids[0], curated.names[0], raw.names[0]) == ("n01440764", "tench", "tench, Tinca tinca")


def test_classes_with_one_name_stay_two_classes() -> None:
    raw = prompts.read_labels("imagenet-synsets")
    cranes = [index for index, name in enumerate(raw.names) if name == "crane"]
    assert len(cranes) == 2
    assert len({raw.ids[index] for index in cranes}) == 2
    assert [name for name, count in Counter(raw.names).items() if count > 1] == ["crane"]


def test_template_sets_have_the_published_sizes() -> None:
    sizes = {name: len(prompts.read_templates(name)) for name in prompts.TEMPLATE_SETS}
    assert sizes == {"none": 1, "simple": 1, "openai-7": 7, "openai-80": 80, "simple-zh": 1, "cn-clip-183": 183}
    assert all(
        template.count("{}") == 1 for name in ("openai-80", "cn-clip-183") for template in prompts.read_templates(name)
    )
    assert prompts.read_templates("simple-zh")[0] in prompts.read_templates("cn-clip-183")


def test_prompts_come_template_by_template_and_braces_in_labels_survive() -> None:
    assert prompts.fill_templates(["a {b}", "{0}"], ["x {}.", "{}"]) == ["x a {b}.", "x {0}.", "a {b}", "{0}"]


def test_labels_and_templates_of_the_users_own_are_read(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\ufeffred {}\n\n  {} at night \n", encoding="utf-8")
    assert prompts.read_templates(str(path)) == ("red {}", "{} at night")
    assert prompts.read_labels(str(path)).names == ("red {}", "{} at night")
    assert prompts.read_labels(str(path)).ids == ()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown label set 'imagenot': did you mean 'imagenet'"):
        prompts.read_labels("imagenot")
    with pytest.raises(UnknownNameError, match="unknown template set 'openai-8'"):
        prompts.read_templates("openai-8")
    path = tmp_path / "bad.txt"
    path.write_text("no place\n")
    with pytest.raises(UsageError, match=r"'no place' holds \{\} 0 times; allowed: once"):
        prompts.read_templates(str(path))
    path.write_text(" \n")
    with pytest.raises(TextError, match=r"bad\.txt holds no text"):
        prompts.read_labels(str(path))
    with pytest.raises(UsageError, match="is a folder; allowed: a file of texts"):
        prompts.read_labels(str(tmp_path))


def test_a_users_labels_may_have_wordnet_ids(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("n01440764\ttench\nn02012849 crane\nn03126707, crane, machine\n")
    labels = prompts.read_labels(str(path))
    assert labels.ids == ("n01440764", "n02012849", "n03126707")
    assert labels.names == ("tench", "crane", "crane, machine")
    path.write_text("n01440764 tench\ncrane\n")
    assert prompts.read_labels(str(path)).names == ("n01440764 tench", "crane")
    path.write_text("n01440764 tench\nn01440764 crane\n")
    with pytest.raises(TextError, match="gives the WordNet id n01440764 to two classes"):
        prompts.read_labels(str(path))
