"""Keys of the configuration in messages of the library.

A layer's message names the layer's own arguments, such as `group_size ≥ 2`. A message on the command line
names the key to set, `norm.args.group_size ≥ 2`.
"""

from __future__ import annotations

import re

from normbench import norms

#: Arguments that the runner gives to a norm. Their keys have the same name, or none.
CONTEXT = ("batch", "total", "seeds", "activated")
#: Arguments whose key is not `norm.args.<argument>`.
KNOBS = ("momentum", "eps", "affine")
#: Remedies in a model of the user's own → the remedies in a run.
REMEDIES = {
    "leave this layer out": "leave this site out of placement.sites",
    "Show it that layer with layer.follow()": "Use placement=conv_norm_act",
    "use more images": "use batch ≥ 2, workers ≥ 2",
}


def of_norm(error: Exception, name: str) -> str:
    """The message of a norm, with the key of every argument that it wants to be set.

    >>> of_norm(ValueError("gn: group_size must divide the channels; leave this layer out"), "gn")
    'gn: norm.args.group_size must divide the channels; leave this site out of placement.sites'

    Args:
        error: raised by the norm.
        name:  of the norm.
    """
    message = str(error)
    for remedy, ours in REMEDIES.items():
        message = message.replace(remedy, ours)
    for argument in norms.entry(name).arguments.keys() - {*CONTEXT}:
        key = f"norm.{argument}" if argument in KNOBS else f"norm.args.{argument}"
        wanted = rf"(?<![\w.]){argument}(?= ?[=≥≤]| must | or | and |, not )|(?<=[Ss]et ){argument}\b"
        message = re.sub(wanted, key, message)
    return message


def of_weight_norm(error: Exception) -> str:
    """The message of a weight map, with the keys.

    >>> of_weight_norm(ValueError("ws: eps must be a finite number > 0; use the map none or wn"))
    'ws: weight.eps must be a finite number > 0; use weight=none or weight=wn'
    """
    message = re.sub(r"(?<![\w.])eps(?= must )", "weight.eps", str(error))
    return re.sub(r"(?<=use )the map (\w+)(?: or (\w+))?", _maps, message)


def _maps(found: re.Match[str]) -> str:
    return " or ".join(f"weight={name}" for name in found.groups() if name)
