"""A trainer's side of the weight transfer for tests, and the log-probs that it expects."""

import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from actors.engine import SamplingEngine, SamplingRequest, TokenChunk
from learner.gloo_sender import GlooSender
from learner.weight_senders import Member


class Policy:
    """A Hugging Face model whose weights are published to one engine over gloo."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.sender = GlooSender("127.0.0.1", 15.0)

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, parameter.detach()) for name, parameter in self.model.named_parameters()]

    def perturb(self, seed: int, scale: float = 0.05) -> None:
        """Another policy: every weight moves."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter += scale * torch.randn(parameter.shape, generator=generator)

    def join(self, engine: SamplingEngine) -> None:
        (info,) = self.sender.open([Member("actor_000", 1)], self.tensors())
        with _Thread(self.sender.connect):
            engine.join_weight_group(info)

    def publish(self, engine: SamplingEngine, version: int) -> None:
        tensors = [(name, tensor.clone()) for name, tensor in self.tensors()]
        with _Thread(lambda: self.sender.send(tensors)):
            engine.update_weights(version, self.sender.update_info(version))

    def logprobs(
        self, prompt: NDArray[np.int32], tokens: NDArray[np.int32], temperature: float = 1.0
    ) -> NDArray[np.float32]:
        """Log-probs of the tokens after the prompt [T], in float32, at a temperature."""
        ids = torch.tensor([[*prompt.tolist(), *tokens.tolist()]])
        with torch.no_grad():
            logits = self.model(ids).logits[0, len(prompt) - 1 : -1].float() / temperature
        rows = torch.log_softmax(logits, -1)
        return rows[torch.arange(len(tokens)), torch.tensor(tokens.tolist())].numpy()


class _Thread:
    """The peer of a collective runs beside the block; its failure is the block's."""

    def __init__(self, action) -> None:  # type: ignore[no-untyped-def]
        self._action = action
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the sender hangs"
        if self._error is not None:
            raise self._error


def random_prompt(seed: int, length: int = 20) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(5, 100, length).astype(np.int32)


def request(key: int, prompt: NDArray[np.int32], num_tokens: int, **kwargs) -> SamplingRequest:  # type: ignore[no-untyped-def]
    kwargs.setdefault("temperature", 1.0)
    return SamplingRequest(key=key, token_ids=prompt, max_new_tokens=num_tokens, **kwargs)


def drain(engine: SamplingEngine) -> dict[int, list[TokenChunk]]:
    """Step until nothing is in flight; chunks by key."""
    chunks: dict[int, list[TokenChunk]] = {}
    while engine.num_in_flight:
        for chunk in engine.step():
            chunks.setdefault(chunk.key, []).append(chunk)
    return chunks


def merged(chunks: list[TokenChunk]) -> tuple[NDArray[np.int32], NDArray[np.float32], list[int]]:
    """Tokens, log-probs and per-token versions of a request's chunks."""
    tokens = np.array([token for chunk in chunks for token in chunk.token_ids], np.int32)
    logprobs = np.array([value for chunk in chunks for value in chunk.logprobs], np.float32)
    versions = [chunk.policy_version for chunk in chunks for _ in chunk.token_ids]
    return tokens, logprobs, versions
