"""All settings of the service, from ALIGNLOOP_* environment variables or the command line."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from training.artifacts.errors import UserError

SCOPES = ("generate", "score", "export", "eval", "admin")  # of API keys
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
PREFIX = "ALIGNLOOP_"
# Read by other commands, by the set-up and by the tests.
OTHER_VARIABLES = frozenset(
    PREFIX + name for name in ("KEY", "JUDGE_KEY", "PACKAGES", "DATA", "TEST_POSTGRES", "LITELLM", "SMOLLM2")
)


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


class Settings(BaseSettings):
    """Settings of gateway and supervisor. A list is written as JSON: `ALIGNLOOP_ALLOWED_HOSTS='["lab.example"]'`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    database: str = Field("sqlite:///runs/service.db", description="SQLAlchemy URL of the store")
    checkpoints: Path = Field(Path("runs/checkpoints"), description="folder of published checkpoints")
    logs: Path = Field(Path("runs/logs"), description="folder of the engines' logs")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    open: bool = Field(False, description="pages, generation and scoring need no key; only on a loopback address")
    allowed_hosts: list[str] = Field(
        default_factory=list, description="accepted Host headers, without port, beside loopback names and `host`"
    )
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="pages of other sites, such as `https://app.example`, that may call /v1, /score and /tokenize",
    )
    public_url: str | None = Field(
        None,
        description="address in people's browsers, such as `https://lab.example`, behind a proxy",
    )
    trusted_proxies: list[str] = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )
    session_hours: float = Field(24 * 14, gt=0, le=24 * 366, description="life of a labeler's sign-in")
    guideline: str = Field("1", description="version of the labelers' guidelines, kept with every answer")

    collect_policies: list[str] = Field(
        default_factory=lambda: ["policy/production", "policy/candidate"],
        description="checkpoints or aliases whose responses people compare; an alias that is not set is left out",
    )
    collect_temperature: float = Field(1.0, ge=0, le=2, description="temperature of responses to be compared")
    collect_overlap: float = Field(
        0.1, ge=0, le=1, description="share of tasks that repeat what another labeler ranked, to measure agreement"
    )
    collect_ahead: int = Field(
        2, ge=0, le=50, description="tasks whose responses are sampled ahead for each active labeler; 0: none"
    )
    collect_at_once: int = Field(
        8, ge=1, le=1000, description="tasks whose responses one gateway samples ahead at the same time"
    )
    task_minutes: float = Field(120, gt=0, le=60 * 24 * 366, description="life of a task that nobody answers")

    max_body_bytes: int = Field(4_000_000, gt=0, description="largest accepted request body")
    max_responses: int = Field(
        1024, gt=0, description="most responses in one /score request, or pairs in one /v1/loglikelihood request"
    )
    max_concurrent: int = Field(256, gt=0, description="most requests running on one engine before 503")
    answer_tokens: int | None = Field(
        None, gt=0, description="longest answer where a request names no length; default: the rest of the context"
    )
    upstream_seconds: float = Field(600, gt=0, description="longest silence of an engine before 504")

    engine_address: str = Field(
        "127.0.0.1",
        description="name or IPv4 address of this machine, on which its engines listen and gateways reach them; they "
        "ask for no key, so anything but loopback is for a network that only gateways are in",
    )
    engine_kind: Literal["policy", "reward"] | None = Field(
        None,
        description="the kind of models that this supervisor serves, where another one serves the rest; default: both",
    )
    dtype: str = Field("auto", description="engines' dtype; auto is float32 on CPU and the checkpoint's own on GPU")
    kv_cache_mib: int | None = Field(
        None, gt=0, description="key-value cache of each engine on CPU, in MiB; default: planned from model and memory"
    )
    max_model_len: int | None = Field(
        None, gt=0, description="longest context of an engine; default: the manifest's, or what memory holds on CPU"
    )
    max_num_seqs: int = Field(64, gt=0, description="most sequences that an engine batches")
    engine_threads: int | None = Field(
        None, gt=0, description="OpenMP threads of each engine on CPU; default: the cores shared among the engines"
    )
    engine_start_seconds: float = Field(600, gt=0, description="longest start of an engine")
    drain_seconds: float = Field(30, ge=0, description="time given to running requests when an engine stops")
    engine_options: list[str] = Field(
        default_factory=list, description='more options for every vLLM server, as \'["--tensor-parallel-size", "4"]\''
    )

    engine_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='keys of engines elsewhere by address, as \'{"http://gpu1:8000": "KEY"}\'',
    )

    @field_validator("public_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("write scheme and host without a path, such as https://lab.example")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @field_validator("engine_address")
    @classmethod
    def _is_one_machine(cls, value: str) -> str:
        if value == "0.0.0.0" or not re.fullmatch(r"[A-Za-z0-9.-]+", value):
            raise ValueError("write one name or IPv4 address, without a port, that gateways reach this machine by")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                ipaddress.ip_network(value, strict=False)
            except ValueError:
                raise ValueError(f"{value!r} is not an address or network, such as 10.0.0.0/8") from None
        return values

    @model_validator(mode="after")
    def _share_the_store(self) -> Self:
        if self.database.startswith("sqlite") and self.engine_address not in LOOPBACK_NAMES:
            raise ValueError(
                f"ALIGNLOOP_ENGINE_ADDRESS={self.engine_address} is for gateways of other machines, and "
                "ALIGNLOOP_DATABASE is SQLite, a file of one machine: name a PostgreSQL database, or drop the address"
            )
        return self

    @property
    def url(self) -> str:
        """Where people reach the service."""
        host = f"[{self.host.strip('[]')}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def on_loopback(self) -> bool:
        """Whether `host` can be reached from this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def check(self, *, has_keys: bool) -> None:
        """Refuse to listen where strangers could generate. Raises `UserError`."""
        if self.on_loopback:
            return
        if self.open:
            raise UserError(f"open mode works on a loopback address only, not on {self.host}: drop --open")
        if not has_keys:
            raise UserError(
                f"listening on {self.host} needs a key first: run `python -m service keys add NAME --scopes admin`"
            )


def check_names(variables: Iterable[str]) -> None:
    """Refuse variables with our prefix that nothing reads: a misspelled setting would be left out in silence.

    Raises:
        UserError: it names the first of them, and the setting that was probably meant.
    """
    known = {variable_of(name) for name in Settings.model_fields} | OTHER_VARIABLES
    for name in sorted(name for name in variables if name.upper().startswith(PREFIX) and name not in known):
        near = difflib.get_close_matches(name.upper(), known, 1)
        meant = f"did you mean {near[0]}?" if near else "docs/reference/settings.md lists them"
        raise UserError(f"nothing reads the variable {name}: {meant} Correct it, or unset it")
