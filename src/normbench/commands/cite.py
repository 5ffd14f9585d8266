"""`normbench cite`: BibTeX of the methods, models, data and optimizers of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser, own_path

_OWN = """\
@software{{normbench,
  author  = {{{{normbench contributors}}}},
  title   = {{normbench: normalization ablations from one command line}},
  version = {{{version}}},
}}"""


def parser() -> Parser:
    made = Parser(
        "cite",
        "Print BibTeX entries for what a sweep uses: norms, weight maps, models, data, optimizers, and\n"
        "normbench. Each says which words it is for. Without words: all norms and weight maps.",
        "normbench cite norm=bn,gn,brn model=resnet20 data=cifar10",
        "normbench cite norm=bn,gn --out references.bib",
        "normbench cite",
    )
    made.add_words("the words of a train command")
    made.add_argument("--out", type=own_path, metavar="FILE", help="write to FILE")
    made.add_config_dir()
    return made


def run(argv: Sequence[str]) -> int:
    """Print the entries or write them to a file."""
    args = parser().parse_intermixed_args(list(argv))
    from normbench import __version__
    from normbench.commands.bibliography import bibliography
    from normbench.commands.citations import all_methods, cited
    from normbench.commands.text_file import check_writable, print_file, write
    from normbench.config.compose import compose
    from normbench.config.search_path import own_config_dir

    if args.out is not None:
        check_writable(args.out, "--out")
    if args.words:
        configs = compose(args.words, args.config_dir or own_config_dir())
        pairs = [pair for config in configs for pair in cited(config)]
        pairs.sort(key=lambda pair: not pair[0].startswith(("norm=", "weight=")))
    else:
        pairs = list(all_methods())
    words: dict[str, dict[str, None]] = {}
    for word, key in pairs:
        words.setdefault(key, {})[word] = None
    known = bibliography()
    entries = [
        f"% {', '.join(told)}\n{known[key]}"
        if key in known
        else f"% {', '.join(told)}: {key}, which the bibliography of normbench does not have"
        for key, told in words.items()
    ]
    text = "\n\n".join([*entries, _OWN.format(version=__version__)]) + "\n"
    if args.out is None:
        print_file(text)
    else:
        write(args.out, text)
        print(f"wrote {args.out}")
    return 0
