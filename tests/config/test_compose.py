"""The fast composition is Hydra's own, key by key; what cannot be composed is said in one line."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from normbench.config.compose import compose, values_by_key
from normbench.config.resolve import resolve
from normbench.config.search_path import dotted_keys, own_config_dir
from normbench.errors import InputError

WORDS = (
    "norm=bn", "norm=gn", "norm=bn,gn,ln_chw", "norm=glob(ln*)", "norm.momentum=keras:0.9,cumulative",
    "norm.eps=null", "norm.args={}", "++norm.args.track=false", "+norm.args.more={a:1,b:[2]}",
    "model=mlp,resnet20", "model=vgg11", "model.hidden=[8,9]", "placement.sites=[a.*,b],first",
    "data=folder", "data.path=x", "data.root=${oc.env:HOME}", "batch=2,4", "batch=8", "seed=range(3)",
    "total=64", "steps=100", "optim=adamw,sgd", "optim.lr=0.1,1e-3", "~schedule.warmup",
    "eval.statistics=[running]", "tracking=none", "tracking.tags=[a,b]", "tracking.project='a, b'",
    "engine.lanes=choice(1,auto)", "hydra.verbose=true",
)  # fmt: skip


def by_hydra(words: list[str]) -> list[dict]:
    """Every job composed from scratch by Hydra's compose API, in the order of its basic sweeper."""
    with initialize_config_module("normbench.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(words)
        [jobs] = BasicSweeper.split_arguments(overrides, None)
        return [OmegaConf.to_container(hydra_compose("config", job), resolve=True) for job in jobs]


@pytest.mark.parametrize("seed", range(8))
def test_fast_composition_equals_hydra_on_mixed_sweeps(seed: int) -> None:
    rng = random.Random(seed)
    sample = {word.strip("+~").partition("=")[0]: word for word in rng.sample(WORDS, 7)}
    words = [*sample.values()]
    if sample.get("data") == "data=folder":
        words.append("data.path=here")
    assert compose(words) == by_hydra(words)


def test_the_last_key_varies_fastest_and_keys_keep_their_order() -> None:
    configs = compose(["norm=gn,bn", "batch=4,2"])
    assert [(c["norm"]["name"], c["batch"]) for c in configs] == [("gn", 4), ("gn", 2), ("bn", 4), ("bn", 2)]


def test_words_without_a_list_make_one_run() -> None:
    [config] = compose(["batch=2"])
    assert config["batch"] == 2
    assert "hydra" not in config


def test_a_plain_value_never_leaks_into_another_run() -> None:
    configs = compose(["norm.args={track:false},{}", "batch=2,4"])
    assert [{"track": c["norm"]["args"]["track"]} for c in configs] == [{"track": False}] * 2 + [
        {"track": True}
    ] * 2


def test_hydra_composes_once_per_set_of_choices_not_once_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    whole = ConfigLoaderImpl.load_configuration

    def counted(
        self: ConfigLoaderImpl, config_name: str, overrides: list[str], run_mode: RunMode
    ) -> DictConfig:
        calls.append(overrides)
        return whole(self, config_name, overrides, run_mode)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    assert len(compose(["norm=bn,gn", "batch=2,4,8,16,32", "seed=range(40)"])) == 400
    assert len(calls) == 3  # one for the sweep as a whole, one for each norm


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("norm=bm", "unknown norm 'bm'; nearest: bn"),
        ("norm=gn,bm", "unknown norm 'bm'; nearest: bn"),
        ("model=lenet", "unknown model 'lenet'; nearest: lenet5, lenet300"),
        ("data=mnits", "unknown data 'mnits'; nearest: mnist"),
        ("nrom=bn", "unknown key 'nrom'; nearest: norm"),
        ("optim.lrr=1", "unknown key 'optim.lrr'; nearest: optim.lr"),
        ("batchsize=2,4", "unknown key 'batchsize'; nearest: batch"),
        ("batch", "cannot read 'batch': a word must be key=value"),
        ("batch=[", "cannot read 'batch=['"),
        ("data=folder", "data.path has no value here"),
        ("data.root=${nowhere}", "data.root cannot be resolved"),
        ("seed=range(0)", "a sweep needs at least one value"),
        ("norm=glob(zz*)", "a sweep needs at least one value"),
        ("optim.lr=interval(0,1)", "a sweep lists its values"),
        ("~nothing", "'nothing' does not exist"),
        ("norm=null", "norm must be the name of a choice"),
        ("hydra/launcher=fast", "unknown hydra/launcher 'fast'"),
        ("hydra.verbose=true,false", "Sweeping over Hydra's configuration is not supported"),
        ("thing@norm=bn", "config group 'thing' does not exist"),
    ],
)
def test_bad_words_are_explained_in_one_line(word: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        compose([word])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_arguments_are_told_from_those_of_the_choice_made() -> None:
    [config] = compose(["norm=gn", "norm.args.num_group=2"])
    with pytest.raises(InputError, match=r"norm\.args\.num_groups"):
        resolve(config)


def test_the_values_of_words_are_listed_by_key() -> None:
    words = ["norm=bn,gn", "seed=range(3)", "model.hidden=[1,2]", "norm.momentum=null", "data=glob(cifar*)"]
    assert values_by_key(words) == {
        "norm": ["bn", "gn"],
        "seed": ["0", "1", "2"],
        "model.hidden": ["[1,2]"],
        "norm.momentum": ["null"],
        "data": ["cifar10", "cifar100"],
    }
    with pytest.raises(InputError, match="at least one value"):
        values_by_key(["seed=range(0)"])


def test_a_folder_of_ones_own_adds_choices(tmp_path: Path) -> None:
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "mine.yaml").write_text(
        "name: bn\nmomentum: 0.5\neps: 1.0e-5\naffine: true\nargs: {track: true}\n"
    )
    momenta = [config["norm"]["momentum"] for config in compose(["norm=mine,bn"], str(tmp_path))]
    assert momenta == [0.5, 0.1]
    with pytest.raises(InputError, match="unknown norm 'mine'"):
        compose(["norm=mine"])


def test_a_broken_file_of_ones_own_is_explained(tmp_path: Path) -> None:
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "mine.yaml").write_text("name: [bn\n")
    with pytest.raises(InputError, match=r"mine\.yaml"):
        compose(["norm=mine"], str(tmp_path))


def test_sweeps_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "ablation").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      batch: 2,4\n      norm: bn,gn\n"
    (tmp_path / "ablation" / "small.yaml").write_text(text)
    configs = compose(["+ablation=small", "norm=in"], str(tmp_path))
    assert [(c["batch"], c["norm"]["name"]) for c in configs] == [(2, "in"), (4, "in")]


def write_experiments(folder: Path, **params: str) -> str:
    (folder / "experiment").mkdir()
    for name, lines in params.items():
        text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n" + lines
        (folder / "experiment" / f"{name}.yaml").write_text(text)
    return str(folder)


def test_each_swept_file_brings_its_own_sweep(tmp_path: Path) -> None:
    own = write_experiments(
        tmp_path,
        e1="      seed: range(2)\n      batch: 7\n",
        e2="      seed: range(3)\n      batch: 9,10\n",
        e3="      norm: bn,gn\n",
    )
    configs = compose(["+experiment=e1,e2"], own)
    assert [(c["batch"], c["seed"]) for c in configs] == [
        (7, 0), (7, 1), *((b, s) for s in (0, 1, 2) for b in (9, 10))
    ]  # fmt: skip
    assert len(compose(["+experiment=e1,e2", "batch=3"], own)) == 5  # the command line wins
    assert len(compose(["+experiment=e1,e2", "norm=bn,gn"], own)) == 16
    assert [c["norm"]["name"] for c in compose(["+experiment=glob(e*)"], own)[8:]] == ["bn", "gn"]
    assert len(compose(["+experiment=e2"], own)) == 6


def test_a_file_that_a_sweep_in_a_file_chooses_may_sweep_too(tmp_path: Path) -> None:
    own = write_experiments(tmp_path, e1="      seed: range(2)\n", e2="      batch: 2,4\n")
    (tmp_path / "study").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {+experiment: 'e1,e2'}}}\n"
    (tmp_path / "study" / "both.yaml").write_text(text)
    found = [(c["batch"], c["seed"]) for c in compose(["+study=both"], own)]
    assert found == [(32, 0), (32, 1), (2, 0), (4, 0)]


def test_an_argument_in_a_file_is_swept_over_choices_that_lack_it(tmp_path: Path) -> None:
    own = write_experiments(tmp_path, e1="      norm: bn,gn\n      norm.args.group_size: 1,2\n")
    args = [c["norm"]["args"].get("group_size") for c in compose(["+experiment=e1"], own)]
    assert args == [1, 2, 1, 2]


def test_a_config_dir_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="--config-dir must be a folder"):
        compose([], "nowhere")


def test_conf_beside_the_user_is_found_and_the_packaged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import normbench

    monkeypatch.chdir(tmp_path)
    assert own_config_dir() is None
    (tmp_path / "conf").mkdir()
    assert own_config_dir() == "conf"
    monkeypatch.chdir(Path(normbench.__file__).parent)
    assert own_config_dir() is None


def test_dotted_keys_name_every_node() -> None:
    keys = dotted_keys(OmegaConf.create({"a": {"b": 1}, "c": [2], "hydra": {"d": 3}}))
    assert keys == ["a", "a.b", "c"]
