"""The version, known without an installation."""

__version__ = "0.1.0"
