"""From the words after a verb to one configuration per run.

Hydra needs about 40 ms to compose one configuration, so 400 runs would take 16 s. The runs of a sweep share a
few sets of group choices (norm=gn, model=vgg11). Hydra composes each set once. The values of a run
(model.hidden=[8], ~schedule.warmup) are then applied to a copy, with the function that Hydra itself uses.
Words that replace one plain value (seed=5) are applied last, without Hydra (see `plain_values`). The result
equals Hydra's own.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from normbench.config.choices import GROUPS
from normbench.config.grammar import check_choice, check_text
from normbench.config.hydra_errors import explained
from normbench.config.job_words import JobWord, JobWords
from normbench.config.plain_values import has_plain_value, reads_no_other_key, replaced
from normbench.config.search_path import CONFIG_NAME, dotted_keys, known_keys, open_loader
from normbench.config.sweep_size import Confirmation, count, limit
from normbench.errors import InputError

#: A word that sets an argument of a choice, or all of them.
_ARGUMENT = re.compile(rf"\+*(?:{'|'.join(GROUPS)})\.args[.=]")


def compose(words: Sequence[str], config_dir: str | None = None) -> list[dict[str, Any]]:
    """One resolved configuration for each run that the words ask for, in sweep order.

    Runs share the parts that are equal, so do not change them in place.

    Args:
        words:      overrides in Hydra's grammar. A comma list, range(), choice() or glob() makes a sweep.
        config_dir: a folder with the user's own choices; it is searched too.

    Raises:
        InputError: a word cannot be read, or a key, group or choice does not exist.
    """
    loader = open_loader(config_dir)
    with explained(lambda: known_keys(words, config_dir)):
        master = loader.load_configuration(CONFIG_NAME, open_arguments(words), RunMode.MULTIRUN)
    refuse_output_folders(master)
    composer = Composer(loader, master)
    return [composer.plain(job) for job in composer.jobs()]


def open_arguments(words: Sequence[str]) -> list[str]:
    """The words, with `++` before arguments of a choice such as norm.args.group_size=8.

    So Hydra accepts them for choices that lack the argument, and a sweep over choices composes. `resolve`
    decides what is dropped and what is refused.

    Raises:
        InputError: a word that sets a group in a way that Hydra takes for a knob, see `check_choice`.
    """
    for word in words:
        check_text(word)
        check_choice(word)
        if word.lstrip("+~").partition("=")[0].strip() == "hydra.mode":
            raise InputError(f"{word} has no effect, because a run is a sweep of one; remove it")
    return [f"++{word.lstrip('+')}" if _ARGUMENT.match(word) else word for word in words]


def refuse_output_folders(master: DictConfig) -> None:
    """Refuse the settings of Hydra that would place outputs: normbench writes into its results folder.

    Raises:
        InputError: a setting that would have no effect.
    """
    hydra = master.hydra
    given = {"hydra.run.dir": hydra.run.dir}
    if hydra.output_subdir is None:  # else multirun.yaml is written into the sweep's folder
        given |= {"hydra.sweep.dir": hydra.sweep.dir, "hydra.sweep.subdir": hydra.sweep.subdir}
    for key, folder in given.items():
        if folder != ".":
            raise InputError(
                f"{key} has no effect, because results are kept in one store; got {folder}. "
                f"Set the environment variable NORMBENCH_RESULTS={folder} instead"
            )
    if hydra.job.chdir:
        raise InputError("hydra.job.chdir has no effect, because all runs share one process; remove it")


def values_by_key(words: Sequence[str], config_dir: str | None = None) -> dict[str, list[str]]:
    """The values that each word lists, as text: norm=bn,gn gives {"norm": ["bn", "gn"]}.

    Raises:
        InputError: a word cannot be read, or it lists no value.
    """
    parser = OverridesParser.create(config_loader=open_loader(config_dir))
    found = {}
    with explained():
        overrides = parser.parse_overrides(list(words))
        most = limit(overrides)
        for override in overrides:
            key = override.get_key_element()
            Confirmation(most).check(count([override]))
            sweep = override.is_sweep_override()
            values = override.sweep_string_iterator() if sweep else [override.get_value_element_as_str()]
            found[key] = list(values)
            if not found[key]:
                raise InputError(f"a sweep needs at least one value per key; got {override.input_line}")
    return found


class _Base(NamedTuple):
    """The configuration of some group choices, pickled too so that copies are cheap, and its sweep words."""

    config: DictConfig
    pickled: bytes
    params: tuple[str, ...]


class Composer:
    """Composes the jobs of one sweep. Each set of group choices is composed once.

    Args:
        loader: Hydra's configuration loader.
        master: the configuration composed for the whole sweep. Its overrides of `hydra.*` apply to every job.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._hydra_words = _words(master.hydra.overrides.hydra)
        self._words = JobWords(loader)
        self._base = cache(self._compose_base)
        self._template = cache(self._compose_template)
        self._part = cache(self._replace)  # so jobs share the parts that are equal
        self._has_plain_value = cache(lambda choices, key: has_plain_value(self._base(choices).config, key))
        self._confirmation: Confirmation | None = None

    def jobs(self) -> list[list[str]]:
        """The overrides of every job of the sweep: the product of all lists. The last key changes fastest.

        Configuration files list values in `hydra.sweeper.params`. This includes files that the sweep chooses
        (+experiment=e1,e2). The command line wins.

        Raises:
            InputError: a sweep lists no value, its values cannot be listed, or it has more jobs than
                `confirm_above` and nobody confirms it.
        """
        words = open_arguments(_words(self._master.hydra.overrides.task))
        self._confirmation = Confirmation(
            limit([self._words.read(word).override for word in words], self._master)
        )
        jobs, known = self._product(words), list[str]()
        params = [self._params(job) for job in jobs]
        if all(found == params[0] for found in params):
            jobs, known = self._product(params[0] + words), params[0]
        found_jobs: list[list[str]] = []
        for job in jobs:
            found_jobs += self._deepened(job, known)
            self._confirmation.check(len(found_jobs))
        return found_jobs

    def _deepened(self, job: list[str], known: Sequence[str]) -> list[list[str]]:
        """The jobs that one job becomes through the sweep words of files that it chooses."""
        further = [line for line in self._params(job) if line not in known]
        if not further:
            return [job]
        found = self._product([*further, *job])
        return [deep for each in found for deep in self._deepened(each, [*known, *further])]

    def _product(self, words: Sequence[str]) -> list[list[str]]:
        """All combinations of the values that words list. Of two words with one key, the last one counts."""
        with explained():
            overrides = self._words.parse(words)
            if self._confirmation is not None:
                self._confirmation.check(count(overrides))
            [jobs] = BasicSweeper.split_arguments(overrides, None)
            self._words.note_numbers(overrides)
        if not jobs:
            raise InputError(f"a sweep needs at least one value per key; got {' '.join(words)}")
        return jobs

    def _params(self, job: Sequence[str]) -> list[str]:
        """The sweep words in the files that a job chooses."""
        return list(self._base(self._words.choices(job)).params)

    def plain(self, words: Sequence[str]) -> dict[str, Any]:
        """The configuration of one job as plain dicts and lists: `to_plain(self.job(words))`.

        Jobs share the parts that are equal, so do not change them in place.

        Raises:
            InputError: see `job` and `to_plain`.
        """
        values = self._plain_values(words)
        others = tuple(word for word in words if not any(word in each for each in values.values()))
        template = self._template(others) if values else None
        if template is None:
            return to_plain(self.job(words))
        return template | {part: self._part(others, part, each) for part, each in values.items()}

    def _plain_values(self, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Part → its words, for parts of the configuration in which words only replace plain values."""
        choices = self._words.choices(words)
        found: dict[str, tuple[str, ...]] = {}
        mixed = set()
        for word, known in zip(words, self._checked(words), strict=True):
            if known.choice:
                continue
            if known.plain and self._has_plain_value(choices, known.override.key_or_group):
                found[known.part] = (*found.get(known.part, ()), word)
            else:
                mixed.add(known.part)
        return {part: each for part, each in found.items() if part not in mixed}

    def _compose_template(self, words: tuple[str, ...]) -> dict[str, Any] | None:
        """The plain configuration of words. None if it is none, or if one of its values reads another key."""
        with suppress(InputError):  # a missing value may be given by another word
            config = self.job(words)
            if reads_no_other_key(config):
                return to_plain(config)
        return None

    def _replace(self, others: tuple[str, ...], part: str, words: tuple[str, ...]) -> Any:
        """A part of the template of other words, with the plain values of words in it."""
        template = self._template(others)
        assert template is not None
        tree = {part: template[part]}
        for word in words:
            override = self._words.read(word).override
            tree = replaced(tree, override.key_or_group, override.value())
        return tree[part]

    def _checked(self, words: Sequence[str]) -> list[JobWord]:
        known = [self._words.read(word) for word in words]
        for each in known:
            each.check()
        return known

    def job(self, words: Sequence[str]) -> DictConfig:
        """The configuration of one job, without the node `hydra`.

        Raises:
            InputError: a key, group or choice does not exist, or a value does not fit.
        """
        known = self._checked(words)
        base = self._base(self._words.choices(words)).pickled
        config: DictConfig = pickle.loads(base)  # PERF: 8 times faster than deepcopy
        with explained(lambda: dotted_keys(pickle.loads(base))):
            values = [each.override for each in known if not each.choice]
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config

    def _compose_base(self, choices: tuple[str, ...]) -> _Base:
        """The configuration of these choices."""
        with explained():
            words = [*self._hydra_words, *choices]
            config = self._loader.load_configuration(self._master.hydra.job.config_name, words, RunMode.RUN)
        OmegaConf.copy_cache(from_config=self._master, to_config=config)  # the whole sweep shares one ${now:}
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        lines = tuple(open_arguments([f"{key}={value}" for key, value in params.items()]))
        with open_dict(config):
            del config["hydra"]
        return _Base(config, pickle.dumps(config), lines)


def _words(overrides: ListConfig) -> list[str]:
    """The words as they were typed. Interpolations stay as they are: each run resolves its own."""
    words = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(words, list)
    return [str(word) for word in words]


def to_plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain dicts and lists, with interpolations resolved.

    Raises:
        InputError: a required value is missing, or an interpolation cannot be resolved.
    """
    with explained():
        tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}
