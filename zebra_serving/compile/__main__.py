"""`python -m zebra_serving.compile FOLDER DIGEST TARGET`: compile one model folder; what comes out lies in TARGET.

A process of its own: it imports 220 MB of libraries that a server does not need, and a model that breaks them breaks nothing
else. Ends with 0, or with the error on stderr and its exit code.
"""

import os
import sys
import warnings
from pathlib import Path

from zebra_assets.errors import ZebraError


def main(folder: str, digest: str, target: str) -> int:
    """Compile; 0 when TARGET is there."""
    os.nice(10)  # beside a server that answers
    from zebra_assets.adapters.model_files import load_model
    from zebra_serving.compile.check import compiled
    from zebra_serving.compile.form import write_form
    from zebra_serving.examples import EXAMPLE

    warnings.simplefilter("ignore")
    try:
        form, graph = compiled(load_model(Path(folder), digest), Path(folder) / EXAMPLE)
        write_form(Path(target), form, graph)
    except ZebraError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
