"""`normbench info`: one record, and the words that rerun it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normbench.commands.parser import Parser
from normbench.errors import NormbenchError
from normbench.labels import label
from normbench.record import FAILED, Record, why_failed


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "info",
        "Show one run: metrics, timing, configuration, environment, and the command that reruns it.",
        "normbench info 3f2a9c",
        "normbench info results/runs/3f/3f2a9c01d5b7e846 --json",
    )
    made.add_argument("run", metavar="RUN", help="the start of a signature, or the folder of a run")
    made.add_argument("--json", action="store_true", help="the record as it was written")
    return made


def run(argv: Sequence[str]) -> int:
    """Print a record."""
    args = parser().parse_args(argv)
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.rerun import command_or_reason
    from normbench.commands.summary import metric
    from normbench.store import Store
    from normbench.visible import visible

    store = Store.default()
    record = store.find(args.run)
    if args.json:
        print(record.to_json(), end="")
        return 0
    why = f", {why_failed(record.provenance)}" if record.status == FAILED else ""
    print(visible(f"run {record.signature}: {record.status}{why}"))
    _section("metrics", {name: metric(name, value) for name, value in record.metrics.items()})
    curve = store.history(record.signature)
    warn_of_damage(store)
    _section("running statistics", _momentum(record, curve[-1].get("step") if curve else None))
    _section("timing", {name: f"{value:.4g}" for name, value in record.timing.items()})
    _section("environment", record.environment)
    _section("provenance", record.provenance)
    print("\nconfiguration")
    for line in _yaml(record.spec).splitlines():
        print(f"  {visible(line)}")
    print(f"\nrerun\n  {visible(command_or_reason(record))}")
    return 0


def _momentum(record: Record, steps: float | None) -> dict[str, str]:
    """What the norm momentum does over the run's steps; empty if that is not known."""
    from normbench.commands.momenta import effect

    norm = record.spec.get("norm", {})
    try:
        return effect(norm.get("momentum"), norm.get("args", {}), int(steps)) if steps else {}
    except (NormbenchError, ArithmeticError, TypeError, ValueError):  # a record written by another version
        return {}


def _section(title: str, values: Mapping[str, Any], indent: str = "") -> None:
    """A title and its values, one per line, values of values below them; an empty section is left out."""
    from normbench.visible import visible

    if not values:
        return
    print(f"{indent or chr(10)}{visible(title)}")
    width = max(len(visible(name)) for name in values)
    for name, value in values.items():
        if isinstance(value, Mapping):
            _section(name, value, f"{indent}  ")
        else:
            print(f"{indent}  {visible(name):<{width}}  {visible(label(value))}")


def _yaml(tree: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    return text
