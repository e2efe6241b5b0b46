"""Time the rotary embedding: python -m strop.ops.rope.bench_rope."""

from strop.ops.rope import rope
from strop.ops.rope.cases import TIMED
from strop.testing import bench

if __name__ == "__main__":
    for line in bench.run(rope, "eager", TIMED):
        print(line, flush=True)
