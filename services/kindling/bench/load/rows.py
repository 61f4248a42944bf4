"""The rows of the benchmark's table."""

import enum
from dataclasses import dataclass

from kindling.bench.load.peer_table import PEERS


class Kind(enum.StrEnum):
    """Whose figure it is."""

    OURS = "kindling"
    PEER = "peer"
    STREAMED = "peer, not kept"
    FLOOR = "floor"
    REMOTE_FLOOR = "remote floor"


class State(enum.StrEnum):
    """Where the bytes were when the timer started."""

    COLD = "cold"
    WARM = "warm"


@dataclass(frozen=True, slots=True)
class Row:
    """One line. ``in_milliseconds``: what counts is the time, and not the rate."""

    key: str
    label: str
    kind: Kind
    state: State
    in_milliseconds: bool = False


@dataclass(frozen=True, slots=True)
class ReadPattern:
    """``threads`` that read blocks of ``block_mib``, one after the other."""

    threads: int
    block_mib: int

    @property
    def name(self) -> str:
        """As in the table: 2x16MiB."""
        return f"{self.threads}x{self.block_mib}MiB"


DIRECT_PATTERNS = (ReadPattern(1, 16), ReadPattern(4, 16), ReadPattern(4, 32), ReadPattern(4, 64))
OBSTORE_PATTERNS = (ReadPattern(2, 16), ReadPattern(4, 16), ReadPattern(8, 16))
FIO_ENGINES = ("psync", "io_uring")

SSD, SSD_FRESH, REMOTE = "kindling_ssd", "kindling_ssd_fresh", "kindling_remote"
DRAM_VIEWS, DRAM_TOUCHED, DRAM_VIEWS_EIGHTH = "kindling_dram", "kindling_dram_touched", "kindling_dram_eighth"
DRAM_AGAIN = "kindling_dram_again"
MEMCPY = "memcpy"


def peer_row(key: str, state: State) -> str:
    """The key of a peer's row."""
    return f"{key}_{state}"


def _peer_rows() -> tuple[Row, ...]:
    return tuple(
        Row(peer_row(peer.key, state), peer.label, Kind.PEER if peer.keeps else Kind.STREAMED, state)
        for state in State
        for peer in PEERS
    )


def _floor_rows() -> tuple[Row, ...]:
    cold = State.COLD
    direct = [Row(f"direct_{p.name}", f"raw O_DIRECT {p.name}", Kind.FLOOR, cold) for p in DIRECT_PATTERNS]
    fio = [Row(f"fio_{engine}", f"fio {engine}", Kind.FLOOR, cold) for engine in FIO_ENGINES]
    remote = [Row(f"obstore_{p.name}", f"raw obstore {p.name}", Kind.REMOTE_FLOOR, cold) for p in OBSTORE_PATTERNS]
    return (*direct, *fio, *remote, Row(MEMCPY, "memcpy, 1 thread", Kind.FLOOR, State.WARM))


ROWS: tuple[Row, ...] = (
    Row(SSD, "Kindling SSD → usable", Kind.OURS, State.COLD),
    Row(SSD_FRESH, "Kindling SSD → usable, fresh pool", Kind.OURS, State.COLD),
    Row(REMOTE, "Kindling REMOTE → usable", Kind.OURS, State.COLD),
    Row(DRAM_VIEWS, "Kindling DRAM hit: views", Kind.OURS, State.WARM, in_milliseconds=True),
    Row(DRAM_TOUCHED, "Kindling DRAM hit: touched", Kind.OURS, State.WARM, in_milliseconds=True),
    Row(DRAM_AGAIN, "Kindling DRAM hit: views, not the worker's first", Kind.OURS, State.WARM, in_milliseconds=True),
    Row(DRAM_VIEWS_EIGHTH, "Kindling DRAM hit: views, 1/8 of the size", Kind.OURS, State.WARM, in_milliseconds=True),
    *_peer_rows(),
    *_floor_rows(),
)
