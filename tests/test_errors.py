"""Errors for people keep their sentence and their code wherever they go."""

from __future__ import annotations

import pickle

import pytest

from app.errors import Failed, Refused


@pytest.mark.parametrize(
    "error", [Refused("image.empty", "It is empty.", "init"), Failed("disk.full", "No room.")]
)
def test_an_error_survives_the_way_between_processes(error: Refused | Failed) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert str(arrived) == error.message
