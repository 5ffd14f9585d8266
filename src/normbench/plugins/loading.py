"""Loads plugins: from the command line, from NORMBENCH_PLUGINS, and from entry points of installed packages.

Only these three name plugins. A configuration cannot, because reading one must not run code. Importing this
module does not import torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from normbench import parts
from normbench.errors import InputError, NormbenchError, reason
from normbench.parts import Plugin
from normbench.plugins.source import digest, package_of, version_of

GROUP = "normbench.plugins"
VARIABLE = "NORMBENCH_PLUGINS"
FLAG = "--plugin"

#: Names of the module of a script, here and in its worker processes.
_SCRIPTS = ("__main__", "__mp_main__")
#: Plugins that the command line named, as they were written.
_named: list[str] = []
_loading: list[tuple[Plugin, Path]] = []  # the plugin that is being imported and its file, last


def split_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without the plugins, and the plugins.

    >>> split_flags(["norm=mine", "--plugin", "my_norm.py", "--plugin=other"])
    (['norm=mine'], ['my_norm.py', 'other'])

    Raises:
        InputError: the flag has no value.
    """
    words, named, rest = [], [], iter(argv)
    for word in rest:
        flag, sign, value = word.partition("=")
        if flag != FLAG:
            words.append(word)
            continue
        value = value if sign else next(rest, "")
        if not value or value.startswith("-"):
            raise InputError(f"{FLAG} needs a module or a file, such as {FLAG} my_norm.py")
        named.append(value)
    return words, named


def flags() -> list[str]:
    """The flags of this command that named plugins, for another command line."""
    return [word for name in _named for word in (FLAG, name)]


def load_all(named: Sequence[str]) -> list[str]:
    """Load the plugins of installed packages, of NORMBENCH_PLUGINS, and those named here.

    Returns:
        One line per installed plugin that could not be loaded. Nobody asked for it here, so it is no error.

    Raises:
        InputError: a named plugin cannot be loaded.
    """
    refused = []
    for point in entry_points(group=GROUP):
        try:
            load(point.module)
        except InputError as error:
            refused.append(f"installed {error}")
    _named[:] = named
    listed = os.environ.get(VARIABLE, "").split(",")
    for name in dict.fromkeys([*filter(None, map(str.strip, listed)), *named]):
        load(name)
    return refused


def load(name: str) -> None:
    """Load a plugin, unless it is loaded: a module that Python finds, the path of a file, or of a package.

    Raises:
        InputError: it cannot be imported, or a part of it cannot be registered. None of its parts stays then.
    """
    module, spec = _located(name)
    file = Path(spec.origin or "").resolve()
    if any(plugin.target in (module, str(file)) for plugin in loaded()):
        return
    try:
        plugin = _plugin(file, name if _is_path(name) else module)
    except SyntaxError as error:
        raise InputError(
            f"plugin {name} cannot be imported: SyntaxError: {error.msg} ({file.name}:{error.lineno})"
        ) from None
    before, modules = parts.everything(), set(sys.modules)
    _loading.append((plugin, file))
    try:
        _execute(module, spec)
    except (Exception, SystemExit) as error:
        for part in parts.everything():
            if part not in before:
                forget(part)
        for new in set(sys.modules) - modules:
            if _is_of(new, file):
                del sys.modules[new]
        raise InputError(f"plugin {name} cannot be imported: {_why(error, file)}") from None
    finally:
        _loading.pop()


def again(plugins: Sequence[Plugin]) -> None:
    """Load in a worker process what its parent has loaded.

    Raises:
        InputError: a plugin cannot be loaded, or its source has changed since.
    """
    for plugin in plugins:
        load(plugin.target)
        if plugin not in loaded():
            raise InputError(f"plugin {plugin.name} must not change while a command runs; repeat the command")


def loaded() -> list[Plugin]:
    """The plugins that have registered a part."""
    return list(dict.fromkeys(part.plugin for part in parts.everything()))


def located(name: str) -> Path:
    """The file of the module of a plugin.

    Raises:
        InputError: there is none.
    """
    return Path(_located(name)[1].origin or "").resolve()


def is_of(part: parts.Part, file: Path) -> bool:
    """Whether the plugin of a part is the module in a file."""
    return located(part.plugin.target) == file


def unload() -> None:
    """Remove all parts and their modules, so that changed plugins can be loaded anew."""
    for part in parts.everything():
        forget(part)
        sys.modules.pop(part.made.__module__, None)


def forget(part: parts.Part) -> None:
    """Remove a part from the registries."""
    parts.forget(part.group, part.name)
    registry = sys.modules.get("normbench.norms.registry")
    if part.group == "norm" and registry is not None:
        registry.REGISTRY.pop(part.name, None)


def plugin_of(made: object) -> Plugin:
    """The plugin that a class or a function belongs to: the one that is being loaded, else its own module.

    Raises:
        InputError: the source is in no file.
    """
    if _loading:
        return _loading[-1][0]
    module = str(getattr(made, "__module__", ""))
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        raise InputError(
            f"{getattr(made, '__name__', made)} must stand in a file, so that its source can be part of a "
            "run's signature; save it, and load it with normbench.plugins.load(FILE)"
        )
    return _plugin(Path(file).resolve(), str(file) if module in _SCRIPTS else module)


def _plugin(file: Path, name: str) -> Plugin:
    """The plugin in a file, under the name that was given for it."""
    package = package_of(file)
    if not _is_path(name):
        shown = target = name
    else:
        shown, target = file.name if package is None else package.name, str(file)
    found = version_of(file)
    if found is None and package is not None:
        try:
            found = version(package.name)
        except PackageNotFoundError:
            found = None
    return Plugin(shown, found, digest(file), target)


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _located(name: str) -> tuple[str, ModuleSpec]:
    """The name of the module of a plugin, and where it is.

    Raises:
        InputError: there is none.
    """
    place = Path(name).expanduser()
    if _is_path(name):
        file = (place / "__init__.py" if place.is_dir() else place).resolve()
        if not file.is_file():
            raise InputError(f"there is no plugin at {name}; give a .py file, or a folder with __init__.py")
        folder = package_of(file) or file
        _add_to_path(folder.parent)
        below = file.relative_to(folder.parent).with_suffix("").parts
        module = ".".join(below).removesuffix(".__init__")
    else:
        file, module = None, name
        _add_to_path(Path.cwd())
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if file is not None and (spec is None or Path(spec.origin or "").resolve() != file):
        if package_of(file) is not None:
            raise InputError(
                f"plugin {name} cannot be imported: another package is called {module}; rename it"
            )
        module = re.sub(r"\W", "_", module) + "_plugin"  # another module has the name of the file
        spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.origin is None or spec.loader is None:
        raise InputError(
            f"plugin {name} cannot be imported: there is no module of that name; give a module that Python "
            "finds, or the path of a file, such as ./my_norm.py"
        )
    return module, spec


def _add_to_path(folder: Path) -> None:
    """Let Python find modules in a folder, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _execute(module: str, spec: ModuleSpec) -> None:
    """Import a module by its name, or from its file if another module has the name."""
    if module in sys.modules:  # imported before as an ordinary module, without parts
        del sys.modules[module]
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module)
        return
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    assert spec.loader is not None
    spec.loader.exec_module(made)


def _is_of(module: str, file: Path) -> bool:
    """Whether a module was imported as a part of the plugin in a file."""
    found = getattr(sys.modules[module], "__file__", None)
    package = package_of(file)
    return found is not None and (
        Path(found).resolve() == file or (package is not None and package in Path(found).resolve().parents)
    )


def _why(error: BaseException, file: Path) -> str:
    """The reason in one line, with the last line of the plugin that was reached."""
    if isinstance(error, NormbenchError):
        return str(error)
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename).resolve().parent == file.parent
    ]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    said = reason(error) if isinstance(error, Exception) else f"it called sys.exit({error})"
    return said + where
