"""A model that waits for a slot, and another that has more instances than its generations need, over real gRPC."""

from dataclasses import dataclass

from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker


@dataclass
class Spread:
    """Model "m", two of whose generations fit in an instance, runs g1 and g3 in one each; "waiting" has no worker."""

    client: Client
    workers: list[FakeWorker]

    @property
    def moves(self) -> int:
        return sum(len(worker.migrate_calls) for worker in self.workers)

    @property
    def running(self) -> dict[str, set[str]]:
        """The models of both workers, with their generations."""
        instances = (one for worker in self.workers for one in worker.instances.values())
        return {one.model: one.generations for one in instances}


async def spread(cluster: Cluster, **settings: bool) -> Spread:
    workers = []
    for node_id in ("n1", "n2"):
        await cluster.add_node(node_id)
        workers.append(await cluster.add_worker(f"{node_id}/w1"))
    for name in ("m", "waiting"):
        await cluster.add_model(name, f"blake3:{name}", concurrency_target=2)
    client = await cluster.start_scheduler(**settings)
    granted = {name: (await client.granted("m", name)).instance_id for name in ("g1", "g2", "g3")}
    await client.release("g2")
    for name in ("g1", "g3"):
        next(worker for worker in workers if granted[name] in worker.instances).set_generations(name)
    return Spread(client, workers)


async def test_one_takes_the_others_generation_and_makes_room(cluster: Cluster) -> None:
    apart = await spread(cluster)
    await apart.client.granted("waiting", "w")
    assert apart.running == {"m": {"g1", "g3"}, "waiting": set()}
    assert apart.moves == 1
    await cluster.until_keys("decisions", lambda names: not names)


async def test_switched_off_it_waits_until_one_is_idle(cluster: Cluster) -> None:
    apart = await spread(cluster, consolidate=False)
    events = apart.client.acquire("waiting", "w")
    assert (await events.read()).HasField("queued")
    await apart.client.release("g1")
    (worker,) = (worker for worker in apart.workers if "g1" in generations_in(worker))
    worker.set_generations()
    while not (event := await events.read()).HasField("granted"):
        pass
    assert event.granted.instance_id
    assert apart.running == {"m": {"g3"}, "waiting": set()}
    assert apart.moves == 0


def generations_in(worker: FakeWorker) -> set[str]:
    (instance,) = worker.instances.values()
    return instance.generations
