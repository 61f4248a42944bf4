import io
import math

import pytest
from rich.console import Console

from kindling.cli.estimates import bars, render_estimates
from kindling.v1 import checkpoint_pb2, cluster_pb2

BOUNDS = (-0.1, 0.0, 0.1, math.inf)


def printed(estimates):
    text = io.StringIO()
    Console(file=text, width=200).print(render_estimates(estimates))
    return " ".join(text.getvalue().split())


def quality(kind, node_id, counts, tier=checkpoint_pb2.TIER_UNSPECIFIED):
    buckets = zip(BOUNDS, counts, strict=True)
    return cluster_pb2.EstimateQuality(
        kind=kind,
        node_id=node_id,
        count=sum(counts),
        median_error=0.042,
        p90_error=0.5,
        histogram=[cluster_pb2.ErrorBucket(upper_bound=bound, count=count) for bound, count in buckets],
        **{"from": tier},
    )


def test_nothing_learned_is_said():
    assert printed(cluster_pb2.Estimates()).startswith("nothing learned yet")


def test_each_kind_and_node_has_a_line_with_its_histogram():
    text = printed(
        cluster_pb2.Estimates(
            qualities=[
                quality(cluster_pb2.ESTIMATE_KIND_STARTUP, "", (1, 2, 8, 0), checkpoint_pb2.TIER_SSD),
                quality(cluster_pb2.ESTIMATE_KIND_STARTUP, "[red]n", (0, 0, 3, 0), checkpoint_pb2.TIER_SSD),
                quality(cluster_pb2.ESTIMATE_KIND_MIGRATION, "n", (0, 1, 0, 0)),
            ]
        )
    )
    assert "estimate from node count median error P90 error too low … too high" in text
    assert "startup SSD all 11 4.2% 50.0% │▁▂█ │" in text
    assert "startup SSD [red]n 3 4.2% 50.0% │ █ │" in text
    assert "migration – n 1 4.2% 50.0% │ █ │" in text
    assert "columns end at an error of -10%, 0, +10%, and the last at none" in text


def test_links_inits_and_migrations_are_shown():
    text = printed(
        cluster_pb2.Estimates(
            qualities=[quality(cluster_pb2.ESTIMATE_KIND_LOAD, "n", (0, 0, 1, 0), checkpoint_pb2.TIER_REMOTE)],
            links=[
                cluster_pb2.LinkEstimate(
                    node_id="n",
                    tier=checkpoint_pb2.TIER_REMOTE,
                    bytes_per_second=2.5e8,
                    loads=3,
                    latency_seconds=0.015,
                )
            ],
            inits=[
                cluster_pb2.InitEstimate(
                    digest="blake3:0123456789", device_kind="cpu", seconds=0.25, starts=2, while_reading=reading
                )
                for reading in (False, True)
            ],
            migrations=[
                cluster_pb2.MigrationEstimate(
                    digest="blake3:0123456789",
                    device_kind="cuda",
                    seconds_per_token=0.0004,
                    base_seconds=0.03,
                    generation_tokens=1234.4,
                    migrations=5,
                )
            ],
        )
    )
    assert "node tier measured expected besides loads n REMOTE – 0.25 GB/s 15 ms 3" in text
    assert "checkpoint device weights are init expected starts 01234567 cpu there 250 ms 2" in text
    assert "01234567 cpu read meanwhile 250 ms 2" in text
    assert "01234567 cuda 400 ms 30 ms 1,234 5" in text


@pytest.mark.parametrize(
    ("counts", "shown"), [((), ""), ((0, 0), "  "), ((1, 1000), "▁█"), ((4, 8, 0), "▄█ "), ((5,), "█")]
)
def test_bars_are_as_high_as_their_counts(counts, shown):
    assert bars(counts) == shown
