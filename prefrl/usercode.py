"""The user's own code: functions named as `FILE.py:FUNC`, and the files that decide a run."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from prefrl.config import Config
from prefrl.errors import UserError, nearest, sentence
from prefrl.registry import module_file


def load_function(spec: str, purpose: str) -> Callable:
    """The function that `FILE.py:FUNC` names; the file may import what lies beside it.

    Args:
        spec: A Python file and a function in it.
        purpose: What the function is for, to name in errors, such as `oracle`.

    Raises:
        UserError: The file or function is missing, or the file fails to import.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not file or not name:
        raise UserError(f"{purpose} '{spec}' must be FILE.py:FUNC")
    if not path.is_file():
        raise UserError(f"{purpose} file '{file}' does not exist")
    module_name = f"prefrl_{purpose.replace(' ', '_')}_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{purpose} file '{file}' is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look themselves up there
    _find_beside(path.resolve())
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{purpose} file '{file}' fails to import: {sentence(error)}") from None
    functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
    if name not in functions:
        hint = nearest(name, functions) if functions else "it defines no function"
        raise UserError(f"{purpose} file '{file}' has no function '{name}': {hint}")
    return getattr(module, name)


_FOLDERS: list[str] = []
"""At the end of `sys.path`, for the user's files that were loaded, the latest first."""


def _find_beside(path: Path) -> None:
    """Let a file import what lies beside it.

    Its folder is looked through last, so that no file there stands in for an installed module, but
    before those of the user's other files, which may have other modules of the same names.
    """
    folder = str(path.parent)
    others = [other for other in _FOLDERS if other != folder]
    elsewhere = [entry for entry in sys.path if entry not in _FOLDERS]
    _FOLDERS[:] = others if folder in elsewhere else [folder, *others]
    sys.path[:] = [*elsewhere, *_FOLDERS]
    beside = [other for other in _sources(path)[1:] if other.is_relative_to(folder)]
    names = {other.relative_to(folder).parts[0].removesuffix(".py") for other in beside}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in names:
            places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
            if any(Path(p).is_relative_to(other) for p in places if p for other in others):
                del sys.modules[name]


def own_files(config: Config) -> list[str]:
    """Paths of the user's files that decide a run: environment, query rule and oracle."""
    files = [module_file(config.env.id)]
    if not config.run.true_reward:
        own = (config.query.rule, config.labels.oracle)
        files += [path.rpartition(":")[0] for path in own]
    return sorted(filter(None, files))


def what_decides(config: Config) -> dict[str, str]:
    """Fingerprints, by path, of all that decides a run from its start beside its configuration.

    That is the user's code, and the labels that it starts from, as they are answered now.
    """
    found = fingerprints(own_files(config))
    source = config.labels.source
    if source and not config.run.true_reward and Path(source).is_file():
        from prefrl.labels.store import LabelStore

        with LabelStore(source, read_only=True) as store:
            found[source] = store.digest()
    return found


def fingerprints(files: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each of these files that there is, by its path.

    Python's counts together with what it imports from beside it, a package as a whole.
    """
    found = {}
    for path in files:
        if Path(path).is_file():
            digest = hashlib.sha256()
            for source in _sources(Path(path)):
                digest.update(source.read_bytes())
            found[path] = digest.hexdigest()
    return found


def _sources(path: Path) -> list[Path]:
    """The file, and what it imports from beside it, directly or not; packages as a whole."""
    found = [path]
    for file in found:  # which grows meanwhile
        imported = _package(file)
        for name in _imports(file):
            beside = file.with_name(f"{name}.py")
            folder = file.parent if file.parent.name == name else file.parent / name
            imported += [beside] if beside.is_file() else sorted(folder.rglob("*.py"))
        found += [other for other in imported if other not in found]
    return found


def _package(file: Path) -> list[Path]:
    """Files of the outermost package that a file is in; none if it is in none."""
    folder = file.parent
    if not (folder / "__init__.py").is_file():
        return []
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return sorted(folder.rglob("*.py"))


def _imports(file: Path) -> list[str]:
    """Names of the modules that a Python file may import from beside it, sorted."""
    if file.suffix != ".py":
        return []
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):  # whoever runs it says what is wrong with it
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names += [node.module] if node.module else [alias.name for alias in node.names]
    return sorted({name.partition(".")[0] for name in names})
