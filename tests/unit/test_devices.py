"""How many threads torch multiplies on, in a process of its own: a team of OpenMP's stays for good."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import torch
from models.devices import map_rows, share_threads, use_threads, worker_threads

share_threads(2)
use_threads(2)
big = torch.ones(512, 512)
big @ big  # the decoder's team

def threads_after_a_product(row):
    big.exp()
    return torch.get_num_threads()

found = set(worker_threads().map(threads_after_a_product, range(3)))
found |= set(map_rows(threads_after_a_product, [1, 2, 3]))
assert found == {1}, found
use_threads(2)
assert threads_after_a_product(0) == 2
"""


def test_threads_beside_the_decoder_multiply_alone_whatever_the_decoder_chose() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_choice_of_threads_outlives_the_first_product() -> None:
    check = """
import threading
import torch
from models.devices import use_threads

chosen, go, found = threading.Event(), threading.Event(), []

def work():
    use_threads(1)
    chosen.set()
    go.wait()
    torch.ones(512, 512).exp()
    found.append(torch.get_num_threads())

thread = threading.Thread(target=work)
thread.start()
chosen.wait()
use_threads(2)
go.set()
thread.join()
assert found == [1], found
"""
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
