"""Every norm keeps the contract. Its clauses are in `normbench.norms.contract`; check-norm uses them, too."""

from __future__ import annotations

import inspect

import pytest

from normbench import norms
from normbench.norms.contract import CLAUSES, declarations, inputs, training


def name_of(clause) -> str:
    return clause.__name__


@pytest.mark.parametrize("clause", (*training.CLAUSES, *declarations.CLAUSES), ids=name_of)
def test_every_norm_keeps_the_clause(key, subject, clause):
    clause(subject)


@pytest.mark.parametrize("clause", inputs.CLAUSES, ids=name_of)
def test_every_norm_but_the_identity_keeps_the_clause_about_inputs(key, subject, clause):
    if key != "none":  # like torch's Identity, it hands over anything
        clause(subject)


def test_every_clause_has_a_name_of_its_own_and_says_what_it_demands():
    assert len({clause.__name__ for clause in CLAUSES}) == len(CLAUSES) >= 30
    assert all(inspect.getdoc(clause) for clause in CLAUSES)


def test_a_layer_has_one_lane_by_default():
    assert inspect.signature(norms.build).parameters["lanes"].default == 1
