"""Where the tiles of JPEG 2000 files lie: files made by GDAL's OpenJPEG, with and without lists."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio

from stac2cube.fastcog.jp2 import Jp2Header, NotJpeg2000Error, packet_lengths, read_jp2_header
from tests.pixels.granules import box32, texture, write


class Bytes:
    """A file in memory that counts how often it is asked."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, 0

    def __call__(self, first: int, last: int) -> bytes:
        self.asked += 1
        return self.content[first:last]


def jp2(path: Path, **options: str) -> bytes:
    settings = {"driver": "JP2OpenJPEG", "blockxsize": 128, "blockysize": 128, "quality": "100", "reversible": "YES"}
    gone = dict.fromkeys(("compress", "predictor", "blocksize"))
    write(path, texture(box32(300, 420)), box32(300, 420), **(gone | settings | options))
    return path.read_bytes()


def parts_in(content: bytes) -> list[tuple[int, int, int]]:
    """Tile, first byte and length of every tile-part, by walking the codestream as it is."""
    place = content.index(b"\xff\x4f\xff\x51") + 2
    found = []
    while content[place : place + 2] != b"\xff\xd9":
        marker, length = struct.unpack_from(">HH", content, place)
        if marker == 0xFF90:
            tile, total = struct.unpack_from(">HI", content, place + 4)
            found.append((tile, place, total))
            place += total
        else:
            place += 2 + length
    return found


def told(header: Jp2Header) -> list[tuple[int, int, int]]:
    return list(zip(header.tiles.tolist(), header.offsets.tolist(), header.counts.tolist(), strict=True))


def test_lengths_are_read_from_the_list(tmp_path: Path) -> None:
    content = jp2(tmp_path / "a.jp2", TLM="YES", PLT="YES")
    file = Bytes(content)
    header = read_jp2_header(file, len(content), "state", 5)
    assert file.asked == 1
    assert told(header) == parts_in(content)
    assert len(header.tiles) == 3 * 4
    assert (header.height, header.width, header.tile_height, header.tile_width) == (300, 420, 128, 128)
    assert (header.dtype, header.bands, header.packets) == ("uint16", 1, True)
    assert header.ranges(5) == [(first, first + count) for tile, first, count in parts_in(content) if tile == 5]
    back = Jp2Header.from_record(header.to_record())
    assert told(back) == told(header)
    assert (back.size, back.etag, back.modified, back.packets) == (len(content), "state", 5, True)


def test_a_tile_decodes_from_its_ranges_alone(tmp_path: Path) -> None:
    """The oracle is GDAL: with all other tile-parts blanked, that tile's pixels are still right."""
    content = jp2(tmp_path / "a.jp2", TLM="YES")
    header = read_jp2_header(Bytes(content), len(content))
    blanked = bytearray(content)
    for tile, first, count in told(header):
        if tile != 5:
            blanked[first + 14 : first + count] = bytes(count - 14)
    (tmp_path / "b.jp2").write_bytes(blanked)
    window = rasterio.windows.Window(128, 128, 128, 128)
    with rasterio.open(tmp_path / "a.jp2") as whole, rasterio.open(tmp_path / "b.jp2") as part:
        np.testing.assert_array_equal(part.read(1, window=window), whole.read(1, window=window))


def test_without_a_list_parts_are_followed_only_if_asked(tmp_path: Path) -> None:
    content = jp2(tmp_path / "a.jp2")
    assert told(read_jp2_header(Bytes(content), len(content))) == []
    assert told(read_jp2_header(Bytes(content), len(content), follow=True)) == parts_in(content)


def test_packets_that_are_listed_add_up(tmp_path: Path) -> None:
    content = jp2(tmp_path / "a.jp2", PLT="YES")
    for _, first, count in parts_in(content):
        place, packets = first + 12, 0
        while content[place : place + 2] != b"\xff\x93":
            marker, length = struct.unpack_from(">HH", content, place)
            if marker == 0xFF58:
                packets += sum(packet_lengths(content[place + 4 : place + 2 + length]))
            place += 2 + length
        assert packets == first + count - place - 2


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    content = jp2(tmp_path / "a.jp2", TLM="YES")
    with pytest.raises(NotJpeg2000Error, match="no JPEG 2000"):
        read_jp2_header(Bytes(b"II*\0" + bytes(100)))
    with pytest.raises(NotJpeg2000Error, match="ends within"):
        read_jp2_header(Bytes(content[:150]))
    with pytest.raises(NotJpeg2000Error, match="cut off"):
        read_jp2_header(Bytes(content[: len(content) // 2]), len(content) // 2)
    at = content.index(b"\xff\x4f\xff\x51")
    with pytest.raises(NotJpeg2000Error, match="no marker"):
        read_jp2_header(Bytes(content[: at + 2] + bytes(400)))
