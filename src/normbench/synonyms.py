"""Other names of norms, choices and keys, as papers and libraries write them, and normbench's name for each.

Spellings are compared without case, spaces, `_`, `-`, a module's prefix and a final `1d` … `3d`. So
`nn.BatchNorm2d`, `batch_norm` and `batch-norm` are one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Spelling → the names meant, the most likely one first.
SYNONYMS: dict[str, str] = {
    # norms
    "batchnorm": "bn", "batchnormalization": "bn", "bnorm": "bn", "layernorm": "ln_chw ln_c",
    "layernormalization": "ln_chw ln_c", "ln": "ln_chw ln_c", "lnorm": "ln_chw ln_c", "channelnorm": "ln_c",
    "layerscale": "affine", "scaleshift": "affine", "groupnorm": "gn", "groupnormalization": "gn",
    "gnorm": "gn", "instancenorm": "in", "instancenormalization": "in", "inorm": "in", "contrastnorm": "in",
    "rmsnorm": "rms", "rootmeansquare": "rms", "rootmeansquarenorm": "rms", "identity": "none",
    "nonorm": "none", "off": "none", "no": "none", "without": "none", "plain": "none",
    "syncbatchnorm": "sync", "syncbn": "sync", "synchronizedbatchnorm": "sync", "ghostbatchnorm": "ghost",
    "ghostbn": "ghost", "ghostnorm": "ghost", "gbn": "ghost", "batchrenorm": "brn",
    "batchrenormalization": "brn", "renorm": "brn", "switchablenorm": "sn", "switchnorm": "sn",
    "switchablenormalization": "sn", "localresponsenorm": "lrn", "localresponsenormalization": "lrn",
    "responsenorm": "lrn", "localcontrastnorm": "lcn", "localcontrastnormalization": "lcn",
    "filterresponsenorm": "frn", "filterresponsenormalization": "frn", "evonorm": "evonorm_b0 evonorm_s0",
    "evonormb": "evonorm_b0", "evonorms": "evonorm_s0", "itn": "iternorm", "iterativenorm": "iternorm",
    "iterativenormalization": "iternorm", "whitening": "iternorm dbn", "zca": "dbn iternorm",
    "decorrelatedbatchnorm": "dbn", "decorrelatedbn": "dbn", "decorrelatedbatchnormalization": "dbn",
    "l1batchnorm": "l1bn", "l1norm": "l1bn", "l2norm": "l2", "l2normalization": "l2", "scalenorm": "l2",
    "dynamictanh": "dyt", "dynamicerf": "derf", "batchinstancenorm": "bin",
    "batchinstancenormalization": "bin", "extendedbatchnorm": "ebn", "extendedbatchnormalization": "ebn",
    "movingaveragebatchnorm": "mabn", "movingaveragebatchnormalization": "mabn",
    "crossiterationbatchnorm": "cbn", "crossiterationbatchnormalization": "cbn", "powernorm": "power",
    "powernormalization": "power", "onlinenorm": "online", "onlinenormalization": "online",
    "streamingnorm": "streaming", "streamingnormalization": "streaming", "modenorm": "mode",
    "modenormalization": "mode", "mixturenorm": "mixture", "mixturenormalization": "mixture",
    "batchchannelnorm": "bcn", "batchchannelnormalization": "bcn", "frozenbn": "frozen",
    "frozenbatchnorm": "frozen", "noisybatchnorm": "noisy_bn",
    # weight maps
    "weightnorm": "wn", "weightnormalization": "wn", "weightstandardization": "ws", "wstd": "ws",
    "spectralnorm": "spectral", "spectralnormalization": "spectral",
    "scaledweightstandardization": "scaled_ws", "centeredweightnorm": "centered",
    # models, data, optimisers, schedules, placements
    "lenet": "lenet5 lenet300", "resnet": "resnet20 resnet18", "vgg": "vgg11 vgg16", "dense": "mlp",
    "fullyconnected": "mlp", "cifar": "cifar10 cifar100", "fmnist": "fashion_mnist", "imagefolder": "folder",
    "directory": "folder", "random": "synthetic", "toy": "synthetic digits", "adam": "adamw",
    "multistep": "step", "multisteplr": "step", "steplr": "step", "cosineannealing": "cosine",
    "cosineannealinglr": "cosine", "flat": "constant", "constantlr": "constant", "preact": "norm_act_conv",
    "preactivation": "norm_act_conv", "fullpreactivation": "norm_act_conv", "postact": "conv_norm_act",
    "postactivation": "conv_norm_act", "original": "conv_norm_act", "beforeactivation": "conv_norm_act",
    "afteractivation": "conv_act_norm",
    # keys
    "learningrate": "optim.lr", "batchsize": "batch", "bs": "batch", "minibatch": "batch",
    "worldsize": "workers", "replicas": "workers", "gpus": "workers", "ngpus": "workers",
    "numworkers": "engine.processes workers", "wd": "optim.weight_decay", "decay": "optim.weight_decay",
    "bnmomentum": "norm.momentum", "gpu": "engine.device", "cuda": "engine.device", "amp": "engine.precision",
    "dtype": "engine.precision", "randomseed": "seed", "manualseed": "seed", "seeds": "seed",
    "numepochs": "epochs", "nepochs": "epochs", "epoch": "epochs", "maxepochs": "epochs", "maxsteps": "steps",
    "iterations": "steps", "iters": "steps", "numsteps": "steps", "dataset": "data", "network": "model",
    "net": "model", "arch": "model", "architecture": "model", "backbone": "model", "optimizer": "optim",
    "optimiser": "optim", "scheduler": "schedule", "lrscheduler": "schedule", "normalization": "norm",
    "normlayer": "norm", "groups": "norm.args.num_groups", "epsilon": "norm.eps optim.eps",
    "trackrunningstats": "norm.args.track", "act": "model.activation", "nonlinearity": "model.activation",
    "channels": "model.width data.channels", "gradclip": "optim.clip", "clipgradnorm": "optim.clip",
    "datadir": "data.root data.path", "dataroot": "data.root", "datapath": "data.path data.root",
    "globalbatch": "total", "globalbatchsize": "total", "totalbatch": "total", "wandb": "tracking",
    "logger": "tracking", "sites": "placement.sites", "layers": "placement.sites",
    "norm.decay": "norm.momentum", "norm.rho": "norm.momentum", "numclasses": "data.classes",
    "nclasses": "data.classes", "lrschedule": "schedule", "imagesize": "data.size", "inputsize": "data.size",
    "hiddensize": "model.hidden", "widenfactor": "model.width",
    # metrics
    "acc": "test_error", "accuracy": "test_error", "testacc": "test_error", "testaccuracy": "test_error",
    "top1": "test_error", "err": "test_error", "error": "test_error", "loss": "test_loss",
    "valacc": "valid_error", "valaccuracy": "valid_error", "valloss": "valid_loss", "time": "train_s",
    "seconds": "train_s", "runtime": "train_s", "speed": "steps_per_s", "throughput": "steps_per_s",
}  # fmt: skip


def meant(given: object, names: Iterable[str]) -> list[str]:
    """The names that are probably meant: another spelling, the same last part, or a synonym.

    >>> meant("nn.LayerNorm", ["bn", "ln_c", "ln_chw"]), meant("LN-CHW", ["bn", "ln_c", "ln_chw"])
    (['ln_chw', 'ln_c'], ['ln_chw'])
    >>> meant("lr", ["optim.lr", "batch"]), meant("norm.track", ["norm.args.track", "norm.eps"])
    (['optim.lr'], ['norm.args.track'])

    Args:
        given: a name that does not exist.
        names: the names that exist, dotted ones included.
    """
    known = list(dict.fromkeys(names))
    text = str(given)
    group, leaf = text.partition(".")[0], _leaf(text)
    equal = [name for name in known if _spelling(name) == _spelling(text)]
    if equal:
        return equal
    if "." in text and (whole := [n for n in SYNONYMS.get(_spelling(text), "").split() if n in known]):
        return whole
    alike = [name for name in known if _spelling(_leaf(name)) == _spelling(leaf)]
    if alike:
        return [name for name in alike if name.partition(".")[0] == group] or alike
    synonyms = (SYNONYMS.get(_spelling(text)) or SYNONYMS.get(_spelling(leaf), "")).split()
    return list(dict.fromkeys(n for s in synonyms for n in (s, _leaf(s)) if n in known))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _spelling(name: str) -> str:
    """A name without case, separators, a library's prefix, and the number of dimensions."""
    bare = re.sub(r"^(torch\.|nn\.|F\.|keras\.|layers\.|linen\.)+", "", name)
    return re.sub(r"(?<=[a-z]{4})[123]d$", "", re.sub(r"[\s_-]", "", bare).lower())
