"""`python -m mdm_jax` is the command line `mdm`."""

from mdm_jax.cli.main import program

if __name__ == "__main__":
    program()
