"""Time the gated linear unit: python -m strop.ops.glu.bench_glu."""

from strop.ops.glu import glu
from strop.ops.glu.cases import TIMED
from strop.testing import bench

if __name__ == "__main__":
    for line in bench.run(glu, "eager", TIMED):
        print(line, flush=True)
