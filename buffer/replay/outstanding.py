"""Draws that no step has acknowledged yet, and what it takes to undo one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from buffer.groups import ClosedGroup
from buffer.table import Draw


@dataclass(frozen=True, slots=True)
class Shipped:
    """A draw that went to the learner, and what it consumed."""

    batch_id: int
    version: int
    draw: Draw[ClosedGroup]
    left: list[int]  # its items that left the table with it
    untrained: list[int]  # slots that made it short
    refills: int  # that had been used when it came
    slots: int  # it consumed in all


class Outstanding:
    """Shipped draws by batch id. A draw leaves by an acknowledgement or by a refund, once."""

    def __init__(self) -> None:
        self._shipped: dict[int, Shipped] = {}
        self._refunded: dict[int, Shipped] = {}  # since the last acknowledgement

    def __len__(self) -> int:
        return len(self._shipped)

    def ship(self, shipped: Shipped) -> None:
        assert shipped.batch_id not in self._shipped, shipped.batch_id
        self._shipped[shipped.batch_id] = shipped

    def get(self, batch_id: int) -> Shipped | None:
        return self._shipped.get(batch_id)

    def batch_ids(self) -> list[int]:
        """The latest first: the order in which draws are undone."""
        return sorted(self._shipped, reverse=True)

    def items(self) -> dict[int, ClosedGroup]:
        """Items that left the table and may come back."""
        return {
            item_id: item
            for shipped in self._shipped.values()
            for item_id, item in zip(shipped.draw.item_ids, shipped.draw.items, strict=True)
            if item_id in shipped.left
        }

    def refund(self, batch_id: int) -> Shipped:
        shipped = self._shipped.pop(batch_id)
        self._refunded[batch_id] = shipped
        return shipped

    def acknowledge(self, batch_id: int) -> tuple[Shipped | None, bool]:
        """The draw that a step trained, and whether it had been refunded; None: it is known."""
        late = self._refunded.get(batch_id)
        self._refunded.clear()
        if late is not None:
            return late, True
        return self._shipped.pop(batch_id, None), False

    def state_dict(self) -> dict[str, Any]:
        """All but the items themselves."""
        return {
            "shipped": [_plain(shipped) for shipped in self._shipped.values()],
            "refunded": [_plain(shipped) for shipped in self._refunded.values()],
        }

    def load_state_dict(self, state: dict[str, Any], items: Mapping[int, ClosedGroup]) -> None:
        """`items` has those of the table and those of `items()`, by id."""
        self._shipped, self._refunded = (
            {values["batch_id"]: _shipped(values, items) for values in state[name]}
            for name in ("shipped", "refunded")
        )


def _plain(shipped: Shipped) -> dict[str, Any]:
    draw = shipped.draw
    return {
        "batch_id": shipped.batch_id,
        "version": shipped.version,
        "item_ids": list(draw.item_ids),
        "inclusion_probs": list(draw.inclusion_probs),
        "times_sampled": list(draw.times_sampled),
        "population": draw.population,
        "left": list(shipped.left),
        "untrained": list(shipped.untrained),
        "refills": shipped.refills,
        "slots": shipped.slots,
    }


def _shipped(values: dict[str, Any], items: Mapping[int, ClosedGroup]) -> Shipped:
    item_ids = [int(item_id) for item_id in values["item_ids"]]
    draw = Draw(
        item_ids,
        # None stands for an item that left for good: nothing asks for it again.
        [cast(ClosedGroup, items.get(item_id)) for item_id in item_ids],
        [float(prob) for prob in values["inclusion_probs"]],
        [int(times) for times in values["times_sampled"]],
        int(values["population"]),
    )
    names = ("batch_id", "version", "left", "untrained", "refills", "slots")
    return Shipped(draw=draw, **{name: values[name] for name in names})
