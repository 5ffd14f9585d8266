"""`normbench status`: how far the runs of a sweep are. Reads only, also while other processes train them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normbench.commands.parser import Parser


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "status",
        "Show which runs are done, running (where, since when, at which step), partial (they go on from a\n"
        "checkpoint), failed and missing. Reads only, also while other processes train them.",
        "normbench status norm=bn,gn batch=2,8,32 'seed=range(5)'",
        "normbench status",
        "normbench status --json",
    )
    made.add_words("the words of a train command; without words, all runs at hand")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.add_config_dir()
    return made


def run(argv: Sequence[str]) -> int:
    """Print how far the runs are."""
    args = parser().parse_intermixed_args(list(argv))
    import json

    from normbench.commands.asked_runs import sweep_of
    from normbench.commands.status_lines import lines, tree
    from normbench.run_states import all_states, state_of
    from normbench.store import Store

    store = Store.default()
    specs: Mapping[str, Mapping[str, Any]]
    if args.words:
        _, specs = sweep_of(args.words, args.config_dir)
        states = [state_of(store, signature) for signature in specs]
    else:
        states = list(all_states(store))
        specs = {state.signature: state.spec for state in states}
    if args.json:
        print(json.dumps(tree(states, specs), indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines(states, specs, store, whole=not args.words)))
    return 0
