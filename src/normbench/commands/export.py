"""`normbench export`: a trained run as an ordinary PyTorch module, in files that need no normbench."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser, own_path
from normbench.errors import InputError
from normbench.visible import visible


def parser() -> Parser:
    made = Parser(
        "export",
        "Write the trained network of one run: weights, configuration, and a builder that needs torch and\n"
        "safetensors alone. The files are read back and compared with the run.",
        "normbench export 3f2a9c --out lenet5_bn",
        "normbench export norm=bn model=lenet5 data=mnist steps=2000 --out lenet5_bn --fold",
        "normbench export 3f2a9c --out lenet5_bn --onnx",
    )
    made.add_argument(
        "run", nargs="+", metavar="RUN",
        help="the start of a signature, or key=value: the words of a train command with one run",
    )  # fmt: skip
    made.add_argument("--out", type=own_path, required=True, metavar="DIR", help="the folder of the files")
    made.add_argument(
        "--fold", action="store_true",
        help="make norms part of the convolutions and linear layers next to them where that is exact",
    )  # fmt: skip
    made.add_argument("--onnx", action="store_true", help="also write model.onnx (extra onnx)")
    made.add_config_dir()
    return made


def run(argv: Sequence[str]) -> int:
    """Write the files and say what was checked."""
    args = parser().parse_intermixed_args(list(argv))
    from normbench.commands.one_run import one_trained_run
    from normbench.commands.text_file import check_writable
    from normbench.phrases import counted
    from normbench.store import Store

    if args.out.exists() and not args.out.is_dir():
        raise InputError(f"--out must be a folder; '{args.out}' is a file; give another name")
    check_writable(args.out / "load.py", "--out")
    store = Store.default()
    record = one_trained_run(args.run, store, args.config_dir)
    from normbench.export.files import write_folder
    from normbench.export.onnx_file import check_packages, write_onnx
    from normbench.export.restored import restore
    from normbench.norms.surgery.changes import Change

    if args.onnx:
        check_packages()
    report: list[Change] = []
    restored = restore(record, store, fold=args.fold, report=report)
    files, off = write_folder(restored, args.out)
    about = restored.network.about
    print(visible(f"run {record.signature}: {about['model']}, norm={about['norm']}, on {about['data']}"))
    for change in report:
        print(visible(f"  {change}"))
    print(f"wrote {', '.join(map(str, files))}")
    print(f"read back: outputs differ by {off:.1e} of the largest one at most")
    if args.onnx:
        file, difference = write_onnx(restored.network, args.out, restored.example)
        said = "not compared: onnxruntime is not installed" if difference is None else (
            f"onnxruntime: outputs differ by {difference:.1e} of the largest one at most"
        )  # fmt: skip
        print(f"wrote {file}; {said}")
    for note in about["notes"]:
        print(visible(f"note: {note}"))
    if about["standardize"].get("why"):
        print(visible(f"note: the standardization is not written: {about['standardize']['why']}"))
    channels, side, _ = about["input"]
    classes = counted(len(about["classes"]), "class")
    print(f"input {channels}×{side}×{side} ({about['fitted']}), {classes}")
    return 0
