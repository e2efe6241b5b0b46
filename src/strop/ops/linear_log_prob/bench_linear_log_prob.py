"""Time the scoring of tokens under a head: python -m strop.ops.linear_log_prob.bench_linear_log_prob."""

from strop.ops.linear_log_prob import linear_log_prob
from strop.ops.linear_log_prob.cases import TIMED
from strop.testing import bench

if __name__ == "__main__":
    for line in bench.run(linear_log_prob, "cpu", TIMED):
        print(line, flush=True)
