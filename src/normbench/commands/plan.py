"""`normbench plan`: shows what `normbench train` would run with the same words."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser


def parser() -> Parser:
    made = Parser(
        "plan",
        "Show what `normbench train` with the same words would run. Trains and writes nothing.",
        "normbench plan norm=bn,gn batch=2,8,32 'seed=range(5)'",
    )
    made.add_words("the words of a train command")
    made.add_argument(
        "-m", "--multirun", action="store_true", help="accepted as after train; a sweep needs no flag"
    )
    made.add_config_dir()
    return made


def run(argv: Sequence[str]) -> int:
    """Print the plan."""
    args = parser().parse_intermixed_args(list(argv))
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.planned import plan_lines
    from normbench.config.compose import compose
    from normbench.config.search_path import own_config_dir
    from normbench.store import Store
    from normbench.visible import visible

    configs = compose(args.words, args.config_dir or own_config_dir())
    store = Store.default()
    for line in plan_lines(configs, store):
        print(visible(line))
    warn_of_damage(store)
    return 0
