"""Tests of router.serving.board: what processes see of each other."""

from __future__ import annotations

import os

from router.serving.board import NOBODY, Board


def test_what_a_child_writes_its_parent_reads() -> None:
    board = Board(2)
    pid = os.fork()
    if not pid:
        board.expect(1, 12.5)
        board.connected(1, 3)
        board.longest = 0.25
        os._exit(0)
    os.waitpid(pid, 0)
    assert (board.deadline(0), board.deadline(1), board.fewest(), board.longest) == (0.0, 12.5, 3.0, 0.25)


def test_the_fewest_are_of_those_that_take_connections() -> None:
    board = Board(3)
    assert board.fewest() == 0
    board.connected(0, 5)
    board.connected(2, 2)
    assert board.fewest() == 2
    board.connected(2, NOBODY)
    assert board.fewest() == 5
    board.clear(0)
    assert board.fewest() == 0


def test_no_more_leave_than_serve() -> None:
    board = Board(4)
    board.leaving(1)
    assert board.may_leave
    board.leaving(2)
    assert not board.may_leave
