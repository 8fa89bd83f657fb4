"""Compiling on the user's machine: once, safely, and with one clear error where it cannot be done."""

import ctypes
import multiprocessing
import shutil
import subprocess
import sys

import pytest

from eqff.errors import ResourceError
from eqff.kernels import build

SOURCE = 'extern "C" int answer() { return 42; }'
needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build._folder.cache_clear()
    yield tmp_path / "eqff" / "kernels"
    build._folder.cache_clear()


@needs_compiler
def test_compiles_once(empty_cache, monkeypatch):
    path = build.kernel_library("answer", SOURCE)
    assert ctypes.CDLL(str(path)).answer() == 42
    assert path.parent == empty_cache
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert build.kernel_library("answer", SOURCE) == path
    assert build.find_kernel(path.name) == path
    assert build.find_kernel("../" + path.name) == path  # a name, never a path out of the cache


@needs_compiler
def test_other_source_or_flags_make_another_library(empty_cache, monkeypatch):
    paths = {build.kernel_library("answer", SOURCE), build.kernel_library("answer", SOURCE + " ")}
    monkeypatch.setattr(build, "capability", lambda: "DEFAULT")
    paths.add(build.kernel_library("answer", SOURCE))
    assert len(paths) == 3


@needs_compiler
def test_another_place_of_the_package_makes_no_other_library(empty_cache, monkeypatch, tmp_path):
    path = build.kernel_library("answer", SOURCE)
    shutil.copy(build.FOLDER / "kernel.h", tmp_path / "kernel.h")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build.kernel_library("answer", SOURCE) == path
    (tmp_path / "kernel.h").write_text((tmp_path / "kernel.h").read_text() + "// changed\n")
    assert build.kernel_library("answer", SOURCE) != path


@needs_compiler
def test_processes_at_once(empty_cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = pool.starmap(build.kernel_library, [("answer", SOURCE)] * 4)
    assert len(set(paths)) == 1
    assert ctypes.CDLL(str(paths[0])).answer() == 42
    assert [file.suffix for file in empty_cache.glob("[!.]*")] == [".so"]


@needs_compiler
def test_what_does_not_compile_leaves_nothing(empty_cache):
    with pytest.raises(ResourceError, match=r"EQ6111: .* error"):
        build.kernel_library("broken", "int answer( {")
    assert not list(empty_cache.glob("*.so"))


def test_no_compiler(empty_cache, monkeypatch):
    monkeypatch.setattr(build, "compiler", lambda: None)
    with pytest.raises(ResourceError, match="EQ6110: no C\\+\\+ compiler found; install"):
        build.kernel_library("answer", SOURCE)
    assert build.operators_library(find_only=True) is None


@needs_compiler
def test_without_a_cache_of_its_own_it_uses_a_folder_of_this_process(tmp_path):
    code = f"from eqff.kernels import build; print(build.kernel_library('answer', {SOURCE!r}))"
    (tmp_path / "file").touch()
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file"), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "eqff-" in output.stdout
    assert subprocess.run(["test", "-e", output.stdout.strip()]).returncode == 1  # gone with the process
