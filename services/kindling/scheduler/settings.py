"""The scheduler's settings."""

import socket

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from kindling.platform.settings import ServiceSettings
from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.plans import Limits
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.promotions import PrefetchLimits
from kindling.scheduler.domain.values import ModelSettings


class SchedulerSettings(ServiceSettings):
    """What an operator may choose; the defaults of models hold for those deployed without a value of their own."""

    model_config = SettingsConfigDict(env_prefix="KINDLING_SCHEDULER_")

    scheduler_id: str = Field(default_factory=socket.gethostname, min_length=1, description="this scheduler's name")
    concurrency_target: int = Field(default=8, ge=1, description="generations an instance runs at once")
    keep_alive_seconds: float = Field(default=300.0, ge=0.0, description="how long an instance stays without work")
    max_queued_requests: int = Field(default=1024, ge=1, description="requests held per model while none has room")
    max_queue_wait_seconds: float = Field(default=600.0, gt=0.0, description="longest that a request is held")
    no_workers_wait_seconds: float = Field(default=30.0, ge=0.0, description="longest wait for any worker at all")
    grant_ttl_seconds: float = Field(default=10.0, gt=0.0, description="when a grant lapses that no worker has seen")
    max_start_attempts: int = Field(default=3, ge=1, description="workers tried before a start is given up")
    start_stall_seconds: float = Field(default=120.0, gt=0.0, description="longest silence of a start before it fails")
    assumed_init_seconds: float = Field(default=0.5, ge=0.0, description="time to build a model never yet built")
    migrate: bool = Field(default=True, description="move busy instances where others would be ready sooner")
    consolidate: bool = Field(default=True, description="have a model's instances become fewer where slots are short")
    prefetch: bool = Field(default=True, description="bring to SSD and DRAM what is about to be called")
    prefetch_horizon_seconds: float = Field(default=120.0, gt=0.0, description="how far ahead calls are foreseen")
    prefetch_remote_horizon_seconds: float = Field(default=600.0, gt=0.0, description="the same, for copies to SSDs")
    prefetch_min_probability: float = Field(default=0.2, gt=0.0, le=1.0, description="of a call worth a prefetch")
    prefetch_bandwidth_share: float = Field(default=0.5, gt=0.0, le=1.0, description="of a link's bandwidth")
    prefetch_dram_share: float = Field(default=0.5, gt=0.0, le=1.0, description="of a node's DRAM, prefetched, unused")
    prefetch_ssd_share: float = Field(default=0.5, gt=0.0, le=1.0, description="of a node's SSD, prefetched, unused")
    status_timeout_seconds: float = Field(default=1.0, gt=0.0, description="longest wait for a node's status")

    @property
    def model_defaults(self) -> ModelSettings:
        """The settings of a model that is deployed without any."""
        return ModelSettings(
            concurrency_target=self.concurrency_target,
            keep_alive_seconds=self.keep_alive_seconds,
            max_queued_requests=self.max_queued_requests,
            max_queue_wait_seconds=self.max_queue_wait_seconds,
        )

    @property
    def limits(self) -> Limits:
        """The bounds that the planner keeps."""
        return Limits(
            grant_ttl_seconds=self.grant_ttl_seconds,
            no_workers_wait_seconds=self.no_workers_wait_seconds,
            max_start_attempts=self.max_start_attempts,
            worker_lost_seconds=self.lease_ttl_seconds,
        )

    @property
    def prefetch_limits(self) -> PrefetchLimits:
        """How far ahead prefetching looks, and what it may spend."""
        return PrefetchLimits(
            horizon_seconds=self.prefetch_horizon_seconds,
            remote_horizon_seconds=self.prefetch_remote_horizon_seconds,
            min_probability=self.prefetch_min_probability,
            bandwidth_share=self.prefetch_bandwidth_share,
            dram_share=self.prefetch_dram_share,
            ssd_share=self.prefetch_ssd_share,
        )

    @property
    def policy(self) -> Policy:
        """How instances are placed, and who makes room for them."""
        return Policy(self.assumptions, migrates=self.migrate, consolidates=self.consolidate)

    @property
    def assumptions(self) -> Assumptions:
        """What estimates rest on before anything was measured."""
        return Assumptions(init_seconds=self.assumed_init_seconds)
