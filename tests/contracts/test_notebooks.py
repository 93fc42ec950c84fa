"""The notebooks in colab/: stripped, tied to no machine, and run from top to bottom on small
settings."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "colab"
NOTEBOOKS = ("explain_your_photo", "dataset_on_tpu", "design_an_objective")
MACHINE = re.compile(r"/(work|tmp|home|root|opt|mnt|Users)\b|\.\./|https?://\w|index-url")
"""paths that exist on one machine alone, and hosts"""
SHELL = re.compile(
    r"^\s*(!|%%?(bash|sh|script|system|sx|cd)\b)|os\.system|subprocess", re.MULTILINE
)

AS_ON_A_TPU = """
import jax
from jax.sharding import AxisType
from mdm_jax.runs import compiled

whole = jax.make_mesh((jax.device_count(),), (compiled.DEVICES,), axis_types=(AxisType.Auto,))
compiled.device_groups = lambda: [whole]  # as on accelerators: one program over all devices
batches, call = [], compiled.DeviceProgram.__call__

def watched(program, questions):
    answer = call(program, questions)
    shards = answer.prediction.addressable_shards
    batches.append({shard.device.id: shard.data.shape[0] for shard in shards})
    return answer

compiled.DeviceProgram.__call__ = watched
"""
"""run by IPython before the notebook: a CPU's simulated devices become one team, and who computes
what is written down"""


def sources(notebook: Any, kind: str = "code") -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def ran(name: str, folder: Path, ending: str, *, before: str = "", flags: str = "") -> Any:
    """What a last cell, `ending`, finds after the notebook was run as it is; it leaves its findings
    in `found`."""
    notebook = read(name)
    notebook.cells.append(
        nbformat.v4.new_code_cell(f"import json\n{ending}\nprint(json.dumps(found))")
    )
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "before.py").write_text(before)
    environment = (
        os.environ
        | {
            "MDM_JAX_SMALL": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # what is compiled here runs for a second or two
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }
    )
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    assert not [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    return json.loads(notebook.cells[-1].outputs[0].text)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stripped_and_tied_to_no_machine(name):
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not MACHINE.search(cell.source)
        assert not SHELL.search(cell.source)
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    # no state of an editor: nothing but what Colab needs to choose its machine and language
    assert {*notebook.metadata} == {"accelerator", "colab", "kernelspec", "language_info"}


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NOTEBOOKS)
    for name in NOTEBOOKS:
        assert "MDM_JAX_SMALL" in sources(read(name))[1]


@pytest.mark.slow
def test_a_photo_is_explained(tmp_path):
    found = ran(
        "explain_your_photo",
        tmp_path,
        "digit = Digits('test')[0].mask\n"
        "found = {'low': float(one.saliency.min()), 'high': float(one.saliency.max()), 'chance':"
        " float(digit.mean()), 'answers': answers, 'before': before,\n"
        "         'energy': float(one.saliency[digit].sum() / one.saliency.sum()),\n"
        "         'methods': {name: each.saliency.shape[0] for name, each in found.items()},\n"
        "         'targets': len({*targets.tolist()})}",
    )
    assert 0 <= found["low"] < found["high"] <= 1
    assert found["energy"] > 5 * found["chance"]
    # sufficient under the fills that the masks were learned with, and as much elsewhere is not
    answers = found["answers"]
    for fill in ("blur", "mean"):
        assert answers["the masks"][fill] > 0.7 * found["before"] > answers["moved"][fill]
    assert found["methods"] == {"mdm": 3, "grad_cam": 3, "integrated_gradients": 3}
    assert found["targets"] == 3
    assert (tmp_path / "learning.gif").read_bytes()[:4] == b"GIF8"


@pytest.mark.slow
def test_a_data_set_is_explained_on_eight_devices(tmp_path):
    found = ran(
        "dataset_on_tpu",
        tmp_path,
        "from mdm_jax.data.network_input import evenly_spaced\n"
        "digits = [source[i].mask for i in evenly_spaced(len(source), LIMIT)]\n"
        "maps = run.saliency_of(range(len(run)))\n"
        "found = {'rows': len(run), 'faults': len(faults), 'before': ended.before, 'new':"
        " ended.rows, 'failed': ended.failed,\n"
        "         'batches': batches, 'chance': float(np.mean(digits)), 'pictures':"
        " sum(written.pictures),\n"
        "         'energy': float(np.mean([each[digit].sum() / each.sum() for each, digit in"
        " zip(maps, digits)]))}",
        before=AS_ON_A_TPU,
        flags="--xla_force_host_platform_device_count=8",
    )
    assert (found["rows"], found["faults"], found["failed"], found["pictures"]) == (
        32,
        0,
        0,
        32,
    )
    assert (found["before"], found["new"]) == (
        16,
        16,
    )  # interrupted after the first chunk, then gone on with
    assert len(found["batches"]) >= 32 / 8
    assert all(
        batch == {str(device): 1 for device in range(8)} for batch in found["batches"]
    )
    assert found["energy"] > 5 * found["chance"]
    assert (tmp_path / "report.zip").stat().st_size > 10_000


@pytest.mark.slow
def test_an_objective_is_swept(tmp_path):
    found = ran(
        "design_an_objective",
        tmp_path,
        "found = {'ranked': ranked, 'quality': tuned.quality(quality).tolist(), 'weight':"
        " points[ranked[0]][TERM],\n"
        "         'with_term': with_term, 'without': without, 'energy':"
        " fresh.values('energy').tolist(),\n"
        "         'chance': float(np.mean(truth)), 'preset': open('winner.toml').read()}",
    )
    quality = found["quality"]
    assert sorted(found["ranked"]) == list(range(len(quality)))
    assert quality[found["ranked"][0]] == max(quality) > min(quality)
    assert {found["with_term"], found["without"]} >= {found["ranked"][0]}
    assert found["with_term"] != found["without"]
    assert found["energy"][found["without"]] > 5 * found["chance"]
    assert f'"mine.py:scatter" = {float(found["weight"])}' in found["preset"]
