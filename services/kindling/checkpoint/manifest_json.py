"""The manifest as JSON: written canonically, read strictly.

The checkpoint's digest is the BLAKE3 of the canonical JSON of everything but the digest itself. As the manifest holds
the digest of every file, the tensor table and the chunking, one digest names exactly one set of bytes on disk.
"""

import dataclasses
import json
from typing import Any

import orjson

from kindling.checkpoint.checksum import content_digest
from kindling.checkpoint.layout import FORMAT_VERSION, MOST_CHUNK_BYTES, chunk_count, is_digest
from kindling.checkpoint.manifest import FileEntry, LayerEntry, LayerKind, Manifest, Partition, TensorEntry
from kindling.checkpoint.strict_json import Fields, parse_object
from kindling.platform.errors import DataLossError, FailedPreconditionError

_FIELDS = tuple(field.name for field in dataclasses.fields(Manifest))


def dump_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json. ``load_manifest`` of them equals ``manifest``."""
    return json.dumps(_to_json(manifest), indent=1).encode() + b"\n"


def load_manifest(data: bytes) -> Manifest:
    """Reads and validates the bytes of a manifest.json.

    Raises FailedPreconditionError (CHECKPOINT_FORMAT_UNSUPPORTED) for another format version, and DataLossError
    (MANIFEST_INVALID) for anything that is not a manifest whose digest and numbers agree with each other.
    """
    try:
        value = parse_object(data)
        _require_version(value.get("format_version"))
        manifest = _from_json(Fields(value))
        _require_consistent(manifest)
        # What was read is what would be written: nothing but known fields of exact types got this far.
        _require(manifest.digest == _digest_of(value), "digest (it was changed after it was written)")
    except ValueError as error:
        raise DataLossError(
            f"The checkpoint's manifest cannot be used: {error}. Pack the checkpoint again from its source.",
            reason="MANIFEST_INVALID",
        ) from error
    return manifest


def load_validated_manifest(data: bytes) -> Manifest:
    """The manifest in bytes that ``load_manifest`` has accepted already, in another process of the same node.

    Checks nothing again: a worker does this on the way of every hit in DRAM, and it takes a fifth of the time.
    """
    value: dict[str, Any] = orjson.loads(data)
    partitions = tuple(_validated_partition(partition) for partition in value.pop("partitions"))
    files = tuple(FileEntry(**file) for file in value.pop("files"))
    tensors = tuple(TensorEntry(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in value.pop("tensors"))
    layers = tuple(LayerEntry(**layer | {"kind": LayerKind(layer["kind"])}) for layer in value.pop("layers"))
    return Manifest(**value, partitions=partitions, files=files, tensors=tensors, layers=layers)


def _validated_partition(value: dict[str, Any]) -> Partition:
    chunks = tuple(int(checksum, 16) for checksum in value.pop("chunks"))
    return Partition(**value, chunks=chunks)


def sealed(manifest: Manifest) -> Manifest:
    """``manifest`` with its digest computed from everything else in it."""
    return dataclasses.replace(manifest, digest=_digest_of(_to_json(manifest)))


def _digest_of(value: dict[str, Any]) -> str:
    covered = {name: field for name, field in value.items() if name != "digest"}
    return content_digest(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode())


def _to_json(manifest: Manifest) -> dict[str, Any]:
    value = {name: getattr(manifest, name) for name in _FIELDS}
    return {
        **value,
        "partitions": [_partition_to_json(partition) for partition in manifest.partitions],
        "files": [dataclasses.asdict(file) for file in manifest.files],
        "tensors": [dataclasses.asdict(tensor) for tensor in manifest.tensors],
        "layers": [dataclasses.asdict(layer) | {"kind": layer.kind.value} for layer in manifest.layers],
    }


def _partition_to_json(partition: Partition) -> dict[str, Any]:
    # Checksums are hex, since a JSON number of 64 bits does not survive every reader.
    return dataclasses.asdict(partition) | {"chunks": [f"{checksum:016x}" for checksum in partition.chunks]}


def _require_version(version: object) -> None:
    if type(version) is not int:
        raise ValueError("format_version is not an integer")
    if version != FORMAT_VERSION:
        raise FailedPreconditionError(
            f"The checkpoint has format version {version}, this release reads version {FORMAT_VERSION}. Use a release "
            "that knows the version, or pack the checkpoint again from its source with this one.",
            reason="CHECKPOINT_FORMAT_UNSUPPORTED",
            metadata={"format_version": str(version), "supported_version": str(FORMAT_VERSION)},
        )


def _from_json(fields: Fields) -> Manifest:
    fields.only(*_FIELDS)
    context_length = None if fields.value["context_length"] is None else fields.integer("context_length", 1)
    return Manifest(
        digest=fields.string("digest"),
        architecture=fields.string("architecture"),
        model_type=fields.string("model_type"),
        torch_dtype=fields.string("torch_dtype"),
        parameter_count=fields.integer("parameter_count"),
        context_length=context_length,
        chunk_bytes=fields.integer("chunk_bytes", 1, MOST_CHUNK_BYTES),
        partitions=tuple(map(_partition, fields.objects("partitions"))),
        files=tuple(map(_file, fields.objects("files"))),
        tensors=tuple(map(_tensor, fields.objects("tensors"))),
        layers=tuple(map(_layer, fields.objects("layers"))),
        format_version=fields.integer("format_version"),
    )


def _partition(fields: Fields) -> Partition:
    fields.only("file_name", "size_bytes", "data_offset", "digest", "chunks")
    return Partition(
        file_name=_plain_name(fields.string("file_name")),
        size_bytes=fields.integer("size_bytes", 1),
        data_offset=fields.integer("data_offset"),
        digest=_digest(fields.string("digest")),
        chunks=tuple(map(_checksum, fields.array("chunks"))),
    )


def _file(fields: Fields) -> FileEntry:
    fields.only("path", "size_bytes", "digest")
    return FileEntry(_plain_name(fields.string("path")), fields.integer("size_bytes"), _digest(fields.string("digest")))


def _tensor(fields: Fields) -> TensorEntry:
    fields.only("name", "dtype", "shape", "offset_bytes", "size_bytes", "partition")
    return TensorEntry(
        name=fields.string("name"),
        dtype=fields.string("dtype"),
        shape=fields.integers("shape"),
        offset_bytes=fields.integer("offset_bytes"),
        size_bytes=fields.integer("size_bytes"),
        partition=fields.integer("partition"),
    )


def _layer(fields: Fields) -> LayerEntry:
    fields.only("kind", "name", "first_chunk", "last_chunk")
    return LayerEntry(
        kind=LayerKind(fields.string("kind")),
        name=fields.string("name"),
        first_chunk=fields.integer("first_chunk"),
        last_chunk=fields.integer("last_chunk"),
    )


def _checksum(value: object) -> int:
    if not isinstance(value, str) or len(value) != 16 or not set(value) <= set("0123456789abcdef"):
        raise ValueError("a chunk's checksum is not 16 hex digits")
    return int(value, 16)


def _digest(text: str) -> str:
    if not is_digest(text):
        raise ValueError(f"{text[:100]!r} is not a digest")
    return text


def _plain_name(text: str) -> str:
    if not text or text.startswith(".") or "/" in text or "\\" in text or "\0" in text:
        raise ValueError(f"{text[:100]!r} is not a plain file name")
    return text


def _require_consistent(manifest: Manifest) -> None:
    for partition in manifest.partitions:
        _require(len(partition.chunks) == chunk_count(partition.size_bytes, manifest.chunk_bytes), "chunk count")
        _require(partition.data_offset <= partition.size_bytes, "data offset")
    for tensor in manifest.tensors:
        _require(tensor.partition < len(manifest.partitions), f"partition of tensor {tensor.name[:200]}")
        inside = tensor.end_bytes <= manifest.partitions[tensor.partition].size_bytes
        _require(inside, f"place of tensor {tensor.name[:200]}")
    for layer in manifest.layers:
        _require(layer.first_chunk <= layer.last_chunk < manifest.chunk_count, f"chunks of {layer.name[:200]}")
    names = [partition.file_name for partition in manifest.partitions] + [file.path for file in manifest.files]
    _require(len(set(names)) == len(names), "list of files (a name is there twice)")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"its {what} is wrong")
