"""The example file that `normbench new ablation` writes."""

from __future__ import annotations

TEXT = """\
# An ablation of your own. It works as the tables of papers do:
#   normbench reproduce {given} scale=tiny
#   normbench reproduce {given} scale=tiny --until-decided    # adds seeds until the claim is decided
# docs/tables.md lists every field; docs/statistics.md says how claims are decided.
title: {title}
question: Does batch norm need more images per statistic than group norm?
metric: test_error              # any metric of a run: test_error@precise, test_nll, steps_to_0.1, …

scales:
  tiny:
    setting: scikit-learn's 8×8 digits and an MLP of 2 × 64 units
    rows: [norm]                # keys of the rows; the columns may be left out
    cols: [batch]
    grids:                      # the runs: a product of override words per grid; grids are united
      - data: digits
        model: mlp
        model.hidden: "[64,64]" # a value that is a list is quoted; a list is a sweep
        norm: [bn, gn]
        batch: [32, 2]
        epochs: 4
        seed: [0, 1, 2, 3, 4]   # runs of one seed are compared in pairs
    claims:
      - id: bn_collapses
        text: Batch norm over 2 images errs at least 10 points more than over 32
        kind: greater           # greater, ratio, flat, rises, interior_minimum, best, worst, diverges
        assert: false           # true: reproduce exits 1 if the claim is refuted
        a: {{norm: bn, batch: 2}}
        b: {{norm: bn, batch: 32}}
        margin: 0.10            # errors are fractions
        reason: A smaller difference would not matter here

figures:
  - {{id: error_by_batch, kind: curve, x: batch, hue: norm}}
"""


def text(name: str, given: str) -> str:
    """The text of the file.

    Args:
        name:  of the table.
        given: what a command line calls it.
    """
    return TEXT.format(title=f"My ablation {name}", given=given)
