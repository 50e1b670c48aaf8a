"""Children that came to no result because their worker was lost, and who is to blame for it.

A worker is lost when its process dies or its device computes no more. That is no result: the child
is trained again, on another device if there is one, and after the children that wait for their
first turn. It is to blame when it was lost again and again while others got through. When others
don't get through either, the machine is to blame: the search stops and says what was lost most
often why, nothing of it is recorded, and a resume does these children again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection

from nasnet_det.search.devices import ExecutorError
from nasnet_det.search.job import ChildJob, ChildResult

PATIENCE = 2
"""Children that may be lost without a result in between, beside one for each worker (ours)."""


class Losses:
    """What was lost in one run of an executor.

    Args:
        max_retries: how often a child is trained again.
        num_workers: how many can be lost at once.
    """

    def __init__(self, max_retries: int, num_workers: int) -> None:
        self.max_retries, self.num_workers = max_retries, num_workers
        self._waiting: list[ChildJob] = []
        self._devices: dict[int, list[str]] = defaultdict(list)  # of each loss, by child
        self._reasons: dict[int, str] = {}  # by child, since the last result

    def put_back(self, job: ChildJob) -> None:
        """A child whose worker was lost before it began with it."""
        self._waiting.insert(0, job)

    def add(self, job: ChildJob, device: str, reason: str) -> ChildResult | None:
        """A child whose worker was lost; its failure if it is to blame.

        Raises:
            ExecutorError: too many were lost one after another.
        """
        self._devices[job.number].append(device)
        self._reasons[job.number] = reason
        if len(self._reasons) > self.num_workers + PATIENCE - 1:
            commonest = Counter(self._reasons.values()).most_common(1)[0][0]
            raise ExecutorError(
                f"{len(self._reasons)} children one after another were lost with their workers, "
                f"most often: {commonest}; when that is mended, go on with --resume"
            )
        num_losses = len(self._devices[job.number])
        if num_losses <= self.max_retries:
            self._waiting.append(job)
            return None
        failure = f"its worker was lost {num_losses} times, the last: {reason}"
        return ChildResult(job.number, None, failure, 0.0)

    def note_result(self) -> None:
        """A child got through."""
        self._reasons.clear()

    def take_new_to(self, device: str) -> ChildJob | None:
        """A child that was not lost on this device."""
        return self._take(lambda tried: device not in tried)

    def take_any(self, devices: Collection[str]) -> ChildJob | None:
        """A child for which none of these devices is new."""
        return self._take(lambda tried: tried.issuperset(devices))

    def _take(self, is_wanted: Callable[[set[str]], bool]) -> ChildJob | None:
        for place, job in enumerate(self._waiting):
            if is_wanted(set(self._devices[job.number])):
                return self._waiting.pop(place)
        return None
