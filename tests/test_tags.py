"""Tags that were changed after the training: what the file holds, and what a tracker gets."""

from __future__ import annotations

from pathlib import Path

from normbench import tags


def test_a_tracker_keeps_tags_of_its_own_and_loses_those_that_were_removed() -> None:
    change = tags.Change(("mine", "draft"), ("bad",))
    assert change.applied_to(["bad", "theirs", "mine"]) == ("theirs", "mine", "draft")


def test_a_tag_that_is_added_again_was_not_removed(tmp_path: Path) -> None:
    tags.write(tmp_path, ["a", "a"], removed=["b", "c"])
    tags.write(tmp_path, ["a", "b"], removed=["d"])
    assert tags.changed(tmp_path) == tags.Change(("a", "b"), ("c", "d"))


def test_the_list_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / tags.FILE).write_text('["a"]', encoding="utf-8")
    assert tags.changed(tmp_path) == tags.Change(("a",))
