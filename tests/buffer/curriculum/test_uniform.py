"""The uniform curriculum: every prompt once per epoch, in an order that seed and epoch fix."""

from buffer.curriculum import Outcome, make_curriculum
from buffer.curriculum.uniform import UniformCurriculum
from tests.buffer.fakes import make_config, make_prompt

NUM_PROMPTS = 7


def draw(curriculum: UniformCurriculum, count: int) -> list[int]:
    return [int(curriculum.sample(1, 0)[0]) for _ in range(count)]


def test_every_prompt_once_per_epoch() -> None:
    curriculum = UniformCurriculum(NUM_PROMPTS, seed=0)
    epochs = [draw(curriculum, NUM_PROMPTS) for _ in range(5)]
    assert all(sorted(epoch) == list(range(NUM_PROMPTS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert curriculum.metrics() == {"curriculum/uniform/epoch": 5.0}


def test_the_order_follows_from_the_seed() -> None:
    first, same, other = (UniformCurriculum(NUM_PROMPTS, seed) for seed in (1, 1, 2))
    assert draw(first, 14) == same.sample(14, 0).tolist() != draw(other, 14)


def test_a_restored_one_goes_on_where_it_was() -> None:
    curriculum = UniformCurriculum(NUM_PROMPTS, seed=3)
    for drawn in (0, 5, 7, 9, 20):
        expected = UniformCurriculum(NUM_PROMPTS, seed=3)
        draw(expected, drawn)
        curriculum.load_state_dict(expected.state_dict())
        assert draw(curriculum, 10) == draw(expected, 10)


def test_what_was_opened_is_not_drawn_again_in_the_epoch() -> None:
    drawn, replayed = (UniformCurriculum(NUM_PROMPTS, seed=0) for _ in range(2))
    for prompt in draw(drawn, 5):
        replayed.opened(prompt, 0)
    assert draw(replayed, 9) == draw(drawn, 9)


def test_success_does_not_matter_to_it() -> None:
    prompts = [make_prompt(i) for i in range(NUM_PROMPTS)]
    curriculum, other = (make_curriculum(make_config(), prompts) for _ in range(2))
    curriculum.observe(Outcome(prompt=0, successes=4, trials=4, version=0))
    assert curriculum.sample(9, 0).tolist() == other.sample(9, 0).tolist()
