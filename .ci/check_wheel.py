"""Builds the wheel and uses it as a stranger does, outside of the repository.

    .venv/bin/python .ci/check_wheel.py            # about a minute: .ci/run
    python3.13 .ci/check_wheel.py --install        # minutes: make wheel PYTHON=python3.13

Both look at what the wheel says of itself, install it into an empty environment, import every
module, run the Python code of the README, and run `mdm demo`. They differ in where its dependencies
come from. With `--install`, pip fetches them as for any user, and the wheel is kept in dist/.
Without it they are linked from the environment that runs this script, and only those that the wheel
asks for: a package that is imported and not declared is found, while one that cannot be fetched is
not.
"""

from __future__ import annotations

import argparse
import email.message
import email.policy
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRA_MODULES = {
    "mdm_jax.data.tfds": "data",
    "mdm_jax.data.tfds_builder": "data",
    "mdm_jax.views.live.controls": "view",
    "mdm_jax.views.live.page": "view",
}
"""modules that need an extra"""

IMPORT_EVERYTHING = f"""
import importlib, pkgutil, sys, mdm_jax

assert mdm_jax.__file__.startswith(sys.prefix), mdm_jax.__file__
for module in pkgutil.walk_packages(mdm_jax.__path__, "mdm_jax."):
    if module.name in {set(EXTRA_MODULES)} or module.name == "mdm_jax.__main__":
        continue
    importlib.import_module(module.name)
"""

# What the README's reader has: a network and images.
BEFORE_README = """
import jax.numpy as jnp
import numpy as np

def predict(images):
    return 8.0 * jnp.stack([images[:, :8].mean((1, 2, 3)), images[:, 8:].mean((1, 2, 3))], axis=-1)

images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype(np.float32)
"""


def say(text: str) -> None:
    print(f"wheel: {text}", flush=True)


def run(*command: str | Path, place: Path = ROOT) -> str:
    """The output of a command, whose environment names nothing of ours. Ends where it fails."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"MDM_JAX_COMPILE_CACHE": "off", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"{done.stdout}{done.stderr}\nwheel: failed: {command[0]} {command[1]} ..."
        )
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, built by hatchling where it is installed, and else in an environment of pip's."""
    options = [
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "--wheel-dir",
        str(folder),
    ]
    try:
        metadata.version("hatchling")
        options.append("--no-build-isolation")
    except metadata.PackageNotFoundError:
        pass
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def read_metadata(wheel: Path) -> email.message.EmailMessage:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        text = archive.read(name).decode()
    message = email.message_from_string(text, policy=email.policy.HTTP)
    assert isinstance(message, email.message.EmailMessage)
    return message


def check_contents(wheel: Path) -> None:
    """What the wheel says of itself and holds."""
    said = read_metadata(wheel)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    repository = project["tool"]["mdm_jax"]["repository"]
    assert said["Author"] == project["project"]["authors"][0]["name"]
    assert said["License-Expression"] == "Apache-2.0"
    assert said["License-File"] == "LICENSE"
    assert said.get_all("Classifier") == sorted(project["project"]["classifiers"])
    addresses = [line.split(", ")[1] for line in said.get_all("Project-URL", [])]
    assert bool(addresses) == bool(repository)
    assert all(address.startswith(repository) for address in addresses)
    readme = (
        said.get_content()
        if said.get_content_type() == "text/plain"
        else said.get_payload()
    )
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert target.startswith("https://"), f"the readme of the wheel links to {target}"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mdm_jax"}
    assert "mdm_jax/py.typed" in names
    # A stray weight or picture shows here first.
    megabytes = wheel.stat().st_size / 2**20
    assert megabytes < 8, f"the wheel has {megabytes:.1f} MB"
    say(f"{wheel.name}, {len(names)} files, {megabytes:.1f} MB")


def needed_distributions(wheel: Path) -> list[metadata.Distribution]:
    """The installed distributions that the wheel asks for, and those that they ask for."""
    from packaging.requirements import Requirement

    todo = [Requirement(line) for line in read_metadata(wheel).get_all("Requires-Dist", [])]
    seen: set[tuple[str, str]] = set()
    found: dict[str, metadata.Distribution] = {}
    # what stands behind `extra ==` holds for extras that are asked for; "" is none
    todo = [need for need in todo if _holds(need, "")]
    while todo:
        need = todo.pop()
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        for extra in {"", *need.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found[name] = metadata.distribution(need.name)
            if not need.specifier.contains(found[name].version, prereleases=True):
                sys.exit(f"wheel: {need} is asked for, {found[name].version} is installed")
            asked = map(Requirement, found[name].requires or ())
            todo += [each for each in asked if _holds(each, extra)]
    return list(found.values())


def _holds(need, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def link_packages(distributions: list[metadata.Distribution], folder: Path) -> None:
    """Their files, also in `folder`: hard links, which cost no time and no space."""
    for distribution in distributions:
        for file in distribution.files or ():
            if ".." in file.parts:
                continue  # a program, of which the wheel needs none
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.locate(), place)
            except FileExistsError:
                pass  # folders of several distributions
            except OSError:
                shutil.copy2(file.locate(), place)


def install(wheel: Path, environment: Path, fetch: bool) -> Path:
    """A new environment with the wheel; its folder of programs."""
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    programs = environment / "bin"
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        programs / "python",
        "install",
        "--quiet",
    )
    if fetch:
        say("pip fetches its dependencies, which takes a minute or more")
        run(*pip, "--constraint", ROOT / "constraints.txt", wheel)
        return programs
    (packages,) = environment.glob("lib/python*/site-packages")
    distributions = needed_distributions(wheel)
    link_packages(distributions, packages)
    run(*pip, "--no-deps", "--no-index", wheel)
    say(f"{len(distributions)} packages that it asks for, linked from {sys.prefix}")
    return programs


def use(programs: Path, place: Path) -> None:
    """What a user does first, in a folder of their own."""
    place.mkdir()
    python = programs / "python"
    version = run(programs / "mdm", "--version", place=place).strip()
    run(python, "-c", IMPORT_EVERYTHING, place=place)
    say(f"version {version}: every module is imported")
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    run(python, "-c", "\n".join([BEFORE_README, *blocks]), place=place)
    say(f"the code of the README runs ({len(blocks)} block)")
    table = run(programs / "mdm", "demo", place=place)
    for name in ("demo.png", "learning.gif", "results.json"):
        assert (place / "mdm-demo" / name).stat().st_size > 1000, name
    energy = float(re.search(r"energy inside the digit\s+([\d.]+)", table)[1])
    assert energy > 0.3, table
    say(f"mdm demo: mean energy inside the digit {energy}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--install", action="store_true", help="let pip fetch the dependencies"
    )
    fetch = parser.parse_args().install
    # Links are made within one file system, so the folder is in the repository; git ignores it.
    (ROOT / "build").mkdir(exist_ok=True)
    say(f"Python {sys.version.split()[0]}")
    inside = tempfile.TemporaryDirectory(dir=ROOT / "build")
    outside = tempfile.TemporaryDirectory()
    with inside, outside:
        wheel = build(Path(inside.name))
        check_contents(wheel)
        programs = install(wheel, Path(inside.name) / "environment", fetch)
        use(programs, Path(outside.name) / "user")
        if fetch:
            (ROOT / "dist").mkdir(exist_ok=True)
            shutil.copy2(wheel, ROOT / "dist")
            say(f"it is in dist/{wheel.name}")


if __name__ == "__main__":
    main()
