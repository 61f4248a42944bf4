"""The gateway's settings, from ``KINDLING_GATEWAY_*``."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from kindling.gateway.domain.resume_budget import ResumeLimits
from kindling.platform.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Where the gateway listens, where the schedulers are, whom it serves and how much it takes."""

    model_config = SettingsConfigDict(env_prefix="KINDLING_GATEWAY_")

    listen_address: str = Field(default="127.0.0.1:8081", description="host:port to serve gRPC on; 0 takes a free one")
    http_host: str = Field(default="127.0.0.1", description="host to serve HTTP on")
    http_port: int = Field(default=8080, ge=0, le=65535, description="port to serve HTTP on; 0 takes a free one")
    schedulers: str = Field(default="127.0.0.1:8090", description="comma-separated host:port of the schedulers")
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description="comma-separated keys, sent as they stand; one like TENANT:SECRET is that tenant's. "
        "None: everybody is served, as the tenant that the header x-kindling-tenant names",
    )
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024, description="longest request body")
    max_header_bytes: int = Field(default=64 * 2**10, ge=1024, description="longest request line and headers together")
    tokenizer_cache_size: int = Field(default=16, ge=1, description="tokenizers kept in memory")
    scheduler_retry_seconds: float = Field(
        default=30.0, ge=0, description="how long a request bears with schedulers that are not there"
    )
    resume_attempts: int = Field(
        default=3,
        ge=0,
        description="how often in a row a generation is resumed without getting anywhere; 0: never",
    )
    resume_share: float = Field(
        default=0.1, ge=0, le=1, description="fruitless resumes and hedges over all generations, per request"
    )
    resumes_per_second: float = Field(
        default=10.0, ge=0, description="fruitless resumes and hedges over all generations, besides the share"
    )
    silence_seconds: float = Field(
        default=3.0, ge=0, description="how long a worker may be silent before another is tried as well; 0: for ever"
    )
    room_seconds: float = Field(
        default=60.0, ge=0, description="how long a generation that has begun waits for room when queues are full"
    )
    hung_seconds: float = Field(
        default=60.0, gt=0, description="how long workers may all be silent before the generation ends with an error"
    )
    queue_comment_seconds: float = Field(default=10.0, gt=0, description="pause between signs of life while waiting")

    @property
    def resume_limits(self) -> ResumeLimits:
        """How generations are resumed and hedged."""
        return ResumeLimits(
            attempts=self.resume_attempts,
            share=self.resume_share,
            per_second=self.resumes_per_second,
            silence_seconds=self.silence_seconds,
            room_seconds=self.room_seconds,
            hung_seconds=self.hung_seconds,
        )

    @property
    def scheduler_list(self) -> list[str]:
        """The schedulers' addresses, one by one."""
        return [address.strip() for address in self.schedulers.split(",") if address.strip()]

    @property
    def api_key_list(self) -> list[str]:
        """The entries for keys, one by one."""
        return [key.strip() for key in self.api_keys.get_secret_value().split(",") if key.strip()]
