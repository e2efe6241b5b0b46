// Thin products of floats with a large matrix in bfloat16, which is read once and widened in registers.
#include <algorithm>
#include <vector>

#include "bfloat16.h"
#include "products.h"

using namespace lanes;

namespace {

constexpr int64_t PANEL = NV * W;  // columns that are computed at once
constexpr int64_t DEEP = 512;      // features of a row, or rows, that are widened at once
constexpr int64_t SMALL = 1 << 15;

void widen(const Bfloat16* from, int64_t n, float* to) {
  over(n, [&](int64_t i, int64_t count) { store(to + i, load(from + i, count), count); });
}

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

// out [N, R] contiguous = scale x [N, K] thin [K, R]; thin has any strides, x a stride of rows.
extern "C" void mixed_rows(const Bfloat16* x, const float* thin, float* out, int64_t N, int64_t K,
                           int64_t R, int64_t xn, int64_t tk, int64_t tr, float scale,
                           int32_t threads) {
  const int64_t width = up(R, W);
  std::vector<float> packed(K * width);  // the panels of columns, one after the other
  for (int64_t k = 0; k < K; ++k)
    for (int64_t r = 0; r < R; ++r) {
      const int64_t panel = r / PANEL * PANEL, columns = std::min(PANEL, width - panel);
      packed[panel * K + k * columns + r - panel] = thin[k * tk + r * tr] * scale;
    }
#pragma omp parallel num_threads(threads) if (N * K > SMALL)
  {
    std::vector<float> rows(MR * DEEP), sums(MR * width);
#pragma omp for schedule(static)
    for (int64_t block = 0; block < (N + MR - 1) / MR; ++block) {
      const int64_t n = block * MR, count = std::min(MR, N - n);
      for (int64_t k = 0; k < K; k += DEEP) {
        const int64_t depth = std::min(DEEP, K - k);
        for (int64_t i = 0; i < count; ++i) widen(x + (n + i) * xn + k, depth, &rows[i * DEEP]);
        for (int64_t r = 0; r < width; r += PANEL) {
          const int64_t columns = std::min(PANEL, width - r);
          product(count, columns, depth, rows.data(), DEEP, 1, &packed[r * K + k * columns], columns,
                  &sums[r], width, k > 0);
        }
      }
      for (int64_t i = 0; i < count; ++i)
        std::copy_n(&sums[i * width], R, out + (n + i) * R);
    }
  }
}

// out [R, K], of any strides, = scale thin [N, R]^T x [N, K]; the rest is as in `mixed_rows`.
extern "C" void mixed_columns(const Bfloat16* x, const float* thin, float* out, int64_t N, int64_t K,
                              int64_t R, int64_t xn, int64_t tn, int64_t tr, int64_t outr,
                              int64_t outk, float scale, int32_t threads) {
  constexpr int64_t ROWS = 64;
#pragma omp parallel num_threads(threads) if (N * K > SMALL)
  {
    std::vector<float> tile(ROWS * PANEL), sums(R * PANEL);
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < (K + PANEL - 1) / PANEL; ++part) {
      const int64_t k = part * PANEL, columns = std::min(PANEL, K - k);
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t n = 0; n < N; n += ROWS) {
        const int64_t depth = std::min(ROWS, N - n);
        for (int64_t i = 0; i < depth; ++i) widen(x + (n + i) * xn + k, columns, &tile[i * PANEL]);
        for (int64_t r = 0; r < R; r += MR)
          product(std::min(MR, R - r), columns, depth, thin + n * tn + r * tr, tr, tn, tile.data(),
                  PANEL, &sums[r * PANEL], PANEL, true);
      }
      for (int64_t r = 0; r < R; ++r)
        for (int64_t i = 0; i < columns; ++i)
          out[r * outr + (k + i) * outk] = sums[r * PANEL + i] * scale;
    }
  }
}
