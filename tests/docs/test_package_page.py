"""What a built package says of the project: addresses from one place, and links that lead on."""

from __future__ import annotations

import re
import tomllib

import pytest

import hatch_build
from experiments.make_tables import ROOT
from hatch_build import project_urls, read_repository, with_absolute_links

README = (ROOT / "README.md").read_text()
REPOSITORY = "https://forge.example/owner/name"
TARGET = re.compile(r"\]\(([^)]+)\)")

PAGE = """# Title

![A picture of two](docs/a.png)

*Its caption, with `code` and
a second line.*

![A picture alone](docs/b.png)

See [a page](docs/a.md#part), [elsewhere](https://other.example/x) and [above](#title).
"""


def test_links_are_absolute():
    text = with_absolute_links(PAGE, REPOSITORY)
    assert TARGET.findall(text) == [
        f"{REPOSITORY}/raw/main/docs/a.png",
        f"{REPOSITORY}/raw/main/docs/b.png",
        f"{REPOSITORY}/blob/main/docs/a.md#part",
        "https://other.example/x",
        "#title",
    ]
    assert "*Its caption, with `code` and\na second line.*" in text


def test_without_an_address_nothing_leads_nowhere():
    assert with_absolute_links(PAGE, "") == (
        "# Title\n\nSee a page, [elsewhere](https://other.example/x) and [above](#title).\n"
    )


@pytest.mark.parametrize("repository", ["", REPOSITORY])
def test_the_readme_of_the_package(repository):
    text = with_absolute_links(README, repository)
    assert all(target.startswith("https://") for target in TARGET.findall(text))
    # Images lead to files that are there.
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(images) == (README.count("![") if repository else 0)
    for image in images:
        assert (ROOT / image.removeprefix(f"{repository}/raw/main/")).exists()
    # Code stays as it is.
    blocks = re.compile(r"```.*?```", re.DOTALL)
    assert blocks.findall(text) == blocks.findall(README) != []


def test_addresses_come_from_one_place(tmp_path):
    def read(repository):
        text = f'[tool.mdm_jax]\nrepository = "{repository}"\n'
        (tmp_path / "pyproject.toml").write_text(text)
        return read_repository(tmp_path)

    assert project_urls(read("")) == {}
    urls = project_urls(read(f"{REPOSITORY}/"))
    assert {"Repository", "Documentation", "Changelog", "Issues"} == set(urls)
    for address in urls.values():
        assert address.startswith(REPOSITORY)
        file = address.partition(f"/blob/{hatch_build.BRANCH}/")[2]
        assert not file or (ROOT / file).exists()
    with pytest.raises(ValueError, match="give an address that begins with https://"):
        read("OWNER/REPOSITORY")


def test_extras_build_on_each_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert "mdm_jax[data,tensorboard,view]" in extras["all"]
    assert "mdm_jax[all]" in extras["dev"]
    core = {re.match(r"[\w-]+", each)[0] for each in project["dependencies"]}
    data = {re.match(r"[\w-]+", each)[0] for each in extras["data"]}
    assert not core & data
