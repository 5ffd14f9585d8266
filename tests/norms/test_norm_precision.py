"""Dtypes: every norm gives back the one it got, and computes its statistics in fp32 or wider."""

from __future__ import annotations

import pytest

from normbench.norms.contract import precision


@pytest.mark.parametrize("clause", precision.CLAUSES, ids=lambda clause: clause.__name__)
def test_every_norm_keeps_the_clause_about_dtypes(key, subject, clause):
    clause(subject)
