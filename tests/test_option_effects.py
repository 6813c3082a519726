"""Every option of every command is named by a test that fails if the option does nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from option_effects import list_options, list_shown

from clipworks import __version__
from clipworks.cli import main
from clipworks.errors import UsageError


def test_every_option_of_every_command_has_a_test_that_shows_its_effect() -> None:
    """For one that is missing, write a test that fails without its effect, marked ``shows("command --option")``."""
    missing = set(list_options()) - set(list_shown())
    assert not missing, f"no test shows what these do: {', '.join(sorted(missing))}"


def test_every_name_of_an_option_in_a_test_is_one_that_a_command_has() -> None:
    options = Counter(list_options())
    unknown = {name: tests for name, tests in list_shown().items() if name not in options}
    assert not unknown, f"no command has these: {unknown}"
    assert max(options.values()) == 1


@pytest.mark.shows("clipworks --version", "clipworks --traceback")
def test_the_version_is_printed_and_an_error_shows_where_when_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"clipworks {__version__}\n"
    words = ["match", "missing.png", "a dog", "--runtime", "fake"]
    assert main(words) == 2
    with pytest.raises(UsageError, match=r"missing\.png does not exist"):
        main([*words, "--traceback"])
