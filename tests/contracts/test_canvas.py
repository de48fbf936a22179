"""The contract of slots, and mosaics on each kind of them; a new kind is added to ``SPACES``."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.canvas import DiskSlots, DiskSpace, MemorySlots, MemorySpace, Slots, Space, WatchedSlots
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.grid import fixed_grid
from pixelsmith.sampling.patches import Tiling
from pixelsmith.sampling.scattered import COVERAGES

COUNT, CAPACITY = 5, 12
SLOTS: dict[str, Callable[[Path], Slots]] = {
    "memory": lambda folder: MemorySlots(),
    "disk": lambda folder: DiskSlots(folder / "slots", COUNT, CAPACITY, np.float32),
}
SPACES: dict[str, Callable[[Path], Space]] = {"memory": lambda folder: MemorySpace(), "disk": DiskSpace}


@pytest.mark.parametrize("kind", SLOTS)
class TestSlots:
    def test_a_slot_exists_after_it_is_written(self, kind: str, tmp_path: Path) -> None:
        slots = SLOTS[kind](tmp_path)
        assert [i in slots for i in range(COUNT)] == [False] * COUNT
        values = np.arange(CAPACITY, dtype=np.float32).reshape(3, 4)
        slots.write(3, values)
        slots.sync()
        assert [i in slots for i in range(COUNT)] == [False, False, False, True, False]
        np.testing.assert_array_equal(slots.read(3)[:CAPACITY], values.ravel())

    def test_a_slot_may_be_partly_filled_and_is_a_copy(self, kind: str, tmp_path: Path) -> None:
        slots, values = SLOTS[kind](tmp_path), np.ones((1, 2), np.float32)
        slots.write(0, values)
        slots.write(1, values[:, :0])
        values[:] = 7
        np.testing.assert_array_equal(slots.read(0)[:2], [1, 1])
        assert 1 in slots


def test_watchers_see_damage_that_was_found(tmp_path: Path) -> None:
    path, values = tmp_path / "slots", np.arange(CAPACITY, dtype=np.float32)
    slots = DiskSlots(path, COUNT, CAPACITY, np.float32)
    for index in (1, 3):
        slots.write(index, values)
    slots.close()
    watched = WatchedSlots(path, COUNT, CAPACITY, np.float32)
    np.testing.assert_array_equal(watched.read(1), values)
    content = bytearray((tmp_path / "slots.data").read_bytes())
    content[3 * values.nbytes] ^= 0xFF
    (tmp_path / "slots.data").write_bytes(content)
    with pytest.raises(LookupError, match="block 3"):
        watched.read(3)
    assert 3 not in DiskSlots(path, COUNT, CAPACITY, np.float32)
    assert watched.refresh() == 1
    assert [index in watched for index in range(COUNT)] == [False, True, False, False, False]


@pytest.mark.parametrize("kind", SPACES)
class TestSpace:
    def test_opens_the_same_mosaic_again_until_it_is_dropped(self, kind: str, tmp_path: Path) -> None:
        space, tiling = SPACES[kind](tmp_path), fixed_grid(Size(6, 6), 4, 0, 0)
        assert "a/b" not in space
        space.open("a/b", tiling, 1).put(0, torch.ones(1, 4, 4))
        assert "a/b" in space
        assert list(space.open("a/b", tiling, 1).missing()) == [range(i, i + 1) for i in range(1, 4)]
        space.drop("a/b")
        space.drop("a/b")
        assert "a/b" not in space
        assert len(list(space.open("a/b", tiling, 1).missing())) == 4

    @given(width=st.integers(8, 50), height=st.integers(8, 50), name=st.sampled_from(sorted(COVERAGES)))
    def test_a_mosaic_is_the_weighted_mean_of_its_patches(self, kind: str, width: int, height: int, name: str) -> None:
        size = Size(width, height)
        tiling = COVERAGES[name](size, Size(min(16, width), min(16, height)), 2, seed=1, stage=1).patches(0)
        expected = np.zeros((2, height, width), np.float32)
        with TemporaryDirectory() as folder:
            mosaic = SPACES[kind](Path(folder)).open("m", tiling, 2)
            order = list(range(len(tiling)))
            random.Random(0).shuffle(order)
            for index in order:
                patch = tiling[index]
                values = torch.randn(
                    2, patch.window.height, patch.window.width, generator=torch.Generator().manual_seed(index)
                )
                mosaic.put(index, values)
                expected[(..., *patch.window.slices)] += patch.weights * values.numpy()
            assert mosaic.complete
            whole = mosaic.read(size.window)
            np.testing.assert_allclose(whole, expected, atol=1e-5)
            part = Window(height // 3, width // 4, height // 2, width // 2)
            assert torch.equal(mosaic.read(part), whole[(..., *part.slices)])

    def test_pixels_are_bytes_and_exact_where_tiles_do_not_overlap(self, kind: str, tmp_path: Path) -> None:
        tiling: Tiling = fixed_grid(Size(5, 4), 4, 2, 0).scaled(3)
        mosaic = SPACES[kind](tmp_path).open("p", tiling, 3, torch.uint8, Size(13, 11))
        for index in range(len(tiling)):
            mosaic.put(index, torch.full((3, 12, 12), 40.0 * index + 13))
        assert mosaic.size == Size(13, 11)
        found = mosaic.read(mosaic.size.window)
        assert found.dtype == torch.uint8
        assert set(found.flatten().tolist()) == {13, 53}

    def test_only_groups_with_a_missing_patch_are_computed(self, kind: str, tmp_path: Path) -> None:
        mosaic = SPACES[kind](tmp_path).open("m", fixed_grid(Size(28, 4), 4, 0, 0), 1)
        for index in (0, 1, 2, 3):
            mosaic.put(index, torch.zeros(1, 4, 4))
        assert list(mosaic.missing(3)) == [range(3, 6), range(6, 7)]
        assert list(mosaic.missing(3, even=True)) == [range(4, 7)], "two, two and three"
        assert list(mosaic.missing(5, even=True)) == [range(3, 7)], "three and four"
        assert not mosaic.complete
        assert mosaic.has(Window(0, 0, 4, 16))
        assert not mosaic.has(Window(0, 12, 4, 5))
        with pytest.raises(LookupError, match="patch 4"):
            mosaic.read(Window(0, 12, 4, 5))


class TestDamage:
    """A file of slots after a crash: incomplete slots are missing."""

    def filled(self, folder: Path) -> DiskSlots:
        slots = DiskSlots(folder / "slots", COUNT, CAPACITY, np.float32)
        for i in range(COUNT):
            slots.write(i, np.full(CAPACITY, i + 1.0, np.float32))
        return slots

    def reopened(self, folder: Path) -> list[bool]:
        slots = DiskSlots(folder / "slots", COUNT, CAPACITY, np.float32)
        return [i in slots for i in range(COUNT)]

    def test_another_process_reads_what_was_written(self, tmp_path: Path) -> None:
        self.filled(tmp_path).close()
        slots = DiskSlots(tmp_path / "slots", COUNT, CAPACITY, np.float32)
        assert [slots.read(i)[0] for i in range(COUNT)] == [1, 2, 3, 4, 5]

    def test_a_damaged_block_is_missing(self, tmp_path: Path) -> None:
        self.filled(tmp_path).close()
        with (tmp_path / "slots.data").open("r+b") as file:
            file.seek(2 * 4 * CAPACITY + 9)
            file.write(b"!")
        assert self.reopened(tmp_path) == [True, True, False, True, True]

    def test_a_truncated_file_lacks_its_end(self, tmp_path: Path) -> None:
        self.filled(tmp_path).close()
        with (tmp_path / "slots.data").open("r+b") as file:
            file.truncate(3 * 4 * CAPACITY + 5)
        assert self.reopened(tmp_path) == [True, True, True, False, False]

    def test_a_damaged_journal_confirms_no_damaged_block(self, tmp_path: Path) -> None:
        self.filled(tmp_path).close()
        journal = tmp_path / "slots.sums"
        content = bytearray(journal.read_bytes())
        content[4] ^= 1
        journal.write_bytes(content)
        assert self.reopened(tmp_path) == [True, False, True, True, True]
        journal.write_bytes(content[:7])
        assert self.reopened(tmp_path) == [True, False, False, False, False]
        journal.unlink()
        assert self.reopened(tmp_path) == [False] * COUNT

    def test_a_block_at_another_position_is_missing(self, tmp_path: Path) -> None:
        self.filled(tmp_path).close()
        for name, size in (("slots.data", 4 * CAPACITY), ("slots.sums", 4)):
            content = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(content[size : 2 * size] + content[:size] + content[2 * size :])
        assert self.reopened(tmp_path) == [False, False, True, True, True]
