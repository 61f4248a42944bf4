"""Fetching models from the Hugging Face hub, blocking; tokens and mirrors are its own (HF_TOKEN, HF_ENDPOINT)."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from kindling.checkpoint.files import require_space
from kindling.checkpoint.layout import MODEL_FILES
from kindling.checkpoint.progress import Progress
from kindling.platform.errors import NotFoundError, PermissionDeniedError, UnavailableError
from kindling.storage.adapters.bucket_errors import detail

_SAFE = ("*.safetensors", "*.safetensors.index.json")
_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


def download_model(
    repository: str, directory: Path, progress: Progress, timeout_seconds: float, *, allow_pickle: bool
) -> None:
    """Fetch the files of ``org/name`` that packing can use into ``directory``.

    Raises UnavailableError (HUB_UNREACHABLE), NotFoundError (HUB_MODEL_NOT_FOUND), PermissionDeniedError
    (HUB_FORBIDDEN), ResourceExhaustedError (DISK_FULL), CancelledError.
    """
    from huggingface_hub import HfApi, hf_hub_download

    with _translated(repository):
        info = HfApi().model_info(repository, files_metadata=True, timeout=timeout_seconds)
        sizes = _wanted({file.rfilename: file.size or 0 for file in info.siblings or ()}, allow_pickle=allow_pickle)
        total_bytes, done_bytes = sum(sizes.values()), 0
        require_space(directory, total_bytes)
        for name, size_bytes in sizes.items():
            hf_hub_download(repository, name, revision=info.sha, local_dir=directory, etag_timeout=timeout_seconds)
            done_bytes += size_bytes
            progress.report(done_bytes, total_bytes)


def _wanted(sizes: dict[str, int], *, allow_pickle: bool) -> dict[str, int]:
    """The model's own files, and its weights in one form only."""
    weights = _matching(sizes, _SAFE)
    if not weights and allow_pickle:
        weights = _matching(sizes, _PICKLES)
    return {name: size for name, size in sizes.items() if name in MODEL_FILES} | weights


def _matching(sizes: dict[str, int], patterns: tuple[str, ...]) -> dict[str, int]:
    def fits(name: str) -> bool:
        return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)

    return {name: size for name, size in sizes.items() if fits(name)}


@contextmanager
def _translated(repository: str) -> Iterator[None]:
    from huggingface_hub import errors

    metadata = {"repository": repository}
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionDeniedError(
            f"{repository} is gated: accept its terms on the hub, and give the storage manager HF_TOKEN",
            reason="HUB_FORBIDDEN",
            metadata=metadata,
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise NotFoundError(
            f"the hub has no model {repository}, or it is private: check the name, and HF_TOKEN of the storage manager",
            reason="HUB_MODEL_NOT_FOUND",
            metadata=metadata,
        ) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of the HTTP library in use
        raise UnavailableError(
            f"{repository} cannot be fetched from the Hugging Face hub: {detail(error)}; if this node has no way to "
            "it, download the model elsewhere (hf download) and deploy the directory",
            reason="HUB_UNREACHABLE",
            metadata=metadata,
            retry_after_seconds=5.0,
        ) from error
