"""Values that tab completion offers: keys, metrics, values of keys, scales, signatures; without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from normbench.labels import field, flatten, label
from normbench.record import Record
from normbench.report.text import natural
from normbench.store import Store

#: Records that are looked at. PERF: completion must answer at once, also in a large store.
_MOST = 100
#: Metrics that every run has or can have.
_METRICS = (
    "test_error", "test_loss", "train_error", "train_loss", "test_error@batch", "train_s", "step_s",
    "steps_per_s", "parameters", "memory_bytes", "ensemble_error", "ensemble_nll", "ensemble_ece",
)  # fmt: skip
#: Keys of runs that are no fields of a configuration.
_FURTHER_KEYS = ("total", "status", "tags")
SCALES = ("tiny", "small", "full")


def some_records() -> list[Record]:
    """A few records of the store, without what was added later."""
    found = []
    for file in islice((Store.default().root / "runs").glob("*/*/record.json"), _MOST):
        try:
            found.append(Record.from_json(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            continue
    return found


def signatures() -> list[str]:
    """Names of the folders of runs, sorted."""
    return sorted(folder.name for folder in (Store.default().root / "runs").glob("*/*/"))


def keys() -> list[str]:
    """Keys of runs: of those at hand, else of the configuration."""
    records = some_records()
    if not records:
        from normbench.config.search_path import known_keys, own_config_dir

        return [*known_keys([], own_config_dir()), *_FURTHER_KEYS]
    fields = {key.removesuffix(".name") for record in records for key in flatten(record.spec)}
    return [*sorted(fields), *_FURTHER_KEYS]


def metrics() -> list[str]:
    """Metrics of the runs at hand, and those that every run has."""
    return list(dict.fromkeys([*_METRICS, *sorted({m for r in some_records() for m in r.metrics})]))


def values_of(key: str) -> list[str]:
    """The values of a key among the runs at hand; of a group also all of its choices."""
    from normbench.config.choices import GROUPS, choices

    if key == "status":
        return ["complete", "diverged", "failed", "partial", "running"]
    records = [record for record in some_records() if key != "total" or "workers" in record.spec]
    found = [given for record in records if (given := field(record.spec, key)) is not None]
    known = choices(key) if key in GROUPS else []
    return list(dict.fromkeys([*sorted(map(label, found), key=natural), *known]))


def scales(words: Sequence[str]) -> list[str]:
    """The scales of the paper table that a word names; the usual ones if no word does."""
    from normbench import papers
    from normbench.config.search_path import own_config_dir
    from normbench.errors import InputError

    for word in words:
        if "=" in word or word.startswith("-"):
            continue
        try:
            return list(papers.load(word, own_config_dir()).scales)
        except InputError:
            break
    return list(SCALES)


def after_commas(word: str, known: Iterable[str]) -> list[str]:
    """The names that may end a list with commas, each with the whole list before it.

    >>> after_commas("norm,b", ["norm", "batch", "bias"]), after_commas("bn,", ["bn", "gn"])
    (['norm,batch', 'norm,bias'], ['bn,gn'])
    """
    before, comma, last = word.rpartition(",")
    listed = {*before.split(",")} if comma else set()
    return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in listed]


def conditions(word: str) -> list[str]:
    """What a condition may be: a key and its sign, then values with commas between."""
    key, sign, given = word.partition("=")
    if not sign:
        return [f"{name}=" for name in keys() if name.startswith(word)]
    return [f"{key}={text}" for text in after_commas(given, values_of(key.removesuffix("!")))]
