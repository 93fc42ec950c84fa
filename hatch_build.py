"""What a built package says of the project beside pyproject.toml: its addresses, and the readme.

hatchling calls `ProjectPage` for every build. Every address comes from one line of pyproject.toml,
`repository` in [tool.mdm_jax]. Where it is empty the project is published nowhere, and the package
has no addresses and no links into the repository, rather than links that lead nowhere.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

BRANCH = "main"
ELSEWHERE = ("http://", "https://", "#", "mailto:")

# An image on a line of its own; below it perhaps its caption, a paragraph in italics.
IMAGE = re.compile(
    r"^!\[(?P<text>[^\]]*)\]\((?P<target>[^)]+)\)\n\n(?P<caption>\*[^*\n][^*]*\*\n\n)?",
    re.MULTILINE,
)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)]+)\)")


class ProjectPage(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        repository = read_repository(root)
        readme = (root / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_absolute_links(readme, repository),
        }
        metadata["urls"] = project_urls(repository)


def read_repository(root: Path) -> str:
    """The address of the repository, perhaps empty. Raises ValueError for what is no address."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    repository = project["tool"]["mdm_jax"]["repository"].rstrip("/")
    if repository and not repository.startswith("https://"):
        raise ValueError(
            f"repository in [tool.mdm_jax] is {repository!r}: give an address that begins with"
            " https://, or nothing"
        )
    return repository


def project_urls(repository: str) -> dict[str, str]:
    """The addresses that a package index shows beside the readme."""
    if not repository:
        return {}
    return {
        "Repository": repository,
        "Documentation": f"{repository}/blob/{BRANCH}/docs/index.md",
        "Changelog": f"{repository}/blob/{BRANCH}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def with_absolute_links(readme: str, repository: str) -> str:
    """The readme for a reader outside of the repository, for whom relative links lead nowhere.

    Without a repository, links are plain text, and images go together with their captions.
    """

    def image(match: re.Match[str]) -> str:
        if match["target"].startswith(ELSEWHERE):
            return match[0]
        if not repository:
            return ""
        address = f"{repository}/raw/{BRANCH}/{match['target']}"
        return f"![{match['text']}]({address})\n\n{match['caption'] or ''}"

    def link(match: re.Match[str]) -> str:
        if match["target"].startswith(ELSEWHERE):
            return match[0]
        if not repository:
            return match["text"]
        return f"[{match['text']}]({repository}/blob/{BRANCH}/{match['target']})"

    return LINK.sub(link, IMAGE.sub(image, readme))
