"""Settings as files, method strings and programs write them, read into frozen dataclasses.

One loader for every config: `load` reads a TOML file, `build` takes the settings themselves, and
`parse_settings` reads `setting=value,setting=value`. Every mistake is an `InputError` that names
the setting, shows its value, and says what to write.

A field is written in a file as its annotation says. Where a program may give more than a file can
(an array, a function), the field's metadata says how the file writes it, see `in_file`. A field
that may be None is written `"none"`.
"""

from mdm_jax.config_files.config_builder import as_lists as as_lists
from mdm_jax.config_files.config_builder import build as build
from mdm_jax.config_files.config_schema import NONE as NONE
from mdm_jax.config_files.config_schema import Setting as Setting
from mdm_jax.config_files.config_schema import check_choices as check_choices
from mdm_jax.config_files.config_schema import in_file as in_file
from mdm_jax.config_files.config_schema import schema as schema
from mdm_jax.config_files.settings_text import load as load
from mdm_jax.config_files.settings_text import merge as merge
from mdm_jax.config_files.settings_text import parse_settings as parse_settings
from mdm_jax.config_files.settings_text import read_toml as read_toml
from mdm_jax.config_files.settings_text import resolved as resolved
