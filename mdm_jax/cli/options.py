"""Options that every command that explains takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdm_jax.config import MDMConfig, preset
from mdm_jax.config_files import build, read_toml
from mdm_jax.errors import InputError
from mdm_jax.methods import METHODS, ConfiguredMethod, configure


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every command that explains takes."""

    preset: str = "fast"
    """fast (15 evaluations of the network an image), best (60), or paper (300, the closest reading
    of the paper)"""
    config: Path | None = None
    """TOML file with settings of MDMConfig that replace the preset's, such as: steps = 50"""
    seed: int = 0
    """seed of everything random"""
    micro_batch: int | None = None
    """images solved at a time; found from the memory when not given"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def settings(self) -> dict[str, Any]:
        """The settings of MDM that the file replaces. Raises InputError for one that cannot be
        read."""
        return {} if self.config is None else read_toml(self.config)

    def mdm_config(self) -> MDMConfig:
        return build(MDMConfig, self.settings(), base=preset(self.preset))

    def chosen(self, method: str) -> ConfiguredMethod:
        """A method and its settings. Raises InputError for settings from two places."""
        return chosen(method, self.preset, self.settings())


def chosen(method: str, preset_name: str, settings: dict[str, Any]) -> ConfiguredMethod:
    """A method as it is written, with a preset and settings where it is plain MDM. Raises
    InputError for both at once."""
    if method == "mdm":
        return ConfiguredMethod(
            "mdm", METHODS["mdm"], build(MDMConfig, settings, base=preset(preset_name))
        )
    if settings or preset_name != "fast":
        raise InputError(
            "--config and --preset are MDM's own: write settings with the method, as in --method"
            " mdm:preset=paper,steps=50"
        )
    return configure(method).with_default_config()
