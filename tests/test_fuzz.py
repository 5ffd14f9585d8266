"""Random command lines and configuration files: one line and the right exit code, whatever the words are.

`make test` runs a small sample, always the same one. `make test-fuzz` sets NORMBENCH_FUZZ to the number of
cases per test; those differ from call to call. Nothing trains: the planner does all its work, then a stand-in
answers. All failures are listed together.
"""

from __future__ import annotations

import contextlib
import io
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

hypothesis = pytest.importorskip("hypothesis", reason="make setup installs it")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from normbench import cli  # noqa: E402
from normbench.config.choices import GROUPS, choices, declared  # noqa: E402
from normbench.record import COMPLETE, Record  # noqa: E402
from normbench.spec import Part, RunSpec  # noqa: E402
from normbench.sweeps.get_or_train import Sweep  # noqa: E402
from random_cases import ASKED, cases  # noqa: E402

CASES = cases(8)


def leaves(part: type[Part] = RunSpec, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields of a specification, groups included."""
    for name, field in part.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            yield from leaves(field.annotation, f"{prefix}{name}.")


LEAVES = [
    *leaves(), "total", "invalid", "confirm_above", "hydra.launcher", "hydra.sweeper.params", "hydra.run.dir",
    "hydra/launcher", "hydra.callbacks", "hydra.searchpath", "hydra.job.chdir", "hydra.verbose", "experiment",
    *sorted({f"norm.args.{a}" for name in choices("norm") for a in declared("norm", name)["args"]}),
]  # fmt: skip
#: Values that are right somewhere, values on the edges, and values that are wrong everywhere.
VALUES = [
    "0", "1", "2", "8", "-1", "1.5", "0.1", "1e-3", "1e300", "-0.0", "1e-320", "999999999", "10000000000000",
    "nan", "inf", "-inf", "true", "false", "null", "", "''", "auto", "all", "none", "cpu", "cuda:99",
    "running", "keras:0.9", "linear:0.1:0", "step:1:1:1e-300", "normal:0", "bn", "bn,gn", "1,2,3", "a,,b",
    ",", "[1,2]",
    "[]", "[[1]]", "[true]", "[running,batch]", "{a:1}", "{}", "{name:bn}", "[", "}", "range(3)",
    "range(3,1)", "range(0,1,0)", "range(100000)", "range(0,1,0.3)", "choice(1,2)", "glob(*)", "glob(x)",
    "interval(0,1)",
    "sort(3,1,2)", "shuffle(1,2)", "str(1,2)", "int(x)", "tag(a,1)", "${batch}", "${nothing}",
    "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "${x", "???", "\\", "é", "日本", "a b", "a=b", "$(ls)",
    "../../x",
    "/dev/zero", "~", "1" * 400, "precise:" + "1" * 5000, "fog:" + "9" * 5000, "os.system", "[os.system]",
    "pkg://os",
    "file:///", "[pkg://os]", "\x1b[31m", "\u202e", "x" * 300, "[" * 90, "0x10", "1_000", "١", "2024-01-01",
]  # fmt: skip
NOISE = st.text(alphabet="=,.[]{}()$\"'\\:+~@#/ \t-_abcdef019é\x1b\u202e", max_size=12)


#: Words that are right, so that what stands beside them is read in full.
USUAL = st.sampled_from([
    "batch=2,4", "seed=range(3)", "norm=bn,gn", "total=8", "steps=5", "optim.lr=0.1,0.2", "schedule=plateau",
    "norm.momentum=0.1,cumulative", "eval.statistics=[running,precise:100]", "model.init=normal:0.1",
    "data.valid=0.1", "model=mlp", "placement=conv_act_norm", "norm.args.track=false", "workers=2",
    "engine.precision=bf16", "optim=adamw", "keep_weights=true", "diagnostics=[running_error]",
    "invalid=skip",
    "eval.corruptions=[fog:1-3]", "eval.target=[0.1,0.2]", "data=synthetic", "weight=ws", "epochs=2",
    "model.hidden=[10,10]", "norm.args.num_groups=2", "optim.ema=0.9", "eval.metrics=[ece]", "tracking=none",
])  # fmt: skip


@st.composite
def words(draw: st.DrawFn) -> str:
    """One word: a choice of a group, a value of a leaf, or noise in the place of key, value or all."""
    kind = draw(st.sampled_from(["choice", "leaf", "leaf", "leaf", "noise value", "noise"]))
    prefix = draw(st.sampled_from(["", "", "", "", "", "+", "++", "~"]))
    if kind == "noise":
        return draw(NOISE)
    if kind == "choice":
        group = draw(st.sampled_from(GROUPS))
        return f"{prefix}{group}={draw(st.sampled_from(choices(group)))}"
    key = draw(st.sampled_from(LEAVES))
    value = draw(NOISE if kind == "noise value" else st.sampled_from(VALUES))
    return prefix + key if prefix == "~" and draw(st.booleans()) else f"{prefix}{key}={value}"


SCALARS = st.sampled_from([
    0, 1, -1, 10**12, 1.5, float("nan"), float("inf"), True, None, "", "bn", "auto", "a,b", "${batch}", "???",
    "\0", "\x1b[31m", "1,2", "range(3)", "os.system",
])  # fmt: skip
KEYS = st.sampled_from([
    *(key.rpartition(".")[2] for key in LEAVES), "name", "args", "defaults", "_target_", "params", "hydra",
    "sweeper", "a.b", "", "~", "norm@x", 3,
])  # fmt: skip
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
TEXTS = st.text(alphabet="&*-:[]{}!%@`'\"|> \n#ab1\t", max_size=40)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends at once: the runs are planned and checked, and nothing is written."""

    def train(sweep: Sweep, observers: Sequence[object] = ()) -> list[Record]:
        _ = sweep.plan, sweep.faults
        runs = {spec.signature: spec for spec in sweep.asked}.values()
        return [Record(s.signature, s.model_dump(mode="json"), COMPLETE, {}, {}, {}, {}) for s in runs]

    monkeypatch.setattr(Sweep, "train", train)


def outcome(argv: list[str], folder: Path) -> str:
    """Run one command line in a folder. Return its exit code and the first words of what it said.

    Raises:
        AssertionError: a traceback, an unexpected error, another exit code, more lines, control codes, or
            files that were written although the input is bad.
    """
    before = sorted(folder.rglob("*"))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run(argv)
    said = err.getvalue()
    complaints = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code in (0, 1, 2), f"exit code {code}"
    assert "Traceback" not in out.getvalue() + said, said
    assert "error: unexpected" not in said, said
    assert len(complaints) == (code == 2 or bool(complaints)), said
    assert not [c for c in said if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"], repr(said)
    if code == 2:
        assert sorted(folder.rglob("*")) == before, "something was written"
    return f"exit {code}" + (f": {' '.join(complaints[0].split()[1:4])}" if complaints else "")


class Cases:
    """Counts of the cases of one test, and those that went wrong."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.seen: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}

    def run(self, argv: list[str], folder: Path, about: str = "") -> None:
        try:
            self.seen[outcome(argv, folder)] += 1
        except Exception as error:
            self.seen["wrong"] += 1
            said = str(error).strip().splitlines() or [repr(error)]
            self.wrong.setdefault(said[0][:300], f"{argv} {about}")

    def report(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Print the counts if many cases were asked for; fail if a case went wrong."""
        if ASKED:
            codes = Counter(key.partition(":")[0] for key in self.seen.elements())
            listed = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
            with capsys.disabled():
                print(f"\n{self.what}: {self.seen.total()} cases ({listed}); {len(self.seen)} messages")
        assert not self.wrong, "\n".join(f"{case}\n    {said}" for said, case in self.wrong.items())


def test_command_lines(
    planned: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path))
    counted = Cases("command lines")

    @CASES
    @given(
        st.sampled_from(["train", "train", "plan", "table"]),
        st.lists(USUAL, max_size=4),
        st.lists(words(), max_size=2),
    )
    def cases(verb: str, usual: list[str], odd: list[str]) -> None:
        words_only = [word for word in odd if not word.startswith("-")]  # flags have tests of their own
        counted.run([verb, *usual, *words_only], tmp_path)

    cases()
    counted.report(capsys)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Hydra's, of defaults in files
def test_configuration_files(
    planned: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    counted = Cases("configuration files")

    @CASES
    @given(
        st.sampled_from(["experiment", "norm", "optim", "hydra/sweeper"]),
        TREES | st.dictionaries(KEYS, TREES, max_size=4),
        TEXTS,
        st.sampled_from(["", "# @package _global_\n", "# @package hydra\n"]),
        st.booleans(),
    )
    def cases(group: str, tree: Any, text: str, head: str, noisy: bool) -> None:
        folder = tmp_path / "conf" / group
        folder.mkdir(parents=True, exist_ok=True)
        content = text if noisy else yaml.safe_dump(tree, allow_unicode=True)
        (folder / "mine.yaml").write_text(head + content, encoding="utf-8")
        word = "+experiment=mine" if group == "experiment" else f"{group}=mine"
        counted.run(["train", word], tmp_path, about=repr(head + content))

    cases()
    counted.report(capsys)
