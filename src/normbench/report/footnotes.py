"""What must stand under a table: what cells pool, how many seeds, what bold means, where runs come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from normbench.labels import label, material, repetition_key
from normbench.phrases import counted, listed_seeds
from normbench.record import Record
from normbench.report.axes import METRIC
from normbench.report.cells import Table
from normbench.report.metrics import ENSEMBLE
from normbench.report.selection import ENVIRONMENT
from normbench.report.stats import LEVEL, MIN_SEEDS
from normbench.report.text import natural
from normbench.visible import visible

#: Values of one field that a line names; of more it gives the count.
_NAMED = 8
_ADVICE = "select with where, or make it a row or a column"
_Texts = Mapping[str, str]
_Differing = dict[str, set[str]]


class Footnotes:
    """The warnings and notes of a table.

    Args:
        groups: the runs of its cells.
        tested: the number of columns with a test.
        shared_time: the metric is a time, and runs of one stack share it.

    Keys that were picked per cell (`table.picks`) are named by their own notes alone.
    """

    def __init__(
        self, table: Table, groups: Sequence[Sequence[Record]], tested: int, *, shared_time: bool
    ) -> None:
        self._table, self._groups, self._tested, self._shared_time = table, groups, tested, shared_time
        self._records = [record for group in groups for record in group]
        self._settings = _settings_of(self._records, table.picks.keys)
        self._pooled = [self._differing(group) for group in groups]

    def warnings(self) -> tuple[str, ...]:
        """A line if cells pool runs that are not repetitions; another if they mix environments."""
        mixed = [
            _differing(
                [_environment(record, str(record.spec.get(METRIC, self._table.metric))) for record in group]
            )
            for group in self._groups
        ]
        lines = (
            _count(self._pooled, f"pool runs that differ in {{}}; {_ADVICE}"),
            _count(mixed, f"mix runs of different {{}}; {_ADVICE}"),
        )
        return tuple(line for line in lines if line)

    def notes(self) -> tuple[str, ...]:
        """The lines under a table, most important first."""
        if not self._records:
            return ("No runs yet.", *self._impossible())
        alone = (*self._seeds(), *self._table.picks.notes(), *self._significance())
        lines = self._ensembles() or alone
        return (*lines, *self._impossible(), *self._companions(), self._provenance())

    def _impossible(self) -> list[str]:
        """Why cells can have no runs: one line per reason."""
        cells: dict[str, list[str]] = {}
        for (row, col), cell in self._table.cells.items():
            if cell.impossible and cell.asked == 0:
                cells.setdefault(cell.impossible, []).append(f"{row} / {col}")
        return [f"n/a in {', '.join(places)}: {visible(reason)}" for reason, places in cells.items()]

    def _differing(self, records: Sequence[Record]) -> _Differing:
        return _differing([self._settings[record.signature] for record in records])

    def _ensembles(self) -> list[str]:
        """How many runs an ensemble has; nothing if the metric is one of single runs."""
        if self._table.metric not in ENSEMBLE:
            return []
        sizes = sorted({len(runs) for r in self._records if (runs := r.provenance.get("members"))})
        if not sizes:
            return ["No cell has a value."]
        runs = counted(sizes[0], "run") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} runs"
        return [
            f"Mean predicted probability of {runs} that differ in the seed: one number, without a spread."
        ]

    def _seeds(self) -> list[str]:
        cells = self._table.cells.values()
        counts = {cell.summary.n for cell in cells if cell.summary.n}
        if not counts:
            return ["No cell has a value."]
        repeated = any(cell.by_seed() is None for cell in cells)
        if counts == {1}:
            return ["One seed per cell: a spread cannot be given."]
        exception = " unless a cell says otherwise" if len(counts) > 1 else ""
        if self._table.typical_n == 1:
            return ["One seed per cell unless a cell says otherwise: mean ± sd if there are several."]
        return [f"Mean ± sd over n = {self._table.typical_n} {'runs' if repeated else 'seeds'}{exception}."]

    def _significance(self) -> list[str]:
        lines = []
        cells = self._table.cells.values()
        if self._shared_time:
            return ["Runs of one stack share its time: no significance is claimed."]
        if any(0 < cell.summary.n < MIN_SEEDS for cell in cells):
            lines.append(f"Fewer than {MIN_SEEDS} seeds in some cells: no significance is claimed there.")
        if self._tested:
            columns = counted(self._tested, "column")
            method = f"paired by seed, t-test, Holm over {columns}, {LEVEL:g}"
            if any(cell.best for cell in cells):
                lines.append(f"Bold: better than the runner-up of its column ({method}).")
            else:
                lines.append(f"In no column is the best significantly better than the runner-up ({method}).")
        return lines

    def _companions(self) -> list[str]:
        """What varies along with the rows and columns, so that nobody takes them for the only difference."""
        table = self._table
        own = {*table.rows, *table.cols, *(key for found in self._pooled for key in found)}
        if "total" in own:
            own |= {"batch", "workers"}
        rest = {
            key: values
            for key, values in self._differing(self._records).items()
            if key not in own and _group(key) not in own
        }
        swapped = {
            _group(key) for key in rest if key.endswith(".name")
        }  # the name stands for the whole group
        shown = {
            key.removesuffix(".name"): values
            for key, values in rest.items()
            if key.endswith(".name") or _group(key) not in swapped
        }
        return [f"Rows and columns also differ in {_listing(shown)}."] if shown else []

    def _provenance(self) -> str:
        records = self._records
        commits = _distinct(str(commit) for r in records if (commit := r.provenance.get("commit")))
        devices = _distinct(str(device) for r in records if (device := r.environment.get("device")))
        distinct = {record.signature: record for record in records}  # one run may show several metrics
        runs = sum(len(record.provenance.get("members", [record])) for record in distinct.values())
        parts = [f"{counted(runs, 'run')} on {_distinct(_data(r) for r in records)}"]
        parts += [listed_seeds(record.spec["seed"] for record in records)]
        dates = sorted(str(ended)[:10] for r in records if (ended := r.provenance.get("ended")))
        parts += [" to ".join(dict.fromkeys((dates[0], dates[-1])))] if dates else []
        parts += [f"commit {commits}"] if commits else []
        parts += [f"device {devices}"] if devices else []
        return "; ".join(parts) + "."


def on_pooled(groups: Sequence[Sequence[Record]]) -> list[str]:
    """A line if curves pool runs that are not repetitions; none if they do not.

    Args:
        groups: the runs of each curve.
    """
    line = _count(
        [_differing([*_settings_of(group, ()).values()]) for group in groups],
        "pool runs that differ in {}; select with --where, or name it with --hue",
    )
    return [line] if line else []


def _settings_of(records: Iterable[Record], picked: Sequence[str]) -> dict[str, _Texts]:
    """The settings of runs by signature. PERF: repetitions share one value."""
    known: dict[str, _Texts] = {}
    found = {}
    for record in records:
        key = repetition_key(record.spec)
        if key not in known:
            known[key] = _settings(record, picked)
        found[record.signature] = known[key]
    return found


def _settings(record: Record, picked: Sequence[str]) -> _Texts:
    """The fields in which repetitions must not differ, as text. Contents tell data apart, paths do not."""
    apart = {"data.path", *picked, *(("batch", "workers") if "total" in picked else ())}
    return {
        key: label(given)
        for key, given in material(record.spec).items()
        if key not in apart and _group(key) not in picked
    }


def _environment(record: Record, metric: str) -> _Texts:
    """Where a metric comes from: the training of the run, or an evaluation after it had ended."""
    later = next((a.environment for a in record.additions if metric in a.metrics), {})
    known = {key: later.get(key, record.environment.get(key)) for key in ENVIRONMENT}
    return {key: label(given) for key, given in known.items() if given is not None}


def _differing(runs: Sequence[_Texts]) -> _Differing:
    """The keys in which the runs differ, each with the values that occur."""
    runs = list({id(run): run for run in runs}.values())  # PERF: repetitions share one
    if len(runs) < 2 or all(run == runs[0] for run in runs):
        return {}
    found = {key: {run.get(key, label(None)) for run in runs} for key in sorted({k for r in runs for k in r})}
    return {key: values for key, values in found.items() if len(values) > 1}


def _count(cells: Sequence[_Differing], text: str) -> str:
    """A line that counts the cells with differences and lists these; empty if there are none."""
    pooled: _Differing = {}
    for found in cells:
        for key, values in found.items():
            pooled.setdefault(key, set()).update(values)
    count = sum(map(bool, cells))
    return f"{count} of {len(cells)} cells {text.format(_listing(pooled))}" if pooled else ""


def _listing(found: _Differing) -> str:
    return ", ".join(f"{key} ({_some(values)})" for key, values in found.items())


def _some(values: set[str]) -> str:
    ordered = [visible(text) for text in sorted(values, key=natural)]
    if len(ordered) <= _NAMED:
        return ", ".join(ordered)
    return f"{', '.join(ordered[: _NAMED - 1])}, …, {ordered[-1]}: {len(ordered)} values"


def _data(record: Record) -> str:
    """The data set; a user's own by the name of its folder or archive."""
    data = record.spec["data"]
    path = data.get("path")
    return visible(f"{data['name']} ({PurePath(path).name})" if path else str(data["name"]))


def _group(key: str) -> str:
    """The group of a key; the source of a user's own choice (`plugins.norm`) belongs to its group."""
    return key.removeprefix("plugins.").partition(".")[0]


def _distinct(texts: Iterable[str]) -> str:
    return _some(set(texts))
