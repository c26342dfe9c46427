"""The table keeps every row's tokens, refuses what decoding could not walk, and comes back from disk as it was."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.errors import DamagedError, FingerprintError, FormatError, IdentifierError, ShapeError
from genrail.identifiers import IdentifierTable
from genrail.identifiers.several import SeveralIdentifiers

END = 0
bodies = st.lists(st.lists(st.integers(1, 30), max_size=6), max_size=12)
matrices = st.integers(1, 4).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 30), min_size=length, max_size=length), min_size=1, max_size=12)
)


@settings(deadline=None)
@given(bodies)
def test_ragged_table_gives_back_every_sequence(lists):
    sequences = [[*body, END] for body in lists]
    table = IdentifierTable.from_sequences(sequences, vocab_size=31, end_token=END)
    assert [table.sequence(row).tolist() for row in range(len(table))] == sequences
    assert table.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert table.length is None


@settings(deadline=None)
@given(matrices)
def test_fixed_table_gives_back_its_matrix(rows):
    table = IdentifierTable.from_matrix(np.array(rows))
    assert table.matrix().tolist() == rows
    assert table.length == len(rows[0])
    assert table.vocab_size == max(map(max, rows)) + 1


@settings(deadline=None)
@given(matrices)
def test_rows_of_and_groups_agree_with_plain_comparison(rows):
    table = IdentifierTable.from_matrix(np.array(rows))
    for row, codes in enumerate(rows):
        expected = [other for other, others in enumerate(rows) if others == codes]
        assert table.rows_of(codes).tolist() == expected
        assert np.flatnonzero(table.groups == table.groups[row]).tolist() == expected


@settings(deadline=None)
@given(bodies, bodies)
def test_extending_never_moves_an_existing_row(first, second):
    tables = [
        IdentifierTable.from_sequences([[*body, END] for body in part], vocab_size=31, end_token=END)
        for part in (first, second)
    ]
    both = tables[0].extend(tables[1])
    assert [both.sequence(row).tolist() for row in range(len(both))] == [[*body, END] for body in first + second]


def test_the_larger_vocabulary_wins_when_extending():
    small = IdentifierTable.from_matrix([[1, 2]], vocab_size=4)
    assert small.extend(IdentifierTable.from_matrix([[7, 0]], vocab_size=8)).vocab_size == 8


def test_a_table_cannot_be_changed():
    table = IdentifierTable.from_matrix([[1, 2]])
    with pytest.raises(ValueError, match="read-only"):
        table.tokens[0] = 3


def test_the_callers_array_stays_his_own():
    codes = np.array([[1, 2], [3, 4]], dtype=np.int32)
    table = IdentifierTable.from_matrix(codes)
    codes[0, 0] = 9
    assert table.sequence(0).tolist() == [1, 2]


def test_empty_table():
    empty = IdentifierTable.from_matrix(np.empty((0, 4), int), vocab_size=256)
    assert len(empty) == 0
    assert empty.matrix().shape == (0, 0)
    assert empty.rows_of([1, 2, 3, 4]).tolist() == []
    assert empty.extend(IdentifierTable.from_matrix([[1, 2]], 256)).matrix().tolist() == [[1, 2]]


def test_identifier_that_is_the_prefix_of_another_is_kept_apart_by_the_terminator():
    table = IdentifierTable.from_sequences([[5, END], [5, 6, END]], vocab_size=9, end_token=END)
    assert table.rows_of([5, END]).tolist() == [0]


@pytest.mark.parametrize(
    ("tokens", "offsets", "end_token", "error", "words"),
    [
        ([1, 2, 3], [0, 2, 3], None, ShapeError, "different lengths"),
        ([1, 2], [0, 2, 2], None, IdentifierError, "row 1 has an empty identifier"),
        ([1, 2], [0, 1], None, ShapeError, "offsets must rise"),
        ([1, 2], [1, 2], None, ShapeError, "offsets must rise"),
        ([1, 2], [], None, ShapeError, "offsets must rise"),
        ([1, 2, 1], [0, 2, 1, 3], None, ShapeError, "offsets must rise"),
        ([1, 9], [0, 1, 2], None, IdentifierError, "token 9 of row 1"),
        ([1, -1], [0, 1, 2], None, IdentifierError, "token -1 of row 1"),
        ([1, 2**40], [0, 1, 2], None, IdentifierError, "token 1099511627776 of row 1"),
        ([1, 2], [0, 2], 0, IdentifierError, "row 0 must end with the terminator 0"),
        ([0, 2, 0], [0, 3], 0, IdentifierError, "hold it nowhere else"),
        ([1.5], [0, 1], None, ShapeError, "must be integers"),
    ],
)
def test_what_no_trie_could_walk_is_refused(tokens, offsets, end_token, error, words):
    with pytest.raises(error, match=words):
        IdentifierTable(tokens, offsets, vocab_size=8, end_token=end_token)


def test_row_that_does_not_exist():
    with pytest.raises(IdentifierError, match="row 1 has no identifier"):
        IdentifierTable.from_matrix([[1]]).sequence(1)


def test_matrix_of_a_ragged_table_is_refused():
    with pytest.raises(IdentifierError, match="ragged"):
        IdentifierTable.from_sequences([[1, 0]], 2, end_token=0).matrix()


def test_tables_of_different_codebooks_do_not_mix():
    first = IdentifierTable.from_matrix([[1]], source="one")
    with pytest.raises(FingerprintError, match="'one'.*'two'"):
        first.extend(IdentifierTable.from_matrix([[1]], source="two"))


def test_tables_of_different_length_do_not_mix():
    with pytest.raises(ShapeError, match="same length"):
        IdentifierTable.from_matrix([[1]]).extend(IdentifierTable.from_matrix([[1, 2]]))


@pytest.mark.parametrize(
    "table",
    [
        IdentifierTable.from_matrix([[1, 2], [3, 0]], vocab_size=256, source="books"),
        IdentifierTable.from_sequences([[4, 5, 1], [1]], vocab_size=6, end_token=1),
        IdentifierTable.from_matrix(np.empty((0, 2), int), vocab_size=3),
    ],
    ids=["fixed", "ragged", "empty"],
)
def test_save_and_load(table, tmp_path):
    table.save(tmp_path)
    loaded = IdentifierTable.load(tmp_path)
    assert loaded == table
    assert hash(loaded) == hash(table)
    assert (loaded.vocab_size, loaded.end_token, loaded.source) == (table.vocab_size, table.end_token, table.source)
    assert np.array_equal(loaded.tokens, table.tokens)


def test_the_fingerprint_sees_every_part():
    tables = [
        IdentifierTable.from_matrix([[1, 2]], 8),
        IdentifierTable.from_matrix([[1, 3]], 8),
        IdentifierTable.from_matrix([[1], [2]], 8),
        IdentifierTable.from_matrix([[1, 2]], 9),
        IdentifierTable.from_matrix([[1, 2]], 8, source="s"),
        IdentifierTable.from_sequences([[1, 2]], 8, end_token=2),
    ]
    assert len({table.fingerprint for table in tables}) == len(tables)


@pytest.fixture
def folder(tmp_path):
    IdentifierTable.from_matrix([[1, 2], [3, 0]], vocab_size=256).save(tmp_path)
    return tmp_path


def test_one_flipped_byte_is_found(folder):
    path = folder / "identifiers.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedError, match=r"identifiers\.tokens\.npy is truncated or altered"):
        IdentifierTable.load(folder)


def test_a_missing_file_is_named(folder):
    (folder / "identifiers.offsets.npy").unlink()
    with pytest.raises(DamagedError, match=r"identifiers\.offsets\.npy is missing"):
        IdentifierTable.load(folder)
    with pytest.raises(DamagedError, match=r"identifiers\.json is missing"):
        IdentifierTable.load(folder / "nowhere")


def _edit(folder, **changes):
    path = folder / "identifiers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_format_is_refused(folder):
    _edit(folder, format_version=99)
    with pytest.raises(FormatError, match="newer genrail"):
        IdentifierTable.load(folder)


def test_a_foreign_page_is_refused(folder):
    _edit(folder, kind="something.else")
    with pytest.raises(FormatError, match="something.else"):
        IdentifierTable.load(folder)
    (folder / "identifiers.json").write_text("[]")
    with pytest.raises(FormatError, match="not a page of genrail"):
        IdentifierTable.load(folder)
    (folder / "identifiers.json").write_text("{")
    with pytest.raises(DamagedError, match="not JSON"):
        IdentifierTable.load(folder)


def test_a_page_that_points_outside_the_folder_is_refused(folder):
    _edit(folder, arrays={"tokens": {"file": "../tokens.npy", "sha256": ""}})
    with pytest.raises(FormatError, match="not plainly inside"):
        IdentifierTable.load(folder)


def test_a_page_whose_values_do_not_fit_is_refused(folder):
    _edit(folder, details={"vocab_size": 2, "end_token": None, "source": ""})
    with pytest.raises(DamagedError, match="token 2 of row 0"):
        IdentifierTable.load(folder)
    _edit(folder, details={"vocab_size": 256})
    with pytest.raises(FormatError, match="lacks"):
        IdentifierTable.load(folder)


def test_tables_of_one_and_of_several_identifiers_have_one_protocol():
    one = IdentifierTable.from_sequences([[5, 0], [6, 7, 0], [8, 0]], vocab_size=9, end_token=0, source="s")
    several = SeveralIdentifiers(one, [0, 2, 3])
    for table, owners in ((one, [0, 1, 2]), (several, [0, 0, 1])):
        assert table.owners.tolist() == owners and np.array_equal(table.tokens, one.tokens)
        for row in range(len(table)):
            own = [one.sequence(place).tolist() for place in np.flatnonzero(table.owners == row)]
            assert [each.tolist() for each in table.sequences(row)] == own
            assert table.sequence(row).tolist() == table.leading.sequence(row).tolist() == own[0]
        first, rest = table.part(range(0, 1)), table.part(range(1, len(table)))
        assert first.extend(rest) == table and len(table.part(range(1, 1))) == 0
