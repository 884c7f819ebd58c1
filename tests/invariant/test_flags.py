import pytest

from tests.invariant.flags import COMMANDS, effective


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_and_their_defaults_are_the_pinned_ones(name: str, pinned) -> None:
    assert effective(name) == pinned("flags")[name]
