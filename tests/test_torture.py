"""A killed delivery keeps its destination's promise: `make torture`, in short."""

from pathlib import Path

import pytest

from tests.torture import CHANNELS, NAIVE, assert_naive_fails, torture


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_killed_delivery_keeps_the_promise_of_its_class(
    kind: str, tmp_path: Path
) -> None:
    assert torture(kind, tmp_path, kills=20, seed=1) > 10


@pytest.mark.parametrize("way", NAIVE)
def test_a_delivery_without_a_ledger_would_be_noticed(way: str, tmp_path: Path) -> None:
    assert_naive_fails(way, tmp_path, kills=12, seed=1)
