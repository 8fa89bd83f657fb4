import hashlib
import io
import json
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eqff.data.published import download
from eqff.data.published.catalogue import DATA_SETS, RemoteFile
from eqff.data.published.download import fetch, unpack
from eqff.digest import file_sha256
from eqff.errors import DataError, ResourceError
from eqff.files import locked

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/good, /dead, /busy, /page, /breaks (half of what is asked each time), /untagged (the same, without ETag)."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        if self.path == "/dead":
            self.send_error(404)
            return
        if self.path in ("/busy", "/page"):
            self.send_response(202 if self.path == "/busy" else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>")
            return
        content, start = self.server.content, 0
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.headers.get("Range") and self.headers.get("If-Range") == tag:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.path != "/untagged":
            self.send_header("ETag", tag)
        self.end_headers()
        stop = start + (len(content) - start + 1) // 2 if self.path in ("/breaks", "/untagged") else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine; `asked` are its requests."""
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.content = [], CONTENT
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server, *paths, **more) -> RemoteFile:
    urls = tuple(f"http://127.0.0.1:{server.server_address[1]}{path}" for path in paths)
    return RemoteFile(name="a.npz", urls=urls, **more)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_and_what_is_kept_of_it(server, tmp_path):
    steps = []
    about = {"licence": "CC0", "citation": "Somebody (2020)"}
    found = fetch(remote(server, "/good"), tmp_path / "new", about=about, progress=lambda *step: steps.append(step))
    assert found.path.read_bytes() == CONTENT
    assert (found.sha256, found.known, found.new) == (DIGEST, False, True)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert names(tmp_path / "new") == ["a.npz", "a.npz.source.json"]
    record = json.loads((tmp_path / "new" / "a.npz.source.json").read_text())
    assert record["sha256"] == DIGEST
    assert record["licence"] == "CC0"
    assert record["source"].endswith("/good")
    again = fetch(remote(server, "/good"), tmp_path / "new")
    assert (again.known, again.new) == (True, False)
    assert len(server.asked) == 1


def test_the_next_mirror_is_tried(server, tmp_path):
    found = fetch(remote(server, "/dead", "/busy", "/page", "/good", sha256=DIGEST), tmp_path)
    assert found.path.read_bytes() == CONTENT
    assert found.known
    assert [path for path, _ in server.asked] == ["/dead", *3 * ["/busy"], *3 * ["/page"], "/good"]


def test_what_broke_off_is_continued(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "BYTES", 1000)
    with pytest.raises(ResourceError, match=r"EQ6191.*broke off after.*--from-file"):
        fetch(remote(server, "/breaks"), tmp_path)
    half, three_quarters = len(CONTENT) // 2, len(CONTENT) - len(CONTENT) // 4
    assert [asked for _, asked in server.asked] == [None, f"bytes={half}-"]
    assert (tmp_path / "a.npz.part").read_bytes() == CONTENT[:three_quarters]
    monkeypatch.setattr(download, "TRIES", 30)  # each brings half of what is missing
    found = fetch(remote(server, "/dead", "/breaks"), tmp_path)
    assert found.path.read_bytes() == CONTENT
    assert server.asked[2] == ("/breaks", f"bytes={three_quarters}-")  # where it came from goes first
    assert names(tmp_path) == ["a.npz", "a.npz.source.json"]


def test_a_file_that_changed_meanwhile_is_begun_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(ResourceError):
        fetch(remote(server, "/breaks"), tmp_path)
    server.content = CONTENT[::-1]
    monkeypatch.setattr(download, "TRIES", 40)
    assert fetch(remote(server, "/breaks"), tmp_path).path.read_bytes() == CONTENT[::-1]


def test_without_a_tag_and_from_another_mirror_nothing_is_continued(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    assert fetch(remote(server, "/untagged", "/good"), tmp_path).path.read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, None, None]


def test_wrong_contents_are_refused(server, tmp_path):
    with pytest.raises(DataError, match=r"EQ3341.*the one known is"):
        fetch(remote(server, "/good", sha256="0" * 64), tmp_path)
    assert names(tmp_path) == []
    fetch(remote(server, "/good"), tmp_path)
    (tmp_path / "a.npz").unlink()
    server.content = CONTENT[:-1]
    with pytest.raises(DataError, match=r"EQ3341.*of the first download"):
        fetch(remote(server, "/good"), tmp_path)
    assert not (tmp_path / "a.npz").exists()
    assert fetch(remote(server, "/good"), tmp_path, force=True).path.read_bytes() == CONTENT[:-1]
    with pytest.raises(DataError, match="EQ3341"):
        fetch(remote(server, "/good", sha256=DIGEST), tmp_path, force=True)  # a known one cannot be overruled
    assert (tmp_path / "a.npz").read_bytes() == CONTENT[:-1]


def test_files_of_the_user_are_left_alone(server, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"EQ3340.*nothing is recorded.*--force"):
        fetch(remote(server, "/good"), tmp_path)
    with pytest.raises(DataError, match=r"EQ3340.*its SHA-256 is not"):
        fetch(remote(server, "/good", sha256=DIGEST), tmp_path)
    assert (tmp_path / "a.npz").read_bytes() == b"mine"
    assert fetch(remote(server, "/good"), tmp_path, force=True).sha256 == DIGEST


def test_from_a_file_without_network(tmp_path):
    (tmp_path / "stick.npz").write_bytes(CONTENT)
    nowhere = RemoteFile(name="a.npz", urls=("http://127.0.0.1:9/a",), sha256=DIGEST)
    found = fetch(nowhere, tmp_path / "data", from_file=tmp_path / "stick.npz")
    assert found.path.read_bytes() == CONTENT
    assert found.source.endswith("stick.npz")
    with pytest.raises(DataError, match="EQ3342"):
        fetch(nowhere, tmp_path / "other", from_file=tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="EQ3341"):
        fetch(replace(nowhere, sha256="1" * 64), tmp_path / "other", from_file=tmp_path / "stick.npz")


def test_no_mirror_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with pytest.raises(ResourceError, match=r"EQ6191.*127.0.0.1:9"):
        fetch(RemoteFile(name="a.npz", urls=("http://127.0.0.1:9/a",)), tmp_path)
    assert names(tmp_path) == []


def test_one_at_a_time(server, tmp_path):
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(tmp_path / "a.npz"):
            held.set()
            done.wait()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    try:
        with pytest.raises(ResourceError, match="EQ6131"):
            fetch(remote(server, "/good"), tmp_path)
    finally:
        done.set()
        other.join()


def test_archives(tmp_path):
    members = {
        "set/npz/a.npz": b"A",
        "set/b.csv": b"B",
        "set/readme.txt": b"C",
        "../../evil.npz": b"E",
        "x/._a.npz": b"M",
    }
    with tarfile.open(tmp_path / "a.tar.bz2", "w:bz2") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("set/link.npz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    for archive in ("a.tar.bz2", "a.zip"):
        folder = tmp_path / f"out {archive}"
        folder.mkdir()
        (folder / "b.csv").write_bytes(b"mine")
        written = unpack(tmp_path / archive, (".npz", ".csv"), folder)
        assert {path.name: path.read_bytes() for path in written} == {"a.npz": b"A", "b.csv": b"mine", "evil.npz": b"E"}
        assert all(path.parent == folder for path in written)
        unpack(tmp_path / archive, (".csv",), folder, force=True)
        assert (folder / "b.csv").read_bytes() == b"B"
        with pytest.raises(DataError, match=r"EQ3346.*\.h5"):
            unpack(tmp_path / archive, (".h5",), folder)
        damaged = (tmp_path / archive).read_bytes()[:60]
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(DataError, match="EQ3345"):
            unpack(tmp_path / "damaged", (".npz",), folder)


def test_the_catalogue_is_complete():
    for name, one in DATA_SETS.items():
        assert name == name.lower()
        assert one.licence, name
        assert "doi:" in one.citation, name
        assert one.page.startswith("http")
        for file in one.files:
            assert file.urls, name
            assert all(url.startswith(("https://", "http://www.quantum-machine.org/")) for url in file.urls)
            assert file.sha256 is None or len(file.sha256) == 64
    assert {"rmd17-ethanol", "md17-aspirin", "md22-at-at", "ccsd-ethanol", "3bpa", "qm9"} <= set(DATA_SETS)


def test_known_digests_are_those_of_the_files(shared_data):
    for file in DATA_SETS["3bpa"].files:
        path = shared_data / "3bpa" / file.name
        assert (file.sha256 is not None) == path.exists()
        assert file.sha256 is None or file_sha256(path) == file.sha256
