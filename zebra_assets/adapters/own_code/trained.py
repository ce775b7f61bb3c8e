"""From a `module` model's folder to a model that runs its code, for the evaluation, which comes before anybody could approve it.

These bytes are this project's own: the digest is the run's, and training registers only folders whose code is the code of the model's
folder. The fence stands all the same. A server asks for an approval (`approved`).
"""

from pathlib import Path

from zebra_assets.adapters.own_code.process import OwnCodeModel
from zebra_assets.contracts.module_folder import read_module_folder
from zebra_assets.contracts.own_code import verify_own_code


def open_trained(folder: Path, digest: str) -> OwnCodeModel:
    """The model in ``folder``.

    Args:
        digest: of the version's files, as the ledger or the run's record says.

    Raises:
        Refused: other bytes, another folder than training a `module` model leaves, or code that does not open.
    """
    card = verify_own_code(folder, digest)
    read_module_folder(folder)
    return OwnCodeModel(folder, digest, card)
