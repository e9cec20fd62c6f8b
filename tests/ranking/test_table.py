"""The table of a ranking."""

from __future__ import annotations

from kdlight.ranking.table import RankedStudent, Ranking


def test_a_ranking_is_a_list_and_prints_a_table() -> None:
    first = RankedStudent("a", 0.0, 0.0, 0.0, 0.0, 12, 1)
    second = RankedStudent("much smaller", -0.25, 0.0125, 0.125, 0.125, 1_234_567, 5)
    ranking = Ranking([first, second])
    assert ranking[0] is first
    assert ranking[:1] == [first]
    assert str(ranking).splitlines()[2:] == [
        "| a | 0.0000 | 0.0000 | 0.0000 | 0.0000 | 12 | 1 |",
        "| much smaller | -0.2500 | 0.0125 | 0.1250 | 0.1250 | 1,234,567 | 5 |",
    ]
    assert all(line.count("|") == 8 for line in str(ranking).splitlines())
