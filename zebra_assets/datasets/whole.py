"""What the row blocks of one dataset come to together: the rows' digests in order, their files, and what was found in them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from zebra_assets.contracts.dataset_spec import SPLITS
from zebra_assets.datasets.findings import Findings
from zebra_assets.datasets.summary import Summary
from zebra_assets.datasets.work import Done, Job, Piece


@dataclass
class Whole:
    """A dataset without its rows."""

    findings: Findings
    summary: Summary
    rows: int = 0
    digests: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def rows_by_split(self) -> dict[str, int]:
        """Rows of each split that has any."""
        counts = {name: sum(p.rows for p in self.pieces if p.split == name) for name in SPLITS}
        return {name: count for name, count in counts.items() if count}


def gather(job: Job, dones: Iterable[Done], note: Callable[[Done], object]) -> Whole:
    """Add up what blocks came to, in their order; ``note`` sees each of them."""
    whole = Whole(Findings(), job.together.summary if job.together else Summary(job.spec))
    for done in dones:
        note(done)
        whole.findings.merge(done.findings)
        if job.together is None:
            whole.summary.merge(done.summary)
        whole.rows += done.rows
        whole.digests.append(done.digest)
        whole.pieces += done.pieces
    return whole
