"""What sbatch answers at sites where it talks."""

from __future__ import annotations

import pytest

from stac2cube.executors.queue import in_one_line, is_plain, job_in, lets_in_no_more

BANNER = "Welcome to the cluster of 2026\n4711 core hours are left\n"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("17\n", ("17", "")),
        ("17;hpda2\n", ("17", "hpda2")),
        ("Submitted batch job 17\n", ("17", "")),
        ("Submitted batch job 17 on cluster hpda2\n", ("17", "hpda2")),
        (f"{BANNER}17\n", ("17", "")),
        (f"17\n{BANNER}", ("17", "")),
        (f"{BANNER}17;c\n{BANNER}", ("17", "c")),
        ("2026\nSubmitted batch job 17\n2027\n", ("17", "")),
        ("2026\n17;c\n", ("17", "c")),
        ("2026\n17\n", ("", "")),
        ("17\n17\n", ("17", "")),
        ("your job is number 17\n", ("", "")),
        ("", ("", "")),
        (BANNER, ("", "")),
    ],
)
def test_the_job_in_an_answer(said: str, found: tuple[str, str]) -> None:
    assert job_in(said) == found


def test_a_plain_answer() -> None:
    assert is_plain("17\n")
    assert is_plain("17;c")
    assert not is_plain(f"{BANNER}17\n")


def test_words_are_shown_without_escapes() -> None:
    assert in_one_line("a\x1b[31m b\n\nc\n") == "a[31m b; c"


ALL_LIMITS = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size)"


@pytest.mark.parametrize(
    ("said", "fewer"),
    [
        (f"sbatch: AssocMaxSubmitJobLimit; {ALL_LIMITS}", True),
        (f"sbatch: QOSMaxSubmitJobPerUserLimit; {ALL_LIMITS}", True),
        (f"sbatch: AssocGrpSubmitJobsLimit; {ALL_LIMITS}", True),
        (f"sbatch: {ALL_LIMITS}", True),
        ("sbatch: Batch job submission failed: Invalid job array specification", True),
        ("sbatch: you have too many jobs in the queue", True),
        # Fewer jobs do not help where each is too large.
        (f"sbatch: QOSMaxWallDurationPerJobLimit; {ALL_LIMITS}", False),
        (f"sbatch: QOSMaxCpuPerUserLimit; {ALL_LIMITS}", False),
        ("sbatch: invalid partition specified: nonsense", False),
    ],
)
def test_words_by_which_fewer_jobs_may_be_let_in(said: str, fewer: bool) -> None:
    assert lets_in_no_more(said) == fewer
