"""Time attention among segments: python -m strop.ops.segment_attention.bench_segment_attention."""

from strop.ops.segment_attention import segment_attention
from strop.ops.segment_attention.cases import TIMED
from strop.testing import bench

if __name__ == "__main__":
    for line in bench.run(segment_attention, "cpu", TIMED):
        print(line, flush=True)
