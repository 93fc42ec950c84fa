"""The accelerator check: parts fail alone, values are kept, every part runs on a CPU."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from experiments import make_tables, record_results
from experiments.speed import accelerator
from experiments.speed.accelerator_parts import record
from experiments.speed.accelerator_parts.parts import PARTS, Part, chosen, problems
from experiments.speed.accelerator_parts.settings import Settings, tiny

RUN_OF = {
    "commit": "0" * 40,
    "date": "2026-01-01",
    "command": "python experiments/speed/accelerator.py",
}
INJECTED = """
import os
import subprocess
import time

from experiments.speed.accelerator_parts.record import measured


def good(settings, clock):
    yield measured("speed", [3.0, 1.0, 2.0])


def breaks(settings, clock):
    yield measured("speed", 1.0)
    raise RuntimeError("the part broke")


def breaks_in_a_case(settings, clock):
    with clock.case("first"):
        raise RuntimeError("the case broke")
    with clock.case("second"):
        raise RuntimeError("RESOURCE_EXHAUSTED: no room")
    with clock.case("third"):
        yield measured("speed", 1.0)


def hangs(settings, clock):
    yield measured("speed", 1.0)
    with clock.case("compiling"):
        subprocess.run(["sleep", "100"])


def dies(settings, clock):
    os._exit(3)


def has_no_time(settings, clock):
    yield measured("speed", 1.0)
    with clock.case("long"):
        time.sleep(0.01)
    clock.deadline = time.time()
    assert not clock.has_time("longer")
"""


@pytest.fixture
def part(tmp_path, monkeypatch):
    """Parts whose functions are those of `INJECTED`."""
    (tmp_path / "injected_parts.py").write_text(INJECTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name, **fields: dataclasses.replace(
        Part("x", f"injected_parts:{name}", 10, (), (), ("speed",)), **fields
    )


def measure(parts, out, seconds=60.0):
    code = accelerator.measure(parts, Settings(), seconds, out, RUN_OF)
    return code, json.loads(out.read_text())


def test_parts_that_break_leave_the_others(part, tmp_path, capsys):
    names = ("breaks", "dies", "breaks_in_a_case", "has_no_time", "good")
    parts = {name: part(name) for name in names}
    parts["lacks"] = part("good", needs=("a_package_that_is_not_there",))
    code, content = measure(parts, tmp_path / "out.json")
    states = content["parts"]
    assert code == 1
    assert {name: state["status"] for name, state in states.items()} == {
        "breaks": "failed",
        "dies": "failed",
        "breaks_in_a_case": "failed",
        "has_no_time": "partial",
        "good": "done",
        "lacks": "skipped",
    }
    assert "the part broke" in states["breaks"]["reason"]
    assert states["lacks"]["reason"] == "needs a_package_that_is_not_there"
    assert states["dies"]["reason"] == "ended with 3 before it measured anything"
    assert states["has_no_time"]["missed"] == {"longer": "no time left"}
    missed = states["breaks_in_a_case"]["missed"]
    assert missed["first"] == "RuntimeError: the case broke"
    assert missed["second"].startswith("out of memory")
    values = {value["part"]: value["value"] for value in content["values"]}
    assert values == {"breaks": 1, "breaks_in_a_case": 1, "has_no_time": 1, "good": 2}
    assert "3 of 6 parts failed: breaks (RuntimeError" in capsys.readouterr().err


def test_a_part_that_hangs_is_killed_with_what_it_started(part, tmp_path, capsys):
    parts = {"hangs": part("hangs", seconds=1), "good": part("good", seconds=2)}
    begun = time.monotonic()
    code, content = measure(parts, tmp_path / "out.json", seconds=24.0)
    assert time.monotonic() - begun < 24
    assert code == 1
    assert content["parts"]["hangs"]["status"] == "failed"
    assert content["parts"]["hangs"]["reason"] == "killed after 8 s in compiling"
    assert content["parts"]["good"]["status"] == "done"
    assert [value["part"] for value in content["values"]] == ["hangs", "good"]
    assert "1 of 2 parts failed: hangs" in capsys.readouterr().err


def test_a_later_run_of_one_part_keeps_the_others(part, tmp_path):
    out = tmp_path / "out.json"
    first = {"one": part("good"), "two": part("good")}
    assert measure(first, out)[0] == 0
    later = RUN_OF | {"date": "2026-02-02", "commit": "1" * 40}
    accelerator.measure({"one": part("good")}, Settings(), 60, out, later)
    broken = {"two": part("dies")}
    assert accelerator.measure(broken, Settings(), 60, out, later) == 1
    content = json.loads(out.read_text())
    dates = {name: state["date"] for name, state in content["parts"].items()}
    assert dates == {"one": "2026-02-02", "two": "2026-01-01"}
    assert content["parts"]["two"]["commit"] == "0" * 40
    assert sorted(value["part"] for value in content["values"]) == ["one", "two"]
    assert record_results.to_json(content) == out.read_text()


def test_what_a_file_lacks_is_said():
    state = {"status": "done", "reason": "", "missed": {}}
    value = {"part": "steps", "quantity": "step / gradient", "value": 1.0, "batch": 4}
    found = problems({"parts": {"steps": state}, "values": [value, {"part": "else"}]})
    assert any("does not say its network" in problem for problem in found)
    assert any("has no step in scan / gradient" in problem for problem in found)
    assert any("is of no part" in problem for problem in found)
    silent = {"status": "failed", "reason": "", "missed": {}}
    assert problems({"parts": {"steps": silent}, "values": []})
    assert not problems({"parts": {"steps": state | {"status": "skipped"}}, "values": []})


def test_parts_are_chosen_by_letter_and_name():
    assert list(chosen(["g", "steps"])) == ["steps", "methods", "torch_methods"]
    assert {part.letter for part in PARTS.values()} == set("abcdefg")
    assert sum(part.seconds for part in PARTS.values()) == 480
    with pytest.raises(KeyError):
        chosen(["h"])


def test_settings_travel_as_text():
    for settings in (Settings(), tiny()):
        assert Settings.from_json(settings.to_json()) == settings


def test_the_interval_of_a_median_is_that_of_its_ranks():
    # of 15 samples the 4th and the 12th (binomial, 96.5 %); of few the range
    assert record.median_interval([float(i) for i in range(1, 16)]) == (4, 12)
    assert record.median_interval([1.0, 2.0, 3.0]) == (1, 3)


def test_the_page_says_what_was_measured_and_when(tmp_path, monkeypatch):
    monkeypatch.setattr(make_tables, "RESULTS", tmp_path)
    assert make_tables.parts_of("accelerator") == {}
    content = {"parts": {}, "values": []}
    for name in ("evaluations", "steps", "torch_methods"):
        found = {"status": "done", "reason": "", "seconds": 1.0, "missed": {"late": "-"}}
        found["about"] = {"device": "a card", "versions": {"jax": "0.11"}}
        what = dict.fromkeys(("network", "batch", *PARTS[name].properties), name)
        found["values"] = [
            what | {"quantity": quantity, "value": 2.5}
            for quantity in PARTS[name].quantities
        ]
        accelerator.merge(content, name, found, RUN_OF)
    assert not problems(content)
    (tmp_path / "accelerator.json").write_text(record_results.to_json(content))
    monkeypatch.setattr(
        make_tables, "load", lambda name: json.loads(path_of(name).read_text())
    )

    def path_of(name):
        folder = tmp_path if name == "accelerator" else record_results.RESULTS
        return folder / f"{name}.json"

    text = make_tables.blocks()["accelerator"]
    assert "step in scan / gradient" in text
    assert "a card, 2026-01-01, commit 0000000; not measured: late" in text
    assert "2.5" in text
    assert "Spearman" not in text
    assert "No accelerator" not in text


@pytest.mark.slow
def test_every_part_is_rehearsed_on_a_cpu(tmp_path, capfd):
    out = tmp_path / "out.json"
    assert accelerator.main(["--tiny", "--minutes", "30", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert list(content["parts"]) == list(PARTS)
    assert not problems(content)
    for name, state in content["parts"].items():
        expected = ("done", "skipped") if name.startswith("torch") else ("done",)
        assert state["status"] in expected, (name, state)
    assert "parts failed" not in capfd.readouterr().err
