"""The user's cache is private, or it is not used."""

import os
import warnings
from pathlib import Path

import pytest

from eqff.cache import is_private_file, private_cache, user_folder
from eqff.errors import ConfigError

posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners of POSIX")


@pytest.mark.parametrize("relative", [".", "cache", "../cache", "~/.cache"])
def test_a_relative_folder_is_refused(monkeypatch, relative):
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    with pytest.raises(ConfigError, match="EQ1501") as caught:
        private_cache("verified")
    assert f"XDG_CACHE_HOME={relative!r}" in caught.value.message


def test_unset_and_empty_variables_mean_the_default(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert user_folder("XDG_DATA_HOME", ".local/share") == tmp_path / ".local/share"
    monkeypatch.setenv("XDG_DATA_HOME", "")
    assert user_folder("XDG_DATA_HOME", ".local/share") == tmp_path / ".local/share"


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
@pytest.mark.parametrize("level", ["eqff", "eqff/verified"])
def test_a_folder_that_others_could_write_is_not_used_and_not_changed(monkeypatch, tmp_path, mode, level):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert private_cache("verified") == tmp_path / "eqff" / "verified"
    planted = tmp_path / level / "planted"
    planted.write_text("")
    (tmp_path / level).chmod(mode)
    with pytest.warns(UserWarning, match="others can write to it"):
        assert private_cache("verified") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert private_cache("verified") is None  # the second time without a warning
    assert planted.exists()


@posix
def test_a_folder_of_someone_else_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    private_cache("verified")
    here = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: here + 1)
    with pytest.warns(UserWarning, match="others can write to it"):
        assert private_cache("verified") is None


@posix
@pytest.mark.parametrize(("mode", "private"), [(0o600, True), (0o755, True), (0o775, False), (0o606, False)])
def test_files_that_others_could_write_are_not_loaded(tmp_path, mode, private):
    file = tmp_path / "kernel.so"
    file.write_bytes(b"")
    file.chmod(mode)
    if private:
        assert is_private_file(file)
    else:
        with pytest.warns(UserWarning, match=r"kernel.so is not used"):
            assert not is_private_file(file)


def test_links_and_missing_files_are_not_loaded(tmp_path):
    file = tmp_path / "kernel.so"
    assert not is_private_file(file)
    file.write_bytes(b"")
    (tmp_path / "link.so").symlink_to(file)
    assert not is_private_file(tmp_path / "link.so")
