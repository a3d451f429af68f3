"""What comes from outside is input: addresses without keys, texts without escapes, waiting that ends."""

from __future__ import annotations
