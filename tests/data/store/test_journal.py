import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqff.data.store.journal import JournaledFile, journal_path, pending, recover
from eqff.errors import DataError

IDENTITY = (3, b"0123456789abcdef")
BEFORE = b"xyz" + IDENTITY[1] + b"." * 10000

WRITES = st.lists(st.tuples(st.integers(0, 14000), st.binary(min_size=1, max_size=5000)), min_size=1, max_size=5)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.bin").write_bytes(BEFORE)
    return tmp_path / "a.bin"


def write_all(file, writes):
    for offset, data in writes:
        file.seek(offset)
        assert file.write(data) == len(data)


def expected(writes):
    """What a plain file would hold."""
    content = bytearray(BEFORE)
    for offset, data in writes:
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data
    return bytes(content)


def content(file):
    file.seek(0)
    return file.read()


@settings(max_examples=30, deadline=None)
@given(first=WRITES, second=WRITES)
def test_it_is_a_file_whose_changes_come_by_commit(first, second, tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "a.bin"
    path.write_bytes(BEFORE)
    file = JournaledFile(path, IDENTITY)
    write_all(file, first)
    assert content(file) == expected(first)
    assert path.read_bytes() == BEFORE
    file.commit()
    assert path.read_bytes() == expected(first)
    write_all(file, second)
    assert content(file) == expected(first + second)
    file.close()
    assert path.read_bytes() == expected(first)  # what was not committed is gone
    assert os.listdir(path.parent) == ["a.bin"]


def test_truncate_cuts_and_reading_stops_at_the_end(path):
    file = JournaledFile(path, IDENTITY)
    file.truncate(50)
    assert content(file) == BEFORE[:50]
    file.seek(-3, os.SEEK_END)
    file.write(b"abcdef")
    assert file.tell() == 53
    assert content(file) == BEFORE[:47] + b"abcdef"
    file.commit()
    file.close()
    assert path.read_bytes() == BEFORE[:47] + b"abcdef"


def journal_of(path, writes):
    """The journal of a step whose writer died before the file was touched."""
    file = JournaledFile(path, IDENTITY)
    write_all(file, writes)
    truncate, os.truncate = os.truncate, lambda *arguments: None
    try:
        file.commit()
    finally:
        os.truncate = truncate
    file.close()
    after = path.read_bytes()
    path.write_bytes(BEFORE)
    return journal_path(path).read_bytes(), after


WRITTEN = [(4090, b"A" * 20), (9000, b"B" * 9000), (10, b"C" * 3)]


def test_a_complete_journal_is_replayed_over_any_part_of_its_step(path):
    journal, after = journal_of(path, WRITTEN)
    assert after == expected(WRITTEN)
    for done in (0, 1, 4095, 4100, 12000, len(after)):
        path.write_bytes(after[:done] + BEFORE[done:])  # so much of the step had reached the file
        if path.read_bytes()[3:19] != IDENTITY[1]:
            continue
        journal_path(path).write_bytes(journal)
        assert pending(path)
        assert recover(path)
        assert path.read_bytes() == after
        assert not journal_path(path).exists()
    assert not recover(path)


def test_a_journal_that_is_not_complete_is_dropped(path):
    journal, _ = journal_of(path, [(4090, b"A" * 20)])
    for length in (0, 1, 40, 90, len(journal) // 2, len(journal) - 1):
        journal_path(path).write_bytes(journal[:length])
        assert not recover(path)
        assert path.read_bytes() == BEFORE
        assert not journal_path(path).exists()


def test_every_flipped_bit_makes_a_journal_worthless(path):
    journal, _ = journal_of(path, [(4090, b"A" * 20)])
    for place in [*range(0, 120), *range(120, len(journal), 97)]:
        damaged = bytearray(journal)
        damaged[place] ^= 4
        journal_path(path).write_bytes(damaged)
        assert not recover(path)
    assert path.read_bytes() == BEFORE


def test_the_journal_of_another_file_is_not_replayed(path):
    journal, _ = journal_of(path, [(4090, b"A" * 20)])
    other = b"xyz" + b"f" * 16 + BEFORE[19:]
    path.write_bytes(other)
    journal_path(path).write_bytes(journal)
    assert not recover(path)
    assert path.read_bytes() == other


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_cannot_be_written_says_so(path):
    journal, _ = journal_of(path, [(4090, b"A" * 20)])
    journal_path(path).write_bytes(journal)
    path.chmod(0o400)
    with pytest.raises(DataError, match="EQ3301"):
        recover(path)
