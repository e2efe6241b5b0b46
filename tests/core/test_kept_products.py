import subprocess
import sys

PRODUCTS = """
import torch
from strop.core import env
import psutil

env.keep_few_products()
torch.set_num_threads(1)
weights = [torch.ones(o, i, dtype=torch.bfloat16) for o, i in ((576, 576), (1536, 576), (576, 1536))]
resident = lambda: psutil.Process().memory_info().rss
grown = -resident()
with torch.inference_mode():
    for tokens in range(20, 900, 11):
        for w in weights:
            rows = torch.ones(tokens, w.shape[1], dtype=torch.bfloat16)
            torch.mm(rows, w.T)
            torch.mm(torch.ones(tokens, w.shape[0], dtype=torch.bfloat16), w)
            torch.mm(rows, rows[:16].T)
print(grown + resident())
"""


def test_products_of_many_lengths_do_not_pile_up():
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 250e6  # 720 products, 0.5 GB where nothing bounds them
