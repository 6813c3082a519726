"""Every option of every command is named by a test that fails if the option does nothing."""

from __future__ import annotations

from collections import Counter

from option_effects import list_options, list_shown


def test_every_option_of_every_command_has_a_test_that_shows_its_effect() -> None:
    """For one that is missing, write a test that fails without its effect, marked ``shows("command --option")``."""
    missing = set(list_options()) - set(list_shown())
    assert not missing, f"no test shows what these do: {', '.join(sorted(missing))}"


def test_every_name_of_an_option_in_a_test_is_one_that_a_command_has() -> None:
    options = Counter(list_options())
    unknown = {name: tests for name, tests in list_shown().items() if name not in options}
    assert not unknown, f"no command has these: {unknown}"
    assert max(options.values()) == 1
