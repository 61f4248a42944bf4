"""The packed checkpoint format: manifest, layout, writer, reader, conversion from Hugging Face directories.

Everything here blocks; asyncio callers run it on an executor.
"""

from kindling.checkpoint.checksum import chunk_checksum
from kindling.checkpoint.convert import pack
from kindling.checkpoint.layout import DEFAULT_CHUNK_BYTES, FORMAT_VERSION, MANIFEST_FILE, directory_name, is_digest
from kindling.checkpoint.manifest import FileEntry, LayerEntry, LayerKind, Manifest, Partition, TensorEntry
from kindling.checkpoint.manifest_json import dump_manifest, load_manifest
from kindling.checkpoint.reader import PackedCheckpoint
from kindling.checkpoint.verify import VerificationReport, verify
from kindling.checkpoint.writer import find_checkpoint, sweep_temporaries

__all__ = [
    "DEFAULT_CHUNK_BYTES",
    "FORMAT_VERSION",
    "MANIFEST_FILE",
    "FileEntry",
    "LayerEntry",
    "LayerKind",
    "Manifest",
    "PackedCheckpoint",
    "Partition",
    "TensorEntry",
    "VerificationReport",
    "chunk_checksum",
    "directory_name",
    "dump_manifest",
    "find_checkpoint",
    "is_digest",
    "load_manifest",
    "pack",
    "sweep_temporaries",
    "verify",
]
