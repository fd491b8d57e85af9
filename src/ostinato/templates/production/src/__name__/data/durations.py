"""Minutes to hours and minutes: a task whose answers can be checked."""

from __future__ import annotations

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import Problems


@DATASETS.register("durations")
class Durations(Problems):
    """Rows `{"prompt": "0095=", "response": "01:35", "answer": "01:35"}`, no duration twice, all below `hours`.

    `first` leaves out that many: the held-out data's is the `size` of the training data.
    """

    what = "duration"

    def __init__(self, seed: int, *, hours: int = 48, size: int = 2000, first: int = 0) -> None:
        if not 1 <= hours <= 99:
            raise ValueError(f"hours: {hours} is not between 1 and 99.")
        super().__init__("durations", seed, 60 * hours, [hours], size, first)

    def problem(self, number: int) -> Row:
        """The duration of that many minutes."""
        answer = f"{number // 60:02d}:{number % 60:02d}"
        return {"prompt": f"{number:04d}=", "response": answer, "answer": answer}
