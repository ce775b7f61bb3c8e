"""pyarrow without pandas, for as long as nobody else imports it.

Before it makes its first array or scalar of Python values pyarrow imports pandas, to see whether it was handed one of pandas'
own: 0.25 s in which the interpreter does nothing else. Nobody can have such a thing before pandas is imported, so the question
is put off until then. Called by `committing`, whose blocks would wait; knows nothing of rows.
"""

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa

_once = threading.Lock()


def put_off_pandas() -> None:
    """Have pyarrow believe that there is no pandas until somebody imports it; does nothing where somebody has. Safe in any thread."""
    with _once:
        if "pandas" in sys.modules or any(isinstance(finder, _Watch) for finder in sys.meta_path):
            return
        watch = _Watch()
        sys.meta_path.insert(0, watch)
        pa.array([], pa.int64())  # looks for pandas, once in a process
        watch.denying = None


class _Watch(MetaPathFinder):
    """Finds no pandas for the thread that `put_off_pandas` runs in, while it does; for all others the one there is, and goes."""

    def __init__(self) -> None:
        self.denying: int | None = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "pandas":
            return None
        if self.denying == threading.get_ident():
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, self)
        return spec


class _Telling(Loader):
    """Loads pandas, and then has pyarrow look again."""

    def __init__(self, loader: Loader, watch: _Watch) -> None:
        self._loader, self._watch = loader, watch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader  # whoever asks for pandas' own files asks its own loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._watch in sys.meta_path:
            sys.meta_path.remove(self._watch)
        pa.nulls(0, pa.int64()).to_pandas()  # what cannot do without pandas asks for it again, and pyarrow remembers
