"""A sweep as a whole: what choices lack is dropped, impossible runs are named and may be skipped."""

from __future__ import annotations

import pytest

from normbench.config.compose import compose
from normbench.config.sweep import SweepSpecs, resolve_sweep
from normbench.errors import InputError


def sweep_of(*words: str) -> SweepSpecs:
    return resolve_sweep(compose(words))


def refusal(*words: str) -> str:
    with pytest.raises(InputError) as caught:
        sweep_of(*words)
    return str(caught.value)


def test_an_argument_is_dropped_for_the_choices_that_lack_it_and_named() -> None:
    sweep = sweep_of("norm=bn,gn,none", "norm.args.group_size=2")
    assert [run.spec.norm.args.get("group_size") for run in sweep.runs] == [None, 2, None]
    assert [run.unused for run in sweep.runs] == [
        ("norm.args.group_size of bn",), (), ("norm.args.group_size of none",),
    ]  # fmt: skip
    [alone] = sweep_of("norm=bn").runs
    assert sweep.runs[0].spec.signature == alone.spec.signature


def test_arguments_of_several_methods_may_be_swept_together() -> None:
    words = (
        "norm=ghost,brn,bn",
        "norm.args.ghost_size=4,8",
        "norm.args.r_max=2,3",
        "norm.args.track=true,false",
    )
    assert len({run.spec.signature for run in sweep_of(*words).runs}) == 4 + 2 + 2


def test_an_argument_that_no_run_has_is_refused_with_the_nearest_of_all() -> None:
    said = refusal("norm=bn,gn", "norm.args.group_sz=2")
    assert "unknown argument 'norm.args.group_sz'; nearest: norm.args.group_size" in said
    assert "no run of the sweep has it" in said
    assert "norm.args.group_size" in refusal("norm=bn,ghost", "norm.args.group_size=2")


def test_a_lone_run_with_an_argument_of_another_method_is_refused() -> None:
    assert "unknown argument of norm=bn 'norm.args.group_size'" in refusal("norm.args.group_size=2")
    assert "unknown argument of norm=bn" in refusal("norm.args.group_size=2", "seed=0")


def test_the_run_that_is_impossible_is_named() -> None:
    said = refusal("norm=bn,gn", "total=8", "batch=2,3,4")
    assert said.startswith("batch=3 norm=bn: total must be a multiple of batch")
    assert "2 of 6 runs cannot exist, invalid=skip leaves them out" in said


def test_a_lone_run_that_is_impossible_is_not_named_or_skipped() -> None:
    said = refusal("total=8", "batch=3")
    assert said.startswith("total must be a multiple")
    assert "invalid" not in said
    assert refusal("total=8", "batch=3", "invalid=skip") == said


def test_skip_leaves_out_what_is_impossible_and_says_so() -> None:
    sweep = sweep_of("total=8", "batch=2,3,4,5", "seed=0,1", "invalid=skip")
    assert [run.spec.batch for run in sweep.runs] == [2, 2, 4, 4]
    assert [(run.words, run.fields["batch"]) for run in sweep.skipped] == [
        ("batch=3", 3), ("batch=3", 3), ("batch=5", 5), ("batch=5", 5),
    ]  # fmt: skip
    assert len(sweep.notes()) == 2
    assert sweep.notes()[0].startswith("n/a: batch=3: total must be a multiple of batch")


def test_skip_refuses_if_nothing_is_left() -> None:
    assert "none of the 2 runs is possible" in refusal("total=8", "batch=3,5", "invalid=skip")
    sweep = sweep_of("batch=2,4", "invalid=skip")
    faults = {run.spec.signature: InputError("no room") for run in sweep.runs}
    with pytest.raises(InputError, match=r"batch=2: no room; none of the 2 runs is possible"):
        sweep.without(faults)


def test_what_cannot_be_built_is_skipped_or_refused_alike() -> None:
    for policy in ("refuse", "skip"):
        sweep = sweep_of("norm=bn,in", "batch=2,4", f"invalid={policy}")
        faults = {r.spec.signature: InputError("one value") for r in sweep.runs if r.spec.norm.name == "in"}
        if policy == "skip":
            left = sweep.without(faults)
            assert [run.spec.norm.name for run in left.runs] == ["bn", "bn"]
            assert [note.partition(":")[0] for note in left.notes()] == ["n/a", "n/a"]
            assert {run.words for run in left.skipped} == {"norm=in batch=2", "norm=in batch=4"}
        else:
            with pytest.raises(InputError, match=r"^norm=in batch=2: one value; 2 of 4 runs cannot exist"):
                sweep.without(faults)
        assert sweep.without({}) == sweep


def test_the_policy_changes_no_signature_and_takes_two_values() -> None:
    [skip], [plain] = sweep_of("invalid=skip").runs, sweep_of().runs
    assert skip.spec.signature == plain.spec.signature
    assert "invalid must be refuse or skip; got 'ignore'" in refusal("invalid=ignore")
    assert "invalid must be the same for all runs" in refusal("invalid=skip,refuse")


@pytest.mark.parametrize(
    "words", [("batch=null,2",), ("batch=two,2", "workers=x,1"), ("norm.momentum=2,0.1",)]
)
def test_a_bad_value_in_a_sweep_is_one_line_with_the_run(words: tuple[str, ...]) -> None:
    said = refusal(*words)
    assert "runs cannot exist" in said
    assert "\n" not in said


def test_sources_of_averaged_weights_are_dropped_for_runs_without_an_average_and_named() -> None:
    sweep = sweep_of("optim.ema=null,0.99", "eval.statistics=[running,ema_copy,ema_precise]")
    without, averaged = sweep.runs
    assert [str(source) for source in without.spec.eval.statistics] == ["running"]
    assert [str(source) for source in averaged.spec.eval.statistics] == ["running", "ema_copy", "ema_precise"]
    assert without.unused == (
        "eval.statistics=ema_copy of optim.ema=null", "eval.statistics=ema_precise of optim.ema=null",
    )  # fmt: skip
    assert averaged.unused == ()
    [alone] = sweep_of("eval.statistics=[running]").runs
    assert without.spec == alone.spec
    [only, _] = sweep_of("optim.ema=null,0.99", "eval.statistics=[ema_copy]").runs
    assert [str(source) for source in only.spec.eval.statistics] == ["running"]


def test_sources_of_averaged_weights_are_refused_if_no_run_of_the_sweep_has_an_average() -> None:
    for words in (("norm=bn,gn",), ("optim.ema=null",)):
        assert "optim.ema is null" in refusal(*words, "eval.statistics=[running,ema_copy]")
