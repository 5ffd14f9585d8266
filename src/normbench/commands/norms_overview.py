"""The catalogue of norms as rows: for `normbench norms` and for docs/NORMS.md."""

from __future__ import annotations

from normbench import norms
from normbench.commands.method_docs import card


def overview() -> list[dict[str, str]]:
    """The catalogue of norms, a row each, by the columns' titles."""
    return [
        {
            "key": key,
            "name": card(entry.layer).title,
            "reduces": entry.reduces,
            "state": ", ".join(_state(key)) or "–",
            "train = eval": "no" if entry.eval_differs else "yes",
            "uses the batch": "yes" if entry.batch_statistics else "no",
            "paper": entry.reference,
        }
        for key, entry in norms.catalogue().items()
    ]


def _state(key: str) -> list[str]:
    """What a norm carries from step to step besides its parameters: names of buffers without `running_`."""
    layer = norms.build(key, 16)
    names = [name for name in layer.state_dict() if name not in dict(layer.named_parameters())]
    return [name.removeprefix("running_") for name in names if name != "num_batches_tracked"]
