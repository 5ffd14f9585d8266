"""Plugins are found, hashed and refused with a reason."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint

import pytest

from normbench import cli, parts, plugins
from normbench.errors import InputError
from normbench.parts import Plugin
from normbench.plugins import loading
from normbench.plugins.source import digest

from .conftest import NORM

DATA = """
    import numpy as np
    from normbench import plugins

    @plugins.data("{name}")
    def read():
        return np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2, np.zeros((2, 8, 8), np.uint8), np.arange(2)
"""


def failing(name: str) -> str:
    with pytest.raises(InputError) as refused:
        plugins.load(name)
    assert not parts.everything()
    return str(refused.value)


def test_a_file_a_module_and_a_package_register_parts(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write("lone.py", DATA.format(name="one"))
    write("here.py", DATA.format(name="two"))
    write("pack/__init__.py", '__version__ = "3.0"\n')
    write("pack/inner.py", DATA.format(name="three"))
    for name in ("./lone.py", "here", "pack.inner"):
        plugins.load(name)
        plugins.load(name)  # again, at no cost
    assert parts.names("data") == ["one", "three", "two"]
    assert [(p.name, p.version) for p in loading.loaded()] == [
        ("lone.py", None), ("here", None), ("pack.inner", "3.0"),
    ]  # fmt: skip


def test_the_environment_and_entry_points_name_plugins(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write("by_variable.py", DATA.format(name="one"))
    write("by_entry.py", DATA.format(name="two"))
    write("broken_entry.py", "import no_such_module_at_all")
    monkeypatch.setenv(loading.VARIABLE, "by_variable.py, ")
    points = [EntryPoint("x", module, loading.GROUP) for module in ("by_entry", "broken_entry")]
    monkeypatch.setattr(loading, "entry_points", lambda group: points)
    [refused] = loading.load_all([])
    assert parts.names("data") == ["one", "two"]
    assert refused.startswith("installed plugin broken_entry cannot be imported: ModuleNotFoundError")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all' (broken.py:1)"),
        ("x = 1\ny = 1 / 0", "ZeroDivisionError: division by zero (broken.py:2)"),
        ("def f(:", "SyntaxError: invalid syntax (broken.py:1)"),
        ("raise SystemExit(3)", "it called sys.exit(3)"),
    ],
)  # fmt: skip
def test_a_plugin_that_does_not_import_says_why_in_one_line(write, text, reason):
    said = failing(str(write("broken.py", text)))
    assert reason in said and "broken.py cannot be imported" in said and "\n" not in said


def test_a_plugin_that_is_not_there_says_what_to_give(tmp_path):
    assert "give a .py file" in failing(str(tmp_path / "nothing.py"))
    assert "there is no module of that name; give a module that Python finds" in failing("no.such.module")


def test_a_name_is_taken_by_one_part_only(write, plug):
    taken = DATA.format(name="digits")
    assert "data digits of plugin taken.py exists already in normbench; choose another name" in failing(
        str(write("taken.py", taken))
    )
    plug(DATA.format(name="mine"), "first.py")
    with pytest.raises(InputError, match=r"data mine of plugin second.py exists already in plugin first.py"):
        plugins.load(str(write("second.py", DATA.format(name="mine"))))
    with pytest.raises(InputError, match="lower-case letters"):
        plugins.load(str(write("third.py", DATA.format(name="Mine-2"))))
    assert parts.names("data") == ["mine"]


def test_a_plugin_that_breaks_late_leaves_no_part(write):
    failing(str(write("late.py", DATA.format(name="mine") + "\n    raise ValueError('late')\n")))


def test_two_files_of_one_name_are_two_plugins(write):
    plugins.load(str(write("a/part.py", DATA.format(name="one"))))
    plugins.load(str(write("b/part.py", DATA.format(name="two"))))
    assert parts.names("data") == ["one", "two"]
    assert len({plugin.target for plugin in loading.loaded()}) == 2


def test_the_source_of_a_lone_module_includes_what_it_imports_beside_it(write):
    main = write("main.py", "import helper\ndef f():\n    from folder import deep\n")
    helper, deep = write("helper.py", "a = 1\n"), write("folder/deep.py", "b = 1\n")
    write("stranger.py", "c = 1\n")
    before = digest(main)
    write("stranger.py", "c = 2\n")
    assert digest(main) == before
    for file in (main, helper, deep):
        text = file.read_text()
        file.write_text(text + "# more\n")
        assert digest(main) != before
        file.write_text(text)
    assert digest(main) == before


def test_the_source_of_a_package_is_all_of_it_wherever_it_lies(write, tmp_path):
    for place in ("here", "there"):
        write(f"{place}/pack/__init__.py", "")
        write(f"{place}/pack/norms.py", "from . import core\n")
        write(f"{place}/pack/sub/__init__.py", "a = 1\n")
    here, there = tmp_path / "here" / "pack", tmp_path / "there" / "pack"
    before = digest(here / "norms.py")
    assert before == digest(there / "norms.py") == digest(there / "__init__.py")
    (there / "sub" / "__init__.py").write_text("a = 2\n")
    assert digest(there / "norms.py") != before


def test_a_worker_refuses_a_plugin_that_changed_since(plug):
    file = plug(DATA.format(name="mine"))
    [plugin] = loading.loaded()
    loading.again([plugin])
    loading.unload()
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(InputError, match=r"plugin my_part.py must not change while a command runs"):
        loading.again([Plugin(plugin.name, plugin.version, plugin.digest, plugin.target)])


def test_a_configuration_cannot_name_plugins(write, tmp_path, capsys):
    write("conf/experiment/own.yaml", "# @package _global_\nplugins: my_norm.py\n")
    for words in (
        ["plugin=my_norm.py"],
        ["+plugins=[my_norm.py]"],
        ["+experiment=own", "--config-dir", str(tmp_path / "conf")],
    ):
        assert cli.run(["plan", *words]) == 2
        said = capsys.readouterr().err
        assert "a configuration cannot name plugins, because it must not run code" in said
        assert "NORMBENCH_PLUGINS" in said


def test_the_flag_stands_anywhere_and_needs_a_value(plug, write, capsys):
    file = write("flagged.py", NORM)
    assert cli.run(["norms", "mine", f"--plugin={file}"]) == 0
    shown = capsys.readouterr().out
    assert "x / (mean square)^alpha" in shown and re.search(r"^ +alpha: 0.5$", shown, re.M)
    assert loading.flags() == ["--plugin", str(file)]
    assert cli.run(["plan", "--plugin"]) == 2
    assert "--plugin needs a module or a file" in capsys.readouterr().err


def test_completion_knows_the_choices_of_a_plugin(write, monkeypatch, capsys):
    file = write("completed.py", DATA.format(name="mine_alone"))
    monkeypatch.setenv("COMP_LINE", f"normbench train --plugin {file} data=mine_a")
    assert cli.run(["-sc", "query=bash"]) == 0
    assert "data=mine_alone" in capsys.readouterr().out


def test_a_script_is_its_own_plugin(write, monkeypatch):
    file = write("script.py", DATA.format(name="mine"))
    script = type(sys)("__main__")
    script.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec(compile(file.read_text(), str(file), "exec"), script.__dict__)
    [plugin] = loading.loaded()
    assert (plugin.name, plugin.target) == ("script.py", str(file))
    plugins.load(str(file))  # as a worker does; the parts are there already
    assert parts.names("data") == ["mine"]


def test_a_part_that_stands_in_no_file_is_refused(monkeypatch):
    with pytest.raises(InputError, match="must stand in a file, so that its source can be part of a run"):
        exec("from normbench import plugins\n@plugins.data('mine')\ndef read(): ...", {"__name__": "nowhere"})
