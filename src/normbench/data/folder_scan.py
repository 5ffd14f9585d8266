"""Look through a directory or an archive: which entries are images of which split and class.

Every entry in a split folder is used, passed over because it is no image, or refused with its cause. If a
name occurs twice in an archive, the last entry wins, as when it is unpacked. Links inside an archive are
followed to files; a link that leads anywhere else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from normbench.data.folder_names import SPLITS, is_image, position
from normbench.data.image import Look, look, without_warnings
from normbench.data.members import Key, Member, keyed_members, printable
from normbench.data.walk import hidden
from normbench.errors import InputError


class FoundImage(NamedTuple):
    """One image of a split."""

    split: str
    class_name: str
    name: str
    key: Key  # of the member that holds its bytes


@dataclass
class Scan:
    """What a directory or an archive contains."""

    images: list[FoundImage] = field(default_factory=list)
    tops: set[str] = field(default_factory=set)  # folders that hold the split folders; "" for none
    class_folders: set[tuple[str, str, str]] = field(default_factory=set)  # split, class, name
    outside: list[str] = field(default_factory=list)  # images that are in no class folder of a split
    others: list[str] = field(default_factory=list)  # files that are no images
    looks: dict[Key, Look | Exception] = field(default_factory=dict)  # by member


class _Entry(NamedTuple):
    key: Key
    kind: str
    target: str


def scan(path: str) -> Scan:
    """Find the images under a path and read their headers.

    Raises:
        InputError: the data cannot be read, or an entry in a split folder is refused.
    """
    with without_warnings():
        return _scan(path)


def _scan(path: str) -> Scan:
    found, entries = Scan(), dict[str, _Entry]()
    for key, member in keyed_members(Path(path).expanduser()):
        entries[member.name] = _entry(key, member, entries)
        if member.kind == "file" and _is_candidate(member.name):
            found.looks[key] = _look(member)
    for name, entry in entries.items():
        _sort(path, name, entry, entries, found)
    unseen = {image.key for image in found.images} - found.looks.keys()  # links may lead anywhere
    if unseen:
        for key, member in keyed_members(Path(path).expanduser()):
            if key in unseen:
                found.looks[key] = _look(member)
    for image in found.images:
        if isinstance(error := found.looks[image.key], Exception):
            raise unreadable(path, image.name, error)
    return found


def unreadable(path: str, name: str, error: Exception) -> InputError:
    """The error for a file that is named like an image and cannot be decoded."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"cannot decode {printable(name)} of data.path={path} ({reason}); replace or remove it")


def _entry(key: Key, member: Member, entries: dict[str, _Entry]) -> _Entry:
    """A hard link becomes the file that its target is at this point of the archive."""
    if member.kind == "hard link":
        target = entries.get(member.target)
        return target if target and target.kind == "file" else _Entry(key, "link", member.target)
    return _Entry(key, member.kind, member.target)


def _look(member: Member) -> Look | Exception:
    """The header, or why it cannot be read: a later entry of the same name may take its place."""
    content = member.read()
    try:
        return look(content)
    except Exception as error:  # an image decoder fed with damaged bytes may raise anything
        return error


def _is_candidate(name: str) -> bool:
    at = position(name)
    return at is not None and bool(at.rest) and is_image(name)


def _sort(path: str, name: str, entry: _Entry, entries: dict[str, _Entry], found: Scan) -> None:
    parts, at, image = name.split("/"), position(name), is_image(name)
    if ".." in parts and any(split in parts for split in SPLITS):
        raise _refused(path, name, "has '..' in its name", "pack the archive again")
    if at is None or (image and not at.rest and entry.kind == "file"):
        if entry.kind == "file" and not any(map(hidden, parts)):
            (found.outside if image else found.others).append(name)
        return
    if entry.kind == "folder":
        if at.class_name and not at.rest:
            found.class_folders.add((at.split, at.class_name, name))
        return
    key: Key | None = entry.key
    if entry.kind == "link":
        key = _follow(entry, entries)
        if key is None:
            raise _refused(
                path, name, f"is a link to {printable(entry.target)}, which is no file in the archive",
                "pack the files that links lead to (tar -h)",
            )  # fmt: skip
    elif entry.kind != "file":
        causes = {
            "broken link": ("is a link to nothing", "mend or remove it"),
            "loop": ("is a link to a folder that contains it", "remove it"),
        }
        raise _refused(path, name, *causes.get(entry.kind, ("is neither file nor folder", "remove it")))
    if not image:
        found.others.append(name)
    elif at.rest and key is not None:
        found.tops.add(at.top)
        found.images.append(FoundImage(at.split, at.class_name, name, key))


def _follow(entry: _Entry, entries: dict[str, _Entry]) -> Key | None:
    """The file at the end of a chain of links; None if there is none."""
    seen: set[str] = set()
    while entry.kind == "link":
        following = entries.get(entry.target)
        if following is None or entry.target in seen:
            return None
        seen.add(entry.target)
        entry = following
    return entry.key if entry.kind == "file" else None


def _refused(path: str, name: str, cause: str, remedy: str) -> InputError:
    return InputError(f"{printable(name)} of data.path={path} {cause}; {remedy}")
