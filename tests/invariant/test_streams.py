import pytest

from tests.invariant.streams import ROWS, STREAMS, checksums, fresh, of_two_shards, resumed, serve


def test_each_pinned_stream_is_looked_at(pinned) -> None:
    assert list(pinned("streams")) == [*STREAMS, "mixture, two shards"]


@pytest.mark.parametrize("name", STREAMS)
def test_rows_are_the_pinned_ones(name: str, pinned) -> None:
    """On every CPU with AVX2 (measured); with older ones, rows of `paper` differ, whose machines are chaotic."""
    assert checksums(serve(fresh(name), 0, ROWS)) == pinned("streams")[name]


@pytest.mark.parametrize("name", STREAMS)
def test_rows_after_a_state_was_loaded_are_the_pinned_ones(name: str, pinned) -> None:
    assert checksums(resumed(name)) == pinned("streams")[name]


def test_rows_of_two_shards_are_the_pinned_ones(pinned) -> None:
    assert checksums(of_two_shards()) == pinned("streams")["mixture, two shards"]
