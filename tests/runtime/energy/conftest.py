"""A clock that is set by hand, and trees of small files as the kernel shows them."""

import threading

import pytest

PATIENCE_S = 10.0


class Clock:
    def __init__(self, now_s=1000.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s

    def pass_s(self, seconds):
        self.now_s += seconds


class Tree:
    """A root directory with `proc` and `sys` below it."""

    def __init__(self, root):
        self.root = root

    def put(self, files):
        for name, content in files.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
        return self

    def remove(self, name):
        (self.root / name).unlink()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "root")


@pytest.fixture
def wait_until():
    """Looks at what another thread brings again and again, for at most PATIENCE_S."""

    def wait(condition):
        never = threading.Event()
        for _ in range(int(PATIENCE_S / 0.01)):
            if condition():
                return
            never.wait(0.01)
        raise AssertionError("waited in vain")

    return wait
