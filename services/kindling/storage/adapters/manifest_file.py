"""manifest.json in a checkpoint's directory."""

from pathlib import Path

from kindling.checkpoint.layout import MANIFEST_FILE
from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import load_manifest
from kindling.platform.errors import DataLossError, NotFoundError


def read_manifest(directory: Path, digest: str) -> Manifest:
    """Return the manifest in ``directory``.

    Raises NotFoundError (CHECKPOINT_NOT_FOUND) if there is none, DataLossError (MANIFEST_INVALID) if it cannot be read,
    is damaged, or is that of another checkpoint than ``digest``.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = load_manifest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"there is no checkpoint {digest} in {directory.parent}; deploy the model again from its source",
            reason="CHECKPOINT_NOT_FOUND",
            metadata={"digest": digest},
        ) from error
    except OSError as error:
        raise _invalid(path, str(error)) from error
    if manifest.digest != digest:
        raise _invalid(path, f"it belongs to {manifest.digest}")
    return manifest


def _invalid(path: Path, why: str) -> DataLossError:
    return DataLossError(
        f"{path} cannot be used: {why}; deploy the model again from its source",
        reason="MANIFEST_INVALID",
        metadata={"file": str(path)},
    )
