"""Every diagnostic computed once more for a lone run: plain loops over layers, images and channels."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from normbench import models, rng
from normbench.data.batches import Batches

PERCENTILES = (1, 15, 20, 50, 80, 85, 99)


def network_of(spec, dataset, state):
    """A lone network with the final state of a run, in training mode as at its last step."""
    network = models.build([spec], dataset.shape).double()
    steps = spec.length(len(dataset.train_labels))
    network.begin_step(steps - 1, steps)  # first, since it clips the gates of bin
    network.load_state_dict({name: t.view_as(network.state_dict()[name]) for name, t in state.items()})
    return network


def standardized(dataset, images):
    shape = (1, -1, 1, 1)
    mean, sd = (255 * torch.tensor(m, dtype=torch.float64).view(shape) for m in (dataset.mean, dataset.std))
    return (images.double() - mean) / sd


def seen_by(spec, dataset, network, where):
    """What every norm is given or returns over the training images, by site: (values, C) in numpy."""
    order = torch.randperm(len(dataset.train_labels), generator=rng.generator(0, "test order"))
    whole = len(order) // spec.total * spec.total
    found = {}
    network.eval()
    for layer in network.norms().values():
        layer.train()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    layers = (
        network.norms()
        if where != "act"
        else {f"act{i}": m for i, m in enumerate((m for m in network.modules() if isinstance(m, nn.ReLU)), 1)}
    )

    def keep(name, x):
        found.setdefault(name, []).append(x.detach().movedim(1, -1).reshape(-1, x.shape[1]).numpy())

    hooks = [
        layer.register_forward_hook(
            lambda m, given, y, name=name: keep(name, given[0] if where == "input" else y)
        )
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        for start in range(0, whole, spec.total):
            network(standardized(dataset, dataset.train_images[order[start : start + spec.total]]))
    for hook in hooks:
        hook.remove()
    network.load_state_dict(before)
    network.train()
    return {name: np.concatenate(parts) for name, parts in found.items()}


def running_error(spec, dataset, network, result):
    given = seen_by(spec, dataset, network, "input")
    errors = {"mean": [], "var": []}
    for site, layer in network.norms().items():
        for name, population in (("mean", given[site].mean(0)), ("var", given[site].var(0))):
            running = getattr(layer, f"running_{name}").numpy()
            errors[name].append(np.linalg.norm(running - population) / np.linalg.norm(population))
    return {f"{n}_{how.__name__}": how(values) for n, values in errors.items() for how in (np.mean, max)}


def inconsistency(spec, dataset, network, result):
    """From the metrics that evaluation gave: their own tests are elsewhere."""
    m = result.metrics
    return {name: m[f"test_{name}"] - m[f"test_{name}@batch"] for name in ("error", "loss")}


def fluctuation(spec, dataset, network, result):
    errors = [p["test_error"] for p in result.history if "test_error" in p][-5:]
    mean = sum(errors) / 5
    return {"test_error": (sum((e - mean) ** 2 for e in errors) / 4) ** 0.5, "valid_error": None}


def centering(spec, dataset, network, result):
    made = seen_by(spec, dataset, network, "output")
    means, deviations = [], []
    for site, layer in network.norms().items():
        z = (made[site] - layer.bias.detach().numpy()) / layer.weight.detach().numpy()
        means.append(np.abs(z.mean(0)).mean())
        deviations.append(np.abs(z.std(0) - 1).mean())
    return {
        "mean_mean": np.mean(means), "mean_max": max(means),
        "deviation_mean": np.mean(deviations), "deviation_max": max(deviations),
    }  # fmt: skip


def dead_channels(spec, dataset, network, result):
    made = seen_by(spec, dataset, network, "act")
    shares = [np.mean([len(set(channel)) == 1 for channel in values.T]) for values in made.values()]
    return {"mean": np.mean(shares), "max": max(shares)}


def kurtosis(spec, dataset, network, result):
    given = seen_by(spec, dataset, network, "input")
    by_site = [
        np.mean([((c - c.mean()) ** 4).mean() / c.var() ** 2 - 3 for c in values.T])
        for values in given.values()
    ]
    return {"mean": np.mean(by_site), "max": max(by_site)}


def neural_efficiency(spec, dataset, network, result):
    network.eval()
    fires = {}
    for i, layer in enumerate((m for m in network.modules() if isinstance(m, nn.ReLU)), 1):
        layer.register_forward_hook(
            lambda m, given, y, i=i: fires.setdefault(i, []).append((y > 0).movedim(1, -1).flatten(0, -2))
        )
    with torch.no_grad():
        logits = network(standardized(dataset, dataset.test_images))[:, 0]
    accuracy = (logits.argmax(1) == dataset.test_labels).double().mean().item()
    efficiencies = []
    for parts in fires.values():
        patterns = Counter("".join("01"[bit] for bit in row) for row in torch.cat(parts).int().tolist())
        shares = np.array([*patterns.values()]) / patterns.total()
        efficiencies.append(-(shares * np.log2(shares)).sum() / len(next(iter(patterns))))
    network.train()
    mean = np.prod(efficiencies) ** (1 / len(efficiencies))
    return {"mean": mean, "aiq": (accuracy**2 * mean) ** (1 / 3)}


def percentiles(spec, dataset, network, result):
    values = np.sort(list(seen_by(spec, dataset, network, "input").values())[-1][:, 0])
    at = {p: (len(values) - 1) * p / 100 for p in PERCENTILES}
    return {f"p{p}": np.interp(place, range(len(values)), values) for p, place in at.items()}


def affine_histogram(spec, dataset, network, result):
    gamma = np.concatenate([layer.weight.detach().numpy() for layer in network.norms().values()])
    beta = np.concatenate([layer.bias.detach().numpy() for layer in network.norms().values()])
    return {
        "gamma_mean": gamma.mean(), "gamma_sd": gamma.std(), "beta_mean": beta.mean(), "beta_sd": beta.std()
    }  # fmt: skip


def small_gamma(spec, dataset, network, result):
    gamma = [abs(float(g)) for layer in network.norms().values() for g in layer.weight.detach()]
    return {"share": sum(g < 0.01 for g in gamma) / len(gamma)}


def mixing_weights(spec, dataset, network, result):
    shares = {}
    for statistic in ("mean", "var"):
        for i, part in enumerate(("in", "ln", "bn")):
            logits = [getattr(n, f"{statistic}_logits", None) for n in network.norms().values()]
            known = [np.exp(x[i].item()) / sum(np.exp(v.item()) for v in x) for x in logits if x is not None]
            shares[f"{statistic}_{part}"] = np.mean(known) if known else None
    gates = [
        n.gate.detach().clamp(0, 1).mean().item() for n in network.norms().values() if hasattr(n, "gate")
    ]
    shares["gate_bn"] = np.mean(gates) if gates else None
    return shares


def weights_of(network):
    return [
        m.weight.detach().numpy().ravel()
        for m in network.modules()
        if isinstance(m, models.layers.Conv2d | models.layers.Linear)
    ]


def weight_norm(spec, dataset, network, result):
    lengths = [np.sqrt((w**2).sum()) for w in weights_of(network)]
    return {"total": np.sqrt(sum(x**2 for x in lengths)), "mean": np.mean(lengths)}


def effective_lr(spec, dataset, network, result):
    lr = result.history[-1]["lr"]
    return {"mean": np.mean([lr / (w**2).sum() for w in weights_of(network)[:-1]])}


def distance(spec, dataset, network, result):
    start = weights_of(models.build([spec], dataset.shape).double())
    moved = sum(((w - w0) ** 2).sum() for w, w0 in zip(weights_of(network), start, strict=True)) ** 0.5
    return {"total": moved, "relative": moved / sum((w**2).sum() for w in start) ** 0.5}


def batch_of(spec, dataset, step):
    return Batches(dataset, [spec.seed], spec.total, dtype=torch.float64).at(step)


def loss_and_gradient(network, x, y, at=None):
    """Mean cross-entropy and its gradient as one vector, with the parameters or others in their place."""
    before = {name: t.clone() for name, t in network.state_dict().items()}
    if at is not None:
        sizes = [p.numel() for p in network.parameters()]
        for p, values in zip(network.parameters(), at.split(sizes), strict=True):
            p.data.copy_(values.view(p.shape))
    loss = F.cross_entropy(network(x)[:, 0], y[:, 0])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])
    network.load_state_dict(before)
    return loss.item(), gradient


def smoothness(spec, dataset, network, result):
    x, y = batch_of(spec, dataset, int(result.history[-1]["step"]) - 1)
    theta = torch.cat([p.detach().flatten() for p in network.parameters()])
    loss, g = loss_and_gradient(network, x, y)
    losses, changes, ratios = [loss], [], []
    for a in (0.5, 1, 2, 4):
        there, other = loss_and_gradient(network, x, y, theta - a * spec.lr * g)
        losses.append(there)
        changes.append((g - other).norm().item())
        ratios.append(changes[-1] / (a * spec.lr * g.norm().item()))
    return {
        "loss_range": max(losses) - min(losses), "gradient_change": max(changes),
        "effective_smoothness": max(ratios),
    }  # fmt: skip


def gradient_norm(spec, dataset, network, result):
    per_epoch = len(dataset.train_labels) // spec.total
    first = (int(result.history[-1]["step"]) - 1) // per_epoch * per_epoch
    steps = [first + per_epoch * i // 4 for i in range(4)]
    g = [loss_and_gradient(network, *batch_of(spec, dataset, step))[1] for step in steps]
    mean = sum(g) / 4
    return {
        "norm": sum(each.norm().item() for each in g) / 4,
        "variance": sum((each - mean).norm().item() ** 2 for each in g) / 4,
    }


def covariate_shift(spec, dataset, network, result):
    x, y = batch_of(spec, dataset, int(result.history[-1]["step"]) - 1)
    theta = torch.cat([p.detach().flatten() for p in network.parameters()])
    _, g = loss_and_gradient(network, x, y)
    shifts, cosines, start = [], [], 0
    kinds = models.layers.Conv2d | models.layers.Linear
    weights = {id(m.weight) for m in network.modules() if isinstance(m, kinds)}
    for p in network.parameters():
        end = start + p.numel()
        if start and id(p) in weights:
            below_moved = torch.cat([theta[:start] - spec.lr * g[:start], theta[start:]])
            other = loss_and_gradient(network, x, y, below_moved)[1][start:end]
            shifts.append((g[start:end] - other).norm().item())
            cosines.append((g[start:end] @ other / g[start:end].norm() / other.norm()).item())
        start = end
    return {"shift": np.mean(shifts), "cosine": np.mean(cosines)}


def top_eigenvalue(spec, dataset, network, result, products=10):
    x, y = batch_of(spec, dataset, int(result.history[-1]["step"]) - 1)
    names = [name for name, _ in network.named_parameters()]
    before = {name: t.clone() for name, t in network.state_dict().items()}

    def loss(*parameters):
        named = dict(zip(names, parameters, strict=True))
        return F.cross_entropy(torch.func.functional_call(network, named, x)[:, 0], y[:, 0])

    v = [
        torch.randn(p.shape, generator=rng.generator(0, f"probe/{name}"), dtype=torch.float64)
        for name, p in network.named_parameters()
    ]
    for _ in range(products):
        length = sum((part**2).sum() for part in v) ** 0.5
        v = [part / length for part in v]
        _, product = torch.autograd.functional.hvp(loss, tuple(network.parameters()), tuple(v))
        eigenvalue = sum((a * b).sum() for a, b in zip(v, product, strict=True))
        v = product
    network.load_state_dict(before)
    return {"eigenvalue": eigenvalue.item()}


def batch_noise(spec, dataset, network, result):
    before = {name: t.clone() for name, t in network.state_dict().items()}
    network.eval()
    for layer in network.norms().values():
        layer.train()  # its statistics are those of the batch
    tests = torch.randperm(len(dataset.test_labels), generator=rng.generator(0, "test order"))[:8]
    logits = []
    with torch.no_grad():
        for image in tests.tolist():
            for draw in range(8):
                generator = rng.generator(0, f"companions/{image}/{draw}")
                others = torch.randperm(len(dataset.train_labels), generator=generator)[: spec.batch - 1]
                batch = torch.cat([dataset.test_images[image : image + 1], dataset.train_images[others]])
                logits.append(network(standardized(dataset, batch))[0, 0].numpy())
    network.load_state_dict(before)
    network.train()
    z = np.array(logits).reshape(8, 8, -1)
    sd = np.mean([np.var(z[t, :, c], ddof=1) for t in range(8) for c in range(z.shape[2])]) ** 0.5
    return {"sd": sd, "relative": sd / np.std(z.mean(1), ddof=1)}


def layer_jacobian(spec, dataset, network, result):
    network.eval()
    chosen = torch.randperm(len(dataset.train_labels), generator=rng.generator(0, "test order"))[:2]
    largest, squares = [], []
    for image in chosen.tolist():
        given = []
        kinds = models.layers.Conv2d | models.layers.Linear
        hooks = [
            m.register_forward_pre_hook(lambda m, x, given=given: given.append(x[0]))
            for m in network.modules()
            if isinstance(m, kinds)
        ]
        x = standardized(dataset, dataset.train_images[image : image + 1]).requires_grad_()
        given.append(network(x))
        for hook in hooks:
            hook.remove()
        for below, above in pairwise(given):
            rows = [
                torch.autograd.grad(y, below, retain_graph=True)[0].flatten().numpy() for y in above.flatten()
            ]
            values = np.linalg.svd(np.array(rows), compute_uv=False)
            largest.append(values.max())
            squares.append((values**2).mean())
    network.train()
    return {"largest": np.mean(largest), "mean_square": np.mean(squares)}
