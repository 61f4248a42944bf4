"""The simulated cluster that every strategy runs: devices that load models and serve generations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kindling.scheduler.domain.values import Checkpoint, LoadReport, Tier
from kindling.simulate.events import Action, Events
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.simulated_node import LoadDone, SimulatedNode
from kindling.simulate.workload import Arrival


@dataclass(frozen=True, slots=True)
class Generation:
    """A request of the workload, by a name of its own."""

    generation_id: str
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a request: how long it waited for an instance that was ready; ``refused`` if it gave up then."""

    arrival: Arrival
    startup_seconds: float
    refused: bool = False


@dataclass(slots=True)
class _Instance:
    model: str
    worker_id: str
    since: float
    is_ready: bool = False


class SimulatedCluster:
    """Nodes of one kind, each with a worker per device, and models of one profile under several names.

    An instance generates at the profile's rates whatever runs beside it: decoding is bound by the weights' bytes, which
    a batch reads once. Every node has the checkpoints on its SSD from the start, as many as fit, if ``is_on_ssd``.
    ``starts_by_tier`` counts loads by the tier that they came from, ``device_seconds`` how long
    devices held an instance.
    """

    def __init__(
        self,
        events: Events,
        profile: NodeProfile,
        nodes: int,
        models: Sequence[str],
        model: ModelProfile,
        *,
        is_on_ssd: bool = True,
    ) -> None:
        self.events = events
        self.profile = profile
        self.nodes = {f"node-{number}": SimulatedNode(f"node-{number}", profile, events) for number in range(nodes)}
        slots = [(node_id, number) for node_id in self.nodes for number in range(profile.devices)]
        self.workers = tuple(f"{node_id}/worker-{number}" for node_id, number in slots)
        self.checkpoints: Mapping[str, Checkpoint] = {
            name: Checkpoint(f"digest-{name}", model.checkpoint_bytes) for name in models
        }
        self.served: list[Served] = []
        self.starts_by_tier = dict.fromkeys(Tier, 0)
        self.device_seconds = 0.0
        self._model = model
        self._instances: dict[str, _Instance] = {}
        if is_on_ssd:
            self._fill_ssds()

    def node_of(self, worker_id: str) -> SimulatedNode:
        """The node of a worker."""
        return self.nodes[worker_id.rpartition("/")[0]]

    def start(self, instance_id: str, model: str, worker_id: str, done: LoadDone) -> None:
        """Load a model onto a free device; ``done`` is called when it is ready, unless it was stopped before."""
        assert all(one.worker_id != worker_id for one in self._instances.values()), "a device runs one instance"
        instance = self._instances[instance_id] = _Instance(model, worker_id, self.events.now)
        node, checkpoint = self.node_of(worker_id), self.checkpoints[model]

        def ready(report: LoadReport) -> None:
            if self._instances.get(instance_id) is instance:
                instance.is_ready = True
                done(report)

        self.starts_by_tier[node.load(checkpoint, ready)] += 1

    def stop(self, instance_id: str) -> None:
        """Free an instance's device; what runs in it is lost."""
        instance = self._instances.pop(instance_id)
        self.device_seconds += self.events.now - instance.since
        self.node_of(instance.worker_id).release(self.checkpoints[instance.model].digest)

    def begin(self, generation: Generation, instance_id: str, done: Action) -> None:
        """Run a generation in an instance that is ready; ``done`` is called at its end."""
        instance, arrival = self._instances[instance_id], generation.arrival
        assert instance.is_ready, "it has to be ready"
        assert instance.model == arrival.model, "it has to be an instance of the model"
        self.served.append(Served(arrival, self.events.now - arrival.at_seconds))
        prefill_seconds = arrival.prompt_tokens / self._model.prefill_tokens_per_second
        self.events.after(prefill_seconds + arrival.output_tokens * self._model.seconds_per_token, done)

    def refuse(self, generation: Generation) -> None:
        """A request gave up."""
        waited = self.events.now - generation.arrival.at_seconds
        self.served.append(Served(generation.arrival, waited, refused=True))

    def close(self) -> None:
        """Stop what is left, so that its device's time is counted."""
        for instance_id in list(self._instances):
            self.stop(instance_id)

    def _fill_ssds(self) -> None:
        for node in self.nodes.values():
            for checkpoint in self.checkpoints.values():
                node.ssd.put(checkpoint.digest, checkpoint.total_bytes)
