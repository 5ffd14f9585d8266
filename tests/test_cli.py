"""The command line as a whole: verbs, help, exit codes, and one line for every complaint."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

import normbench
from normbench import cli
from normbench.commands import norms
from normbench.errors import InputError, RunFailure

HEAVY = ("torch", "hydra", "omegaconf", "pydantic", "rich", "wandb", "scipy", "numpy")


def raising(error: BaseException):
    """A stand-in for a verb's `run`."""

    def run(argv: list[str]) -> int:
        raise error

    return run


def test_help_lists_exactly_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    said = capsys.readouterr().out
    modules = {file.stem for file in (Path(normbench.__file__).parent / "commands").glob("*.py")}
    assert {verb.replace("-", "_") for verb in cli.VERBS} <= modules
    assert all(f"  {verb} " in said for verb in cli.VERBS)


def test_a_command_without_words_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    assert "usage: normbench" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_imports_no_slow_package(verb: str) -> None:
    argv = [word for word in (verb, "--help") if word]
    code = f"import sys; from normbench import cli; cli.run({argv}); print('loaded', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("loaded ")
    assert "normbench" in text
    assert not set(HEAVY) & set(modules.split())


@pytest.mark.parametrize("argv", [["--version"], ["train", "--version"]])
def test_version_prints_the_version_of_normbench(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(argv) == 0
    assert capsys.readouterr().out == f"normbench {normbench.__version__}\n"


def test_it_runs_as_a_module_with_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "normbench", "nroms"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown verb 'nroms'; nearest: norms")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("batch must be ≥ 1"), 2, "error: batch must be ≥ 1\n"),
        (RunFailure("two lines\nof text"), 1, "error: two lines of text\n"),
        (KeyError("x"), 1, "error: unexpected KeyError: 'x'; --debug shows where\n"),
        (
            KeyboardInterrupt(),
            130,
            "error: interrupted; finished runs are kept, and the same command continues",
        ),
        (SystemExit(0), 0, ""),
    ],
)
def test_every_error_becomes_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(norms, "run", raising(error))
    assert cli.run(["norms"]) == code
    stderr = capsys.readouterr().err
    assert stderr.startswith(said)
    assert stderr.count("\n") == bool(said)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 GiB"),
        RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
    ],
)
def test_too_little_memory_is_not_unexpected(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(norms, "run", raising(error))
    assert cli.run(["norms"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: too little memory: ")
    assert "allocate 9" in said


def test_control_codes_never_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(norms, "run", raising(InputError("\x1b]0;gotcha\x07 \u202e [bold]")))
    assert cli.run(["norms"]) == 2
    assert capsys.readouterr().err == "error: \\x1b]0;gotcha\\x07 \\u202e [bold]\n"


def test_a_removed_current_folder_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.run(["norms"]) == 2
    assert cli.run(["--help"]) == 0
    assert capsys.readouterr().err.startswith("error: the current folder is gone (No such file")


@pytest.mark.parametrize("argv", [["--debug", "norms"], ["norms", "--debug"]])
def test_debug_anywhere_shows_the_traceback(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(norms, "run", raising(InputError("no")))
    assert cli.run(argv) == 2
    stderr = capsys.readouterr().err
    assert "Traceback" in stderr
    assert stderr.endswith("error: no\n")


@pytest.mark.parametrize(("no_color", "red"), [("", True), ("1", False)])
def test_errors_are_red_on_a_terminal_that_wants_colour(
    no_color: str, red: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    assert cli.run(["nonsense"]) == 2
    assert terminal.getvalue().startswith("\033[31merror: ") == red


BAD = {
    "an unknown verb": ("trian", "unknown verb 'trian'; nearest: train"),
    "words without a verb": ("norm=bn", "a verb must come first"),
    "an unknown norm": ("train norm=bm", "unknown norm 'bm'; nearest: bn"),
    "an unknown norm in a sweep": ("train norm=bn,bm batch=2,4", "unknown norm 'bm'; nearest: bn"),
    "an unknown model": ("train model=lenet", "unknown model 'lenet'; nearest: lenet5"),
    "unknown data": ("train data=cifar", "unknown data 'cifar'; nearest: cifar10"),
    "an unknown group": ("train nrom=bn", "unknown key 'nrom'; nearest: norm"),
    "an unknown key": ("train optim.lrr=1", "unknown key 'optim.lrr'; nearest: optim.lr"),
    "an unknown argument": (
        "train norm.args.trak=false",
        "unknown argument of norm=bn 'norm.args.trak'; nearest: norm.args.track",
    ),
    "an added key": ("train +norm.args.trak=false", "nearest: norm.args.track"),
    "a deleted group": ("train ~norm", "norm"),
    "no batch": ("train batch=0", "batch"),
    "a negative batch": ("train batch=-1", "batch"),
    "a batch that is no number": ("train batch=two", "batch"),
    "a total that does not divide": ("train batch=3 total=8", "total must be a multiple of batch"),
    "a momentum above 1": ("train norm.momentum=1.5", "norm.momentum must lie in [0, 1]"),
    "a momentum below 0": ("train norm.momentum=-0.1", "norm.momentum must lie in [0, 1]"),
    "a foreign momentum": ("train norm.momentum=jax:0.9", "unknown momentum convention 'jax'"),
    "an unknown device": ("train engine.device=tpu", "engine.device"),
    "data without a path": ("train data=folder", "data.path has no value here"),
    "data that is not there": ("train data=folder data.path=nowhere", "no data at data.path=nowhere"),
    "a key with dashes": ("train --batch=2", "write batch=2"),
    "a key with dashes and a space": ("train --batch 2", "write batch=…"),
    "a dotted key with dashes": ("train --optim.lr=0.1 norm=bn", "write optim.lr=0.1"),
    "a key with dashes in a plan": ("plan --batch=2", "write batch=2"),
    "a key with dashes in a bench": ("bench --norm=gn", "write norm=gn"),
    "a flag that is nearly one": ("table --row norm", "nearest: --rows"),
    "a flag that is nearly Hydra's": ("train --config-dirs x", "nearest: --config-dir"),
    "a flag of nobody": ("train --fast", "unrecognized arguments: --fast"),
    "two things at once": ("train --cfg job --info all", "these flags exclude each other"),
    "a sweep to be shown": ("train norm=bn,gn --cfg job", "'norm=bn,gn' lists several values"),
    "no such folder of choices": ("train --config-dir nowhere", "'"),
    "an unknown launcher": ("train hydra/launcher=fast", "unknown hydra/launcher 'fast'"),
    "a plan of an unknown norm": ("plan norm=bm", "unknown norm 'bm'; nearest: bn"),
    "a table without records": ("table --rows norm --cols batch", "no records"),
    "a format of nobody": ("table --format pdf", "invalid choice: 'pdf'"),
    "a run of nobody": ("info 123", "no run '123'"),
    "a norm to be told about": ("norms bm", "unknown norm 'bm'; nearest: bn"),
    "an unknown table": ("reproduce wu2018/batchsize", "unknown paper table 'wu2018/batchsize'"),
    "an unknown scale": ("reproduce wu2018/batch_size scale=huge", "unknown scale"),
    "a scale without a table": ("reproduce scale=tiny", "the name of a table must come first"),
}


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command line that must be refused; what it said, having written nothing anywhere."""
    before = set(Path.cwd().rglob("*"))
    code = cli.run(argv)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert set(Path.cwd().rglob("*")) == before
    return err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; results would go below it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_prints_one_line_and_writes_nothing(
    words: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(words.split(), capsys)


BAD_NETWORKS = {
    "groups that do not divide": ("model=lenet5 norm=gn norm.args.num_groups=4", "conv1"),
    "instance norm without positions": ("model=mlp norm=in", "at least 2 values"),
    "batch norm of one value": ("model=mlp norm=bn batch=1", "at least 2 values"),
    "a placement that the model lacks": ("model=lenet5 placement=norm_act_conv", "norm_act_conv"),
    "a site that the model lacks": ("model=lenet5 placement.sites=[conv9]", "conv9"),
    "a device that is not there": ("engine.device=cuda:99", "cuda"),
    "no data and no network": ("data=mnist data.root=nowhere data.download=false", "data.root=nowhere"),
    "a corrupt archive": ("data=folder data.path=broken.tar.gz", "broken.tar.gz"),
    "a results folder that is a file": ("batch=2", "results cannot be written"),
}


@pytest.mark.parametrize(("words", "said"), BAD_NETWORKS.values(), ids=BAD_NETWORKS.keys())
def test_a_run_that_cannot_be_trained_is_refused_before_anything_is_written(
    words: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.tar.gz").write_bytes(b"\x1f\x8b not an archive")
    if words == "batch=2":
        (folder / "file").touch()
        monkeypatch.setenv("NORMBENCH_RESULTS", str(folder / "file"))
    assert said in refused(["train", *words.split()], capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = f"{sys.executable} -m normbench --help > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def test_a_closed_standard_output_is_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m normbench --help >&-"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
