"""What `delta` and `iceberg` share: where a table lies, the S3 settings in both libraries' words, and the extra they come with.

Keys come from the deployment (.env, environment, then each library's own chain), an S3 server that is not AWS from
ZEBRA_S3_ENDPOINT_URL, as for the object store. A recipe names no endpoint: that is an address to send requests to.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zebra_assets.contracts.names import safe_join
from zebra_assets.datasets.connector import fill_secrets
from zebra_assets.errors import Refused, SpecInvalid

ENDPOINT = "ZEBRA_S3_ENDPOINT_URL"
SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")


def library(name: str, connector: str) -> Any:
    """The library, imported now: both are optional and take 0.1 to 0.5 s.

    Raises:
        SpecInvalid: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise SpecInvalid(f"The {connector} connector needs {name}: {error}.", fix="pip install 'zebraops[lakehouse]'") from error


def place(path: str, project: Path, secrets: Mapping[str, str]) -> str:
    """The path or URL of a table; a relative path starts at the project.

    Raises:
        Refused: '..', or a scheme that is no store of tables.
        SpecInvalid: a secret that is not set.
    """
    filled = fill_secrets(path, secrets)
    if "://" in filled:
        scheme = urlsplit(filled).scheme.lower()
        if scheme not in SCHEMES:
            raise Refused(
                f"source.path {path}: no table is read from {scheme}://.", fix="a local path, or " + ", ".join(f"{s}://" for s in SCHEMES)
            )
        return filled
    if ".." in Path(filled).parts:
        raise Refused(f"source.path {path!r} contains '..'.", fix="use a path below the project, or an absolute one")
    return filled if Path(filled).is_absolute() else str(safe_join(project, filled))


def s3_options(secrets: Mapping[str, str]) -> dict[str, str]:
    """Key, secret, token, region and endpoint as far as the deployment says them, in boto3's words."""
    region = secrets.get("AWS_REGION") or secrets.get("AWS_DEFAULT_REGION")
    found = {
        "aws_access_key_id": secrets.get("AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": secrets.get("AWS_SECRET_ACCESS_KEY"),
        "aws_session_token": secrets.get("AWS_SESSION_TOKEN"),
        "endpoint_url": secrets.get(ENDPOINT) or secrets.get("AWS_ENDPOINT_URL"),
    }
    # Servers of one's own take any region, but without one both libraries would ask AWS for the bucket's.
    found["region_name"] = region or ("us-east-1" if found["endpoint_url"] else None)
    return {name: value for name, value in found.items() if value}
