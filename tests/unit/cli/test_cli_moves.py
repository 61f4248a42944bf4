from kindling.cli import drain, migrate
from kindling.v1 import cluster_pb2


def moving(stage, moved):
    return cluster_pb2.MigrationStatus(
        instance_id="m-1", target_instance_id="m-2", target_worker_id="n/w", stage=stage, moved=moved
    )


def test_each_stage_is_said_on_a_line():
    stages = ("STARTING", "MOVING", "STOPPING", "DONE", "UNSPECIFIED")
    lines = [migrate.describe(moving(cluster_pb2.MigrationStage.Value(f"MIGRATION_STAGE_{one}"), 1)) for one in stages]
    assert lines == [
        f"m-1 → m-2 on n/w: {stage}, 1 moved"
        for stage in ("starting there", "moving", "stopping here", "done", "under way")
    ]


def test_the_summary_counts_all_instances():
    done = cluster_pb2.MIGRATION_STAGE_DONE
    seen = {"m-1": moving(done, 1), "m-2": cluster_pb2.MigrationStatus(moved=0, stayed=2)}
    assert migrate.summary("m", "n/w", {"m-1": moving(done, 1)}) == "moved 1 generation of m to n/w, none stayed"
    assert migrate.summary("m", "n/w", seen) == "moved 1 generation of m to n/w, 2 stayed"
    assert migrate.summary("m", "n/w", {}) == "nothing to move: m runs on n/w already"


def test_what_is_left_on_a_node_is_counted():
    one = cluster_pb2.DrainNodeResponse(instances=1, generations=1)
    more = cluster_pb2.DrainNodeResponse(instances=2, generations=0)
    assert drain.describe(one) == "1 instance with 1 generation left"
    assert drain.describe(more) == "2 instances with 0 generations left"
