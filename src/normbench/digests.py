"""Hashes of plain trees, as sixteen hex digits. A tree is written once to hash it with many seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple


def digest(tree: Mapping[str, Any]) -> str:
    """The hash of a tree of JSON values. The order of keys does not count."""
    return _hash(_text(tree))


class AroundSeed(NamedTuple):
    """The text that is hashed of a tree, before and after the value of its key "seed".

    >>> tree = {"batch": 2, "seed": 5, "steps": 1}
    >>> AroundSeed.of(tree).digest(7) == digest(tree | {"seed": 7})
    True
    """

    before: str
    after: str

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> AroundSeed:
        """The texts of a tree, which has keys before and after "seed" in the order of the alphabet."""
        before = _text({key: value for key, value in tree.items() if key < "seed"})
        after = _text({key: value for key, value in tree.items() if key > "seed"})
        return cls(f'{before[:-1]},"seed":', f",{after[1:]}")

    def digest(self, seed: int) -> str:
        """The hash of the tree with this seed."""
        return _hash(f"{self.before}{seed}{self.after}")


def _text(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
