"""K lanes of a layer equal K layers: stacked training depends on it."""

from __future__ import annotations

import pytest

from normbench.norms.contract import lanes


@pytest.mark.parametrize("clause", lanes.CLAUSES, ids=lambda clause: clause.__name__)
def test_every_norm_keeps_the_clause_about_lanes(key, subject, clause):
    clause(subject)
