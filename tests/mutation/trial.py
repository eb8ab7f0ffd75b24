"""One mutant, in a forked process: the changed module is put in place of the real one, and the tests run until one fails."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import resource
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from tests.mutation.baseline import LAST, PYTEST, ROOT
from tests.mutation.mutants import Mutant, mutated

SURVIVED, KILLED = 0, 1
MEMORY_MAX_BYTES = 4 << 30
OPTIONS = [*PYTEST, "-W", "ignore::pytest.PytestAssertRewriteWarning"]
"""The plugins were loaded before the fork."""


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the one module that is changed."""

    def __init__(self, mutant: Mutant):
        self._path = ROOT / "src" / mutant.module
        self._name = mutant.module.removesuffix(".py").replace("/", ".")
        self._tree = mutated(self._path.read_text(encoding="utf-8"), mutant.number)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def run(mutant: Mutant | None, tests: list[str], cpu_s: int) -> None:
    """Never returns: ends the process with SURVIVED or KILLED, or is ended when its processor time is used up."""
    code = KILLED
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
        quiet = os.open(os.devnull, os.O_WRONLY)
        if not os.environ.get("MUTATION_SHOW"):
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
        if mutant is not None:
            sys.meta_path.insert(0, Changed(mutant))
        code = int(pytest.main([*OPTIONS, *tests, LAST]))
        if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
            # The change gave a test another name: that is no failure, so the whole files are run.
            files = sorted({one.partition("::")[0] for one in tests})
            code = int(pytest.main([*OPTIONS, *files, LAST]))
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(SURVIVED if code == 0 else KILLED)
