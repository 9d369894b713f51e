"""Rollouts suspended across versions and actors train with the log-probs that sampled them.

A short run of the preset `nano_long` leaves a checkpoint of every version. Two oracles, both a
plain Hugging Face model at those checkpoints: the journal's log-probs are those of the version
that each token names, and the learner's metrics of each update are those of the whole rollouts
that the journal has for it, so that nothing was lost or moved between the two.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from async_r1.channels import peer_name
from async_r1.config_dir import resolve_path
from async_r1.journal_format import Record, read_records
from async_r1.run_dir import RunDir
from async_r1.segment_messages import read_segment
from tests.integration.runs import launch, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NUM_UPDATES = 18
MAX_TOKENS = 400
BUDGET = 80
TEMPERATURE = 1.5


@dataclass(frozen=True)
class Replayed:
    """One rollout as the journal has it; all arrays have its T tokens."""

    prompt: list[int]
    tokens: np.ndarray
    logprobs: np.ndarray
    versions: np.ndarray
    actors: list[str]  # that held each of its leases

    @property
    def num_versions(self) -> int:
        return len(set(self.versions.tolist()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Warm, so that log-probs are far from zero, and with steps large enough to change them."""
    return launch(
        tmp_path_factory.mktemp("nano_long"),
        "experiment=nano_long",
        "task.levels=[1]",
        "task.num_train=64",
        f"task.max_new_tokens={MAX_TOKENS}",
        "actors.max_concurrent=8",
        "actors.segment_tokens=16",
        f"actors.rollout_token_budget={BUDGET}",
        "actors.kv_cache=recompute",  # the log-prob of a token is then that of one version
        f"actors.temperature={TEMPERATURE}",
        "buffer.group_size=3",
        "buffer.keep_zero_variance=true",
        "staleness.eta=6",
        f"learner.num_updates={NUM_UPDATES}",
        "learner.groups_per_update=1",
        "learner.lr=1e-3",
        "learner.warmup_updates=0",
        "learner.checkpoint_every=1",
        "eval.every=0",
    )


@pytest.fixture(scope="module")
def batches(run: RunDir) -> list[list[Replayed]]:
    """The rollouts of every update, in its order."""
    parts, members, draws = defaultdict(list), {}, []
    for record in read_records(run.journal):
        message = record.message
        if message.kind == "segment":
            parts[message.values["rollout_id"]].append(record)
        elif message.kind == "group_opened":
            members[message.values["group_id"]] = message.values["rollout_ids"]
        elif message.kind == "draw":
            draws.append(message.values["group_ids"])
    assert len(draws) == NUM_UPDATES
    return [[_replay(parts[i]) for group in draw for i in members[group]] for draw in draws]


class Oracle:
    """Log-probs under the checkpoint of any version."""

    def __init__(self, run: RunDir) -> None:
        from transformers import AutoModelForCausalLM

        self._run = run
        self._start = resolve_path("configs:checkpoints/nano_long")
        self._load = AutoModelForCausalLM.from_pretrained

    def logprobs(self, version: int, rollouts: list[Replayed]) -> list[np.ndarray]:
        """Of every token of every rollout [T], at the temperature of sampling."""
        path = self._start if version == 0 else self._run.checkpoint(version) / "hf"
        model = self._load(path, dtype=torch.float32).eval()
        found = []
        for rollout in rollouts:
            ids = torch.tensor([[*rollout.prompt, *rollout.tokens.tolist()]])
            with torch.no_grad():
                logits = model(ids).logits[0, len(rollout.prompt) - 1 : -1].double()
            rows = torch.log_softmax(logits / TEMPERATURE, -1)
            found.append(rows.gather(1, ids[0, len(rollout.prompt) :, None])[:, 0].numpy())
        return found


@pytest.fixture(scope="module")
def oracle(run: RunDir) -> Oracle:
    return Oracle(run)


def test_recorded_logprobs_are_those_of_the_versions(
    batches: list[list[Replayed]], oracle: Oracle
) -> None:
    rollouts = [rollout for batch in batches for rollout in batch]
    suspended = [r for r in rollouts if len(r.actors) >= 3]
    far = [r for r in suspended if r.num_versions >= 3 and len(set(r.actors)) == 2]
    assert len(far) >= 5, "too few rollouts of three leases, three versions and two actors"
    wrong_version = []
    for version in range(NUM_UPDATES):
        touched = [r for r in rollouts if version in r.versions or version + 1 in r.versions]
        for rollout, expected in zip(touched, oracle.logprobs(version, touched), strict=True):
            difference = np.abs(rollout.logprobs - expected)
            assert difference[rollout.versions == version].max(initial=0.0) < 1e-4
            wrong_version.extend(difference[rollout.versions == version + 1])
    assert np.mean(wrong_version) > 1e-2  # else any version would have done


def test_every_update_trained_those_rollouts_whole(
    run: RunDir, batches: list[list[Replayed]], oracle: Oracle
) -> None:
    trained = 0
    for row, batch in zip(rows(run, "learner"), batches, strict=True):
        version = row["policy_version"]
        now = np.concatenate(oracle.logprobs(version, batch))
        x = now - np.concatenate([rollout.logprobs for rollout in batch])
        age = version - np.concatenate([rollout.versions for rollout in batch])
        trained += len(x)
        assert row["tokens"] == trained and row["staleness/masked_tokens"] == 0
        assert row["batch/num_tokens"] == len(x)
        assert row["batch/num_rollouts"] == len(batch)
        assert row["staleness/mean"] == pytest.approx(age.mean())
        assert row["staleness/max"] == age.max()
        assert row["versions_per_rollout/mean"] == pytest.approx(
            np.mean([rollout.num_versions for rollout in batch])
        )
        assert row["logprob_diff/max"] == pytest.approx(np.abs(x).max(), abs=1e-4)
        assert row["ratio/mean"] == pytest.approx(np.exp(x).mean(), rel=1e-3)
        k3 = np.exp(x) - 1 - x
        assert row["mismatch_kl/mean"] == pytest.approx(k3.mean(), rel=1e-3, abs=1e-6)
    assert max(row["logprob_diff/max"] for row in rows(run, "learner")) > 0.1


def _replay(records: list[Record]) -> Replayed:
    segments = [read_segment(record.message) for record in records]
    spans = [span for segment in segments for span in segment.spans]
    tokens = np.concatenate([segment.token_ids for segment in segments])
    assert [segment.token_offset for segment in segments] == np.cumsum(
        [0] + [len(segment.token_ids) for segment in segments[:-1]]
    ).tolist()
    leases = {r.message.values["lease_epoch"]: peer_name(r.peer) for r in records}
    assert len(tokens) <= BUDGET * len(leases)
    assert segments[0].prompt_ids is not None
    return Replayed(
        prompt=segments[0].prompt_ids.tolist(),
        tokens=tokens,
        logprobs=np.concatenate([segment.behavior_logprobs for segment in segments]),
        versions=np.repeat(
            [span.policy_version for span in spans], [span.num_tokens for span in spans]
        ),
        actors=list(leases.values()),
    )
