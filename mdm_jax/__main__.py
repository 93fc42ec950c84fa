"""`python -m mdm_jax` is the command line `mdm`."""

import sys

from mdm_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
