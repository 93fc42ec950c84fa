"""Arrays from a stranger: what a file says that it holds, it must hold."""

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from mdm_jax import InputError
from mdm_jax.evaluation import saved_maps
from mdm_jax.storage import arrays
from mdm_jax.storage.map_store import MapStore
from mdm_jax.views.pages.scores import read_scores

ONE = np.zeros(1, int)


def array(shape, values=b"\0" * 64, descr="<f4"):
    """An .npy that says it is of this shape."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, header)
    return file.getvalue() + values


def archive(path, times=1, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            for number in range(times):
                file.writestr(f"{name}{number or ''}.npy", data)


LIES = {
    "large": array((10**11,)),
    "larger than numbers": array((2**62, 2**62)),
    "negative": array((-1, 4)),
    "nothing of much": array((10**11,), descr="|S0"),
    "objects": array((4,), descr="|O"),
    "cut": array((4, 4))[:60],
    "empty": b"",
    "no header": b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((   ",
    "another version": b"\x93NUMPY\x09\x00" + array((4,))[8:],
    "text": b"saliency,1,2,3",
}


@pytest.mark.parametrize("name", LIES)
def test_arrays_that_are_not_there(tmp_path, name):
    (tmp_path / "maps.npy").write_bytes(LIES[name])
    archive(tmp_path / "maps.npz", saliency=LIES[name], ids=LIES[name])
    for file in ("maps.npy", "maps.npz"):
        with pytest.raises(InputError, match=r"is damaged, or is no \.npz or \.npy"):
            saved_maps.read(tmp_path / file)
    with pytest.raises(InputError, match=r"is damaged .*: remove it to compute it again"):
        arrays.read_arrays(tmp_path / "maps.npz")
    (tmp_path / "maps.npz").rename(tmp_path / "scores.npz")
    assert "is damaged" in read_scores(tmp_path, ["a"], ONE, ONE)[1]


def test_a_bomb(tmp_path, monkeypatch):
    """Zeros are packed to a thousandth; real maps are read however small they are."""
    monkeypatch.setattr(arrays, "HARMLESS", 1 << 20)
    zeros = np.zeros((1000, 1000), np.float32)
    np.savez_compressed(tmp_path / "bomb.npz", saliency=zeros)
    with pytest.raises(InputError, match=r"its 4\d+ bytes would unpack to 4000128"):
        arrays.read_arrays(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "maps.npz", saliency=zeros[:100])
    assert arrays.read_arrays(tmp_path / "maps.npz")["saliency"].shape == (100, 1000)


def test_members_that_share_their_data(tmp_path):
    archive(tmp_path / "a.npz", times=50, saliency=array((64, 64), bytes(64 * 64 * 4)))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    # every entry of the list of members says that it begins where the first one does
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 20 : at + 24] = (len(data) // 2).to_bytes(4, "little")
        at = data.find(b"PK\x01\x02", at + 1)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(InputError, match="would unpack to"):
        arrays.read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("member", [b"no array", b""])
def test_members_that_are_no_arrays(tmp_path, member):
    archive(tmp_path / "a.npz", saliency=member)
    with pytest.raises(InputError, match="is damaged"):
        arrays.read_arrays(tmp_path / "a.npz")


def test_maps_that_do_not_belong_together(tmp_path):
    store = MapStore(tmp_path)
    ids = np.asarray(["a", "b"])
    store.add({"ids": ids, "saliency": np.zeros((2, 4, 4))})
    store.add({"ids": ids, "saliency": np.zeros((2, 5, 5))})
    with pytest.raises(InputError, match=r"saliency of several shapes: remove"):
        store.columns("ids", "saliency")
    (tmp_path / "maps-00001.npz").unlink()
    store.add({"saliency": np.zeros((2, 4, 4))})
    with pytest.raises(InputError, match=r"maps-00001\.npz lacks ids: remove"):
        store.columns("ids", "saliency")


@pytest.mark.parametrize("name", ["saliency", "ranking", "targets"])
def test_maps_of_text(tmp_path, name):
    columns = {"saliency": np.zeros((2, 4, 4)), "ids": np.asarray(["a", "b"])}
    text = np.full((2,) if name == "targets" else (2, 4, 4), "high")
    np.savez(tmp_path / "maps.npz", **(columns | {name: text}))
    with pytest.raises(InputError, match=f"holds {name} of U4: save numbers"):
        saved_maps.read(tmp_path / "maps.npz")
