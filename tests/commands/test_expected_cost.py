"""What `reproduce` says about the cost of tables: never minutes that were measured for something else."""

from __future__ import annotations

import pytest

from normbench.commands.expected_cost import of_all, of_table
from normbench.papers.catalogue import parse
from normbench.papers.description import PaperTable


def table(name: str, expects: str) -> PaperTable:
    grid = "{norm: [bn, gn], seed: [0, 1]}"
    return parse(name, f"title: t\nscales:\n  tiny: {{rows: [norm], grids: [{grid}]{expects}}}\n")


MEASURED = ", expects: {runs: 4, minutes: 1.25, hardware: 2 cores}"
COUNTED = ", expects: {runs: 4}"


@pytest.mark.parametrize(
    ("expects", "runs", "as_in_file", "said"),
    [
        (MEASURED, 4, True, "4 runs; all of them took 1.25 minutes on 2 cores"),
        (MEASURED, 4, False, "4 runs"),
        (MEASURED, 1, True, "1 run"),
        (COUNTED, 4, True, "4 runs; how long they take has not been measured"),
        ("", 4, True, "4 runs; how long they take has not been measured"),
    ],
)
def test_minutes_are_said_of_the_runs_of_the_file_alone(expects, runs, as_in_file, said) -> None:
    assert of_table(table("a/b", expects).scale("tiny"), runs, as_in_file=as_in_file) == said


def test_the_sum_counts_measured_tables_and_names_the_others() -> None:
    first, second = table("a/first", MEASURED), table("a/second", MEASURED.replace("2 cores", "4 cores"))
    counted, nothing = table("a/counted", COUNTED), table("a/nothing", "")
    assert of_all([first], "tiny") == "1 table, 4 runs; all of them took 1.2 minutes together on 2 cores"
    several = of_all([first, second, counted], "tiny").split("; ")
    assert several[:2] == ["3 tables, 12 runs", "2 of them took 2.5 minutes together on 2 cores or 4 cores"]
    assert several[2:] == ["not measured: a/counted"]
    assert of_all([counted, nothing], "tiny") == "2 tables; not measured: a/counted, a/nothing"
