"""Checks of packages: those that normbench needs, and those of its extras. Its own metadata name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from normbench.commands.doctor_check import FAIL, OK, check

#: Extra → what it is for. An extra that is not listed here is shown without a purpose.
_PURPOSES = {
    "dashboard": "normbench dashboard --push",
    "onnx": "normbench export --onnx",
    "pandas": "Runs.to_frame",
    "slurm": "executor=slurm and executor=submitit_local",
    "tensorboard": "tracking=tensorboard",
    "timm": "model=timm:NAME",
}
#: Extras for work on normbench itself.
_OF_DEVELOPERS = ("dev", "docs")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*?)\s*(?:;(.*))?$")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")


class _Need(NamedTuple):
    """A package that normbench needs.

    Attributes:
        package: its name.
        wanted:  its versions, such as ">=2.6"; empty: any.
        extra:   that needs it; empty: normbench itself does.
    """

    package: str
    wanted: str
    extra: str

    @property
    def problem(self) -> str:
        """What is wrong with it here; empty if nothing is."""
        try:
            found = version(self.package)
        except PackageNotFoundError:
            return f"{self.package} is missing"
        return "" if _meets(found, self.wanted) else f"{self.package} {found} (needs {self.wanted})"


def _needs() -> Iterator[_Need]:
    for line in requires("normbench") or ():
        if (match := _REQUIREMENT.match(line)) is not None:
            extra = _EXTRA.search(match[3] or "")
            yield _Need(match[1], match[2].strip("() "), extra[1] if extra else "")


@check("packages")
def packages() -> tuple[str, ...]:
    """What normbench itself needs."""
    needed = [need for need in _needs() if not need.extra]
    wrong = sorted(filter(None, (need.problem for need in needed)), key=lambda said: "missing" not in said)
    if wrong:
        return FAIL, "; ".join(wrong), "pip install --upgrade normbench"
    return OK, f"all {len(needed)} that are needed"


@check("extras")
def extras() -> tuple[str, ...]:
    """What is optional: nothing of it is needed."""
    found: dict[str, list[_Need]] = {}
    for need in _needs():
        if need.extra and need.extra not in _OF_DEVELOPERS:
            found.setdefault(need.extra, []).append(need)
    there, absent = [], {}
    for extra, needs in sorted(found.items()):
        if problems := [need.problem for need in needs if need.problem]:
            absent[extra] = f"no {extra} ({_why(extra, needs, problems)})"
        elif len(needs) == 1 and needs[0].package == extra:
            there.append(f"{extra} {version(extra)}")
        else:
            there.append(
                f"{extra} ({', '.join(f'{need.package} {version(need.package)}' for need in needs)})"
            )
    said = ", ".join([*there, *absent.values()])
    if absent:
        return OK, said, f"if you want them: pip install 'normbench[{','.join(absent)}]'"
    return OK, said


def _why(extra: str, needs: list[_Need], problems: list[str]) -> str:
    """What an extra is for, and which of its packages are wrong, unless all of them are missing."""
    purpose = f"for {_PURPOSES[extra]}" if extra in _PURPOSES else ""
    all_missing = len(problems) == len(needs) and all(said.endswith("is missing") for said in problems)
    return ": ".join(filter(None, (purpose, "" if all_missing else "; ".join(problems)))) or "missing"


def _meets(found: str, wanted: str) -> bool:
    """Whether a version meets a requirement; true if that cannot be judged."""
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
        from packaging.version import InvalidVersion
    except ImportError:
        return True
    try:
        return SpecifierSet(wanted).contains(found, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True
