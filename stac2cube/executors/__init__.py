"""Where the work runs. A place changes no pixel; only these rooms name dask."""

from __future__ import annotations
