"""The index of a sharded model: which file holds which tensor."""

from pathlib import Path

from kindling.checkpoint.containment import contained
from kindling.checkpoint.files import reading
from kindling.checkpoint.header import refuse
from kindling.checkpoint.strict_json import parse_object


def read_index(directory: Path, file_name: str) -> dict[str, str]:
    """The shard's file name of every tensor, in the index's order.

    Raises InvalidArgumentError: INDEX_INVALID for anything but a map of strings, PATH_ESCAPES for a shard that lies
    outside of ``directory``.
    """
    path = contained(directory, file_name)
    try:
        with reading(path):
            weight_map = parse_object(path.read_bytes()).get("weight_map")
    except ValueError as error:
        refuse(path, "INDEX_INVALID", f"cannot be read: {error}", error)
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        refuse(path, "INDEX_INVALID", "has no weight_map that names each tensor's file")
    for shard in set(weight_map.values()):
        contained(directory, shard)
    return weight_map
