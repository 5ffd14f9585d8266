"""`normbench info`: one record, and the words that rerun it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normbench.commands.parser import Parser
from normbench.report.selection import label


def parser() -> Parser:
    made = Parser(
        "info",
        "Show one run: metrics, what it took, configuration, environment, and the command that reruns it.",
        "normbench info 3f2a9c",
        "normbench info results/runs/3f/3f2a9c01d5b7e846 --json",
    )
    made.add_argument("run", metavar="RUN", help="the start of a signature, or the folder of a run")
    made.add_argument("--json", action="store_true", help="the record as it was written")
    return made


def run(argv: Sequence[str]) -> int:
    """Print a record."""
    args = parser().parse_args(argv)
    from normbench.commands.momenta import effect
    from normbench.commands.rerun import command
    from normbench.commands.summary import failure, metric
    from normbench.record import FAILED
    from normbench.store import Store

    store = Store.default()
    record = store.find(args.run)
    if args.json:
        print(record.to_json(), end="")
        return 0
    why = f", {failure(record)}" if record.status == FAILED else ""
    print(f"run {record.signature}: {record.status}{why}")
    _section("metrics", {name: metric(name, value) for name, value in record.metrics.items()})
    if (curve := store.history(record.signature)) and (steps := curve[-1].get("step")):
        norm = record.spec["norm"]
        _section("running statistics", effect(norm["momentum"], norm["args"], int(steps)))
    _section("timing", {name: f"{value:.4g}" for name, value in record.timing.items()})
    _section("environment", record.environment)
    _section("provenance", record.provenance)
    print("\nconfiguration")
    for line in _yaml(record.spec).splitlines():
        print(f"  {line}")
    print(f"\nrerun\n  {command(record.spec)}")
    return 0


def _section(title: str, values: Mapping[str, Any], indent: str = "") -> None:
    """A title and its values, one per line, values of values below them; an empty section is left out."""
    if not values:
        return
    print(f"{indent or chr(10)}{title}")
    width = max(map(len, values))
    for name, value in values.items():
        if isinstance(value, Mapping):
            _section(name, value, f"{indent}  ")
        else:
            print(f"{indent}  {name:<{width}}  {label(value)}")


def _yaml(tree: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    return text
