"""What sbatch answers, at sites whose own sbatch says more than SLURM's does: banners, advice, the id in a sentence."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"\bSubmitted batch job (\d+)(?: on cluster (\S+))?")
_PARSABLE = re.compile(r"(\d+)(?:;([\w.-]+))?")
_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*Limit\b")
_TOO_MANY = re.compile(
    r"violates accounting/QOS policy|Invalid job array specification|MaxJobCount|MaxSubmit|too many jobs|job limit",
    re.IGNORECASE,
)


def job_in(said: str) -> tuple[str, str]:
    """Job id and cluster in an answer of sbatch, "" for what it does not say.

    The sentence of SLURM's own sbatch counts before a line that is a number, which a banner may have too; a line as
    ``--parsable`` makes it, with the cluster, counts before one without.

    Args:
        said: Standard output.
    """
    sentences = {(found[1], found[2] or "") for found in _SENTENCE.finditer(said)}
    lines = [found for line in said.splitlines() if (found := _PARSABLE.fullmatch(line.strip()))]
    named = {(found[1], found[2]) for found in lines if found[2]}
    bare = {(found[1], "") for found in lines if not found[2]}
    for kind in (sentences, named, bare):
        if kind:
            return next(iter(kind)) if len(kind) == 1 else ("", "")
    return "", ""


def is_plain(said: str) -> bool:
    """Whether an answer is what ``sbatch --parsable`` says, and nothing else."""
    return _PARSABLE.fullmatch(said.strip()) is not None


def in_one_line(said: str) -> str:
    """What was said, on one line, control characters left out."""
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in said.splitlines())
    return "; ".join(line for line in lines if line)


def lets_in_no_more(said: str) -> bool:
    """Whether sbatch refused a job because there are too many, or an array as too large: fewer may be let in.

    Args:
        said: Its words, or those of a site's own submit plugin. A limit that SLURM names (``"AssocMaxSubmitJobLimit"``)
            counts before the sentence that it writes for all limits.
    """
    named = _LIMIT.findall(said)
    return any("Submit" in limit for limit in named) if named else _TOO_MANY.search(said) is not None
