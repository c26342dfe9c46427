"""A folder whose seal is right and whose content is not is refused by its name: checksums keep nobody from lying."""

import json
import struct
from io import BytesIO

import numpy as np
import pytest
from typer.testing import CliRunner

from genrail.cli.main import app
from genrail.engine import load
from genrail.errors import DamagedError, FormatError, StorageError
from genrail.storage import open_version, publish
from tests.serving.clients import own_engine


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines") / "shop.genrail"
    own_engine().save(folder)
    return open_version(folder)


def sealed(tmp_path, whole, details=None, change=lambda name, data: data):
    """Publish the content of an engine with other details or other bytes, properly sealed."""

    def write(path):
        for name in whole.files:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(change(name, (whole.path / name).read_bytes()))

    folder = tmp_path / "odd.genrail"
    publish(folder, write, details=whole.details if details is None else details)
    return folder


def refused(folder):
    """By name, in one sentence, from Python and from the command line."""
    with pytest.raises((DamagedError, FormatError, StorageError), match=r"odd\.genrail"):
        load(folder)
    said = CliRunner().invoke(app, ["search", str(folder), "boot"])
    assert said.exit_code in (1, 2) and "Traceback" not in said.output
    assert not isinstance(said.exception, KeyError | TypeError | ValueError | MemoryError), said.exception


def finder(**values):
    """Change what the finder saved of itself; None takes a value away."""

    def change(details):
        changed = {**details["finder"], **values}
        return {**details, "finder": {name: value for name, value in changed.items() if value is not None}}

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda details: {}, id="nothing"),
        pytest.param(lambda details: {**details, "finder": {}}, id="no finder"),
        pytest.param(lambda details: {**details, "finder": 5}, id="a number for a finder"),
        pytest.param(lambda details: {key: value for key, value in details.items() if key != "catalog"}, id="no print"),
        pytest.param(finder(kind="telepathy"), id="another kind"),
        pytest.param(finder(kind=["native"]), id="a list for a kind"),
        pytest.param(finder(beam={"widht": 3}), id="an unknown setting"),
        pytest.param(finder(beam=None), id="no beam"),
        pytest.param(finder(beam={"width": "many"}), id="a word for a number"),
        pytest.param(finder(identifiers=None), id="no identifiers"),
    ],
)
def test_a_sealed_folder_with_unknown_or_empty_details_is_refused_by_name(tmp_path, whole, change):
    refused(sealed(tmp_path, whole, change(whole.details)))


def npy(shape, descr="'<i4'"):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


def pickled():
    made = BytesIO()
    np.save(made, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return made.getvalue()


ARRAYS = {
    "more than there is": npy((2**40,)),
    "less than nothing": npy((-5,)),
    "too many dimensions": npy((1,) * 70),
    "a product that overflows": npy((2**33, 2**33)),
    "objects": pickled(),
    "a type that is code": npy((4,), "__import__('os')"),
    "nothing": b"",
    "words": b"these are words",
    "a header without end": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_whose_headers_lie_are_refused_by_name(tmp_path, whole, name):
    arrays = sorted(file for file in whole.files if file.endswith(".npy"))
    assert arrays
    for number, chosen in enumerate((arrays[0], arrays[-1])):
        place = tmp_path / str(number)
        place.mkdir()
        refused(sealed(place, whole, change=lambda file, data, chosen=chosen: ARRAYS[name] if file == chosen else data))


def tensors(**header):
    page = json.dumps(header).encode()
    return struct.pack("<Q", len(page)) + page + bytes(16)


TENSORS = {
    "a length beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "more than there is": tensors(a={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
    "offsets that run backwards": tensors(a={"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}),
    "a type nobody knows": tensors(a={"dtype": "X99", "shape": [4], "data_offsets": [0, 16]}),
    "other tensors": tensors(a={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}),
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "nothing": b"",
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_whose_headers_lie_are_refused_by_name(tmp_path, whole, name):
    assert any(file.endswith(".safetensors") for file in whole.files)
    refused(sealed(tmp_path, whole, change=lambda file, data: TENSORS[name] if file.endswith(".safetensors") else data))
