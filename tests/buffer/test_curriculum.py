"""The uniform curriculum: every prompt once per epoch, in an order that seed and epoch fix."""

from buffer.curriculum import UniformCurriculum, make_curriculum
from tests.buffer.fakes import make_prompt

PROMPTS = [make_prompt(i) for i in range(7)]


def ids(curriculum: UniformCurriculum, count: int) -> list[str]:
    return [curriculum.next_prompt(0).prompt_id for _ in range(count)]


def test_every_prompt_once_per_epoch() -> None:
    curriculum = UniformCurriculum(PROMPTS, seed=0)
    epochs = [ids(curriculum, 7) for _ in range(5)]
    assert all(sorted(epoch) == sorted(p.prompt_id for p in PROMPTS) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert curriculum.metrics() == {"curriculum/uniform/epoch": 5.0}


def test_the_order_follows_from_the_seed() -> None:
    first, same, other = (UniformCurriculum(PROMPTS, seed) for seed in (1, 1, 2))
    assert ids(first, 14) == ids(same, 14) != ids(other, 14)


def test_a_restored_one_goes_on_where_it_was() -> None:
    curriculum = UniformCurriculum(PROMPTS, seed=3)
    for drawn in (0, 5, 7, 9, 20):
        expected = UniformCurriculum(PROMPTS, seed=3)
        ids(expected, drawn)
        curriculum.load_state_dict(expected.state_dict())
        assert ids(curriculum, 10) == ids(expected, 10)


def test_success_does_not_matter_to_it() -> None:
    curriculum, other = (make_curriculum("uniform", PROMPTS, 0) for _ in range(2))
    curriculum.observe(PROMPTS[0], successes=4, trials=4, version=0)
    assert [curriculum.next_prompt(0) for _ in range(9)] == [other.next_prompt(0) for _ in range(9)]
