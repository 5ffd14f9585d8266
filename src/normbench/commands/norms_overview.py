"""The catalogue of norms as rows, for `normbench norms` and for docs/NORMS.md."""

from __future__ import annotations

from normbench import norms
from normbench.commands.method_docs import method_doc


def overview() -> list[dict[str, str]]:
    """One row per norm; its keys are the columns' titles."""
    return [
        {
            "key": key,
            "name": method_doc(entry.layer).title,
            "reduces": entry.reduces,
            "state": ", ".join(_state(key)) or "–",
            "train = eval": "no" if entry.eval_differs else "yes",
            "uses the batch": "yes" if entry.batch_statistics else "no",
            "paper": entry.reference,
        }
        for key, entry in norms.catalogue().items()
    ]


def _state(key: str) -> list[str]:
    """The buffers that a norm carries from step to step, without the prefix `running_`."""
    layer = norms.build(key, 16)
    names = [name for name in layer.state_dict() if name not in dict(layer.named_parameters())]
    return [name.removeprefix("running_") for name in names if name != "num_batches_tracked"]
