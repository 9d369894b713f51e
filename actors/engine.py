"""The vLLM engine as the actor sees it: token ids in; token ids, log-probs and versions out.

The engine core is driven directly, without vLLM's detokenising front end: every step's outputs
carry the weight version that the core held when it sampled them, which the front end passes on
only for finished requests. In-process and own-process cores share this interface.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from async_r1.config import Config
from async_r1.errors import TransferError
from async_r1.types import FinishReason, Int32


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRequest:
    """One completion to sample or continue."""

    key: int  # chosen by the caller, unique among those in flight
    token_ids: Int32  # [P + T so far]
    max_new_tokens: int  # from here on
    temperature: float  # 0 is greedy
    seed: int | None = None


class TokenChunk(NamedTuple):
    """Tokens of one request sampled in one engine step, all by one policy version.

    A tuple of plain numbers: there is one for every request at every step, mostly of one token, and
    arrays or a frozen dataclass would cost more than they hold.
    """

    key: int
    token_ids: Sequence[int]  # [T]
    logprobs: Sequence[float]  # [T] float32 values, under the distribution sampled from
    policy_version: int
    prefill_version: int  # of the KV cache that this request's context was computed with
    finish_reason: FinishReason | None


@dataclass(slots=True)
class _InFlight:
    request: SamplingRequest
    internal_id: str
    sampled: list[int] = field(default_factory=list)
    prefill_version: int | None = None


class SamplingEngine:
    """A vLLM engine that samples with stamped versions and takes weight updates between steps."""

    def __init__(self, config: Config, *, seed: int, stop_token_ids: list[int]) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from actors.engine_args import engine_arguments
        from actors.gloo_plugin import register

        register()
        self._recompute = config.actors.kv_cache == "recompute"
        self._stop_token_ids = stop_token_ids
        self._engine = LLMEngine.from_engine_args(EngineArgs(**engine_arguments(config, seed)))
        self._core = self._engine.engine_core
        self._supported_tasks = self._engine.get_supported_tasks()
        self._in_flight: dict[int, _InFlight] = {}
        self._keys: dict[str, int] = {}
        self._num_submitted = 0
        self._usable = True
        self.policy_version = 0
        self._core.set_weight_version("0")

    @property
    def num_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def usable(self) -> bool:
        """False from the start of a transfer that broke until a full version has loaded."""
        return self._usable

    @property
    def world_size(self) -> int:
        """Workers of this engine; each is one member of the weight group."""
        return int(self._engine.vllm_config.parallel_config.world_size)

    def submit(self, request: SamplingRequest) -> None:
        """Queue a request; its first tokens come from a later `step`."""
        assert request.key not in self._in_flight, request.key
        self._start(_InFlight(request, ""))

    def abort(self, key: int) -> None:
        """Forget a request; unknown keys are ignored, since it may just have finished."""
        entry = self._in_flight.pop(key, None)
        if entry is not None:
            self._drop(entry)

    def step(self) -> list[TokenChunk]:
        """Advance every request by one engine step; call only with requests in flight.

        Raises:
            TransferError: the engine holds part of an update and must not sample.
        """
        if not self._usable:
            raise TransferError("engine holds part of a weight update: sampling would mix versions")
        outputs = self._core.get_output()
        chunks = []
        for output in outputs.outputs:
            key = self._keys.get(output.request_id)
            if key is None:
                continue
            assert outputs.weight_version is not None
            chunks.append(self._chunk(key, output, int(outputs.weight_version)))
        return chunks

    def join_weight_group(self, init_info: dict[str, Any]) -> None:
        """Join the learner's transfer group; blocks until it is complete or its deadline."""
        self._core.collective_rpc("init_weight_transfer_engine", None, (init_info,))

    def update_weights(self, policy_version: int, update_info: dict[str, Any]) -> None:
        """Load a version between two steps; requests in flight go on under it.

        Raises:
            TransferError: the transfer broke; the engine is not usable until one succeeds.
        """
        self._usable = False
        self._core.sleep(0, "keep")
        try:
            self._core.collective_rpc("start_weight_update")
            self._core.collective_rpc("update_weights", None, (update_info,))
            self._core.collective_rpc("finish_weight_update")
            self._core.set_weight_version(str(policy_version))
        except TransferError:
            raise
        except Exception as error:
            raise TransferError(f"version {policy_version} did not load: {error}") from error
        self.policy_version = policy_version
        self._restart_outdated()
        self._core.wake_up(["scheduling"])
        self._usable = True

    def close(self) -> None:
        self._core.shutdown()

    def _restart_outdated(self) -> None:
        """Requests without a token yet prefill again, so that none is served an older prefix;
        with `kv_cache=recompute` so do all others."""
        for entry in list(self._in_flight.values()):
            if entry.prefill_version is None or self._recompute:
                self._drop(entry)
                self._start(entry)

    def _start(self, entry: _InFlight) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input

        request = entry.request
        self._num_submitted += 1
        entry.internal_id = f"{request.key}.{self._num_submitted}"
        entry.prefill_version = None
        params = SamplingParams(
            temperature=request.temperature,
            max_tokens=request.max_new_tokens - len(entry.sampled),
            seed=request.seed,
            stop_token_ids=self._stop_token_ids,
            logprobs=0,  # of the sampled token only
            detokenize=False,
        )
        token_ids = [*request.token_ids.tolist(), *entry.sampled]
        prompt = tokens_input(token_ids, cache_salt=f"version-{self.policy_version}")
        self._core.add_request(
            self._engine.input_processor.process_inputs(
                entry.internal_id, prompt, params, supported_tasks=self._supported_tasks
            )
        )
        self._in_flight[request.key] = entry
        self._keys[entry.internal_id] = request.key

    def _drop(self, entry: _InFlight) -> None:
        del self._keys[entry.internal_id]
        self._core.abort_requests([entry.internal_id])

    def _chunk(self, key: int, output: Any, version: int) -> TokenChunk:
        entry = self._in_flight[key]
        if entry.prefill_version is None:
            entry.prefill_version = version
        token_ids: list[int] = output.new_token_ids
        logprobs: list[float] = []
        if token_ids:
            logprobs = np.asarray(output.new_logprobs.logprobs)[:, 0].tolist()
        assert len(logprobs) == len(token_ids)
        finish = None
        if output.finish_reason is not None:
            finish = FinishReason(str(output.finish_reason))
            del self._in_flight[key]
            del self._keys[entry.internal_id]
        elif self._recompute:
            entry.sampled.extend(token_ids)
        return TokenChunk(key, token_ids, logprobs, version, entry.prefill_version, finish)
