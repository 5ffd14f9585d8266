"""`normbench plan`: what a train command with the same words would run."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser


def parser() -> Parser:
    made = Parser(
        "plan",
        "Show what `normbench train` with the same words would run. Trains and writes nothing.",
        "normbench plan norm=bn,gn batch=2,8,32 'seed=range(5)'",
    )
    made.add_argument("words", nargs="*", metavar="key=value", help="the words of a train command")
    made.add_argument("-m", "--multirun", action="store_true", help="as after train; a sweep needs no flag")
    made.add_argument("-cd", "--config-dir", metavar="DIR", help="look for choices of your own in DIR")
    return made


def run(argv: Sequence[str]) -> int:
    """Print the plan."""
    args = parser().parse_intermixed_args(list(argv))
    from normbench.commands.momenta import momenta
    from normbench.commands.stacks import stacks
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve
    from normbench.config.search_path import own_config_dir
    from normbench.store import Store
    from normbench.sweeps import get_or_train as runs

    configs = compose(args.words, args.config_dir or own_config_dir())
    store = Store.default()
    resolved = [resolve(config) for config in configs]
    todo = runs.plan(resolved, store)
    print(todo.headline())
    for note in todo.notes():
        print(f"note: {note}")
    for line in stacks(todo.packs):
        print(line)
    for line in runs.packing(resolved, todo, store):
        print(line)
    for line in momenta(todo.packs, store.root / "cache"):
        print(line)
    if todo.packs:
        print("\n".join(runs.estimated(todo, store).lines()))
    return 0
