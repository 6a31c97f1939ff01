"""A team does every piece once, and says what went wrong in one."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.learn.team import Team, pieces, team


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_piece_is_done_once_whatever_the_number_of_threads(threads: int) -> None:
    crew = Team(threads)
    try:
        for count in (0, 1, 2, 7, 100):
            done = [0] * count

            def work(piece: int, done: list[int] = done) -> None:
                done[piece] += 1

            crew.each(work, range(count))
            assert done == [1] * count
    finally:
        crew.close()


def test_pieces_run_at_once() -> None:
    crew = Team(3)
    together = threading.Barrier(3, timeout=20)
    try:
        crew.each(lambda _: together.wait(), range(3))
    finally:
        crew.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_piece_raises_is_raised_after_the_others_ended_and_the_team_works_on(threads: int) -> None:
    crew = Team(threads)
    done: list[int] = []

    def work(piece: int) -> None:
        if piece == 1:
            raise ValueError("piece 1")
        done.append(piece)

    try:
        with pytest.raises(ValueError, match="piece 1"):
            crew.each(work, range(6))
        assert sorted(done) == [0, 2, 3, 4, 5]
        crew.each(done.append, [9])
        assert done[-1] == 9
    finally:
        crew.close()


def test_a_team_ends_its_threads_and_gives_torchs_back() -> None:
    threads, running = torch.get_num_threads(), threading.active_count()
    with team():
        assert torch.get_num_threads() == 1
        assert threading.active_count() == running + threads - 1
    assert torch.get_num_threads() == threads
    assert threading.active_count() == running


@given(st.integers(0, 3000), st.integers(1, 300))
def test_pieces_cover_the_length_in_nearly_equal_runs(length: int, size: int) -> None:
    cut = pieces(length, size)
    assert [index for piece in cut for index in range(length)[piece]] == list(range(length))
    sizes = [piece.stop - piece.start for piece in cut]
    assert len(sizes) == -(-length // size)
    assert not sizes or max(sizes) - min(sizes) <= 1
