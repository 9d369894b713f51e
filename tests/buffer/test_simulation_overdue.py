"""Whole runs in which slow groups become overdue: mask, wait and drop."""

from tests.buffer.sim_worlds import constant, make_world, wide_world


def test_groups_that_finish_in_lease_order_are_never_overdue() -> None:
    """The bound of the admission alone: no mask, no drop, no wait is needed."""
    largest = []
    for seed in range(15):
        world = make_world(
            seed, lengths=constant, actors={"rollout_token_budget": 0}, world={"num_actors": 1}
        )
        world.run(10)
        eta = world.config.staleness.eta
        assert max(world.staleness()) <= eta
        assert all(batch.mask.all() for batch in world.batches)
        largest.append(max(world.staleness()) == eta)
    assert any(largest), "the bound was never reached: it does not bind"


def test_overdue_wait_never_masks_and_never_drops() -> None:
    for seed in range(20):
        world = wide_world(seed, "wait")
        world.run(8)
        assert all(batch.mask.all() for batch in world.batches)
        assert not sum(row.get("groups/dropped_overdue", 0) for _, row in world.rows)


def test_overdue_drop_never_ships_a_group_with_an_overdue_token() -> None:
    at_draw = in_flight = 0
    for seed in range(25):
        world = wide_world(seed, "drop")
        world.run(8)
        assert max(world.staleness()) <= world.config.staleness.eta
        at_draw += sum(row.get("groups/dropped_overdue", 0) for _, row in world.rows)
        for group, drawn in zip(world.closed, world.drawn_before, strict=True):
            if group.overdue and drawn < len(world.batches):  # no draw could have taken it
                members = [t for t in world.truths.values() if t.group_id == group.group_id]
                oldest = min(version for truth in members for version in truth.versions)
                assert world.batches[drawn].policy_version - oldest > world.config.staleness.eta
                in_flight += 1
    assert at_draw > 0 and in_flight > 5


def test_overdue_mask_trains_the_rest_of_what_it_masks() -> None:
    """`check_batch` compares every mask; here only that there was something to mask."""
    masked = 0
    for seed in range(10):
        world = wide_world(seed, "mask")
        world.run(8)
        masked += sum(int((batch.mask == 0).sum()) for batch in world.batches)
    assert masked > 50
