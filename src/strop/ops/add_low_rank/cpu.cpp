// A product of low rank in floats added to a matrix in bfloat16, which is read and written once, or
// only written.
#include <algorithm>
#include <vector>

#include "bfloat16.h"
#include "products.h"

using namespace lanes;

constexpr int64_t PANEL = NV * W;
constexpr int64_t SMALL = 1 << 15;

// out [N, E] += scale left [N, R] right [R, E]; out has a stride of rows, the others have any strides.
extern "C" void add_low_rank(Bfloat16* out, const float* left, const float* right, int64_t N,
                             int64_t E, int64_t R, int64_t outn, int64_t ln, int64_t lr, int64_t rr,
                             int64_t re, float scale, int32_t overwrite, int32_t threads) {
  std::vector<float> packed((E + PANEL - 1) / PANEL * PANEL * R);  // panels [R, PANEL]
  for (int64_t e = 0; e < E; ++e)
    for (int64_t r = 0; r < R; ++r)
      packed[(e / PANEL * R + r) * PANEL + e % PANEL] = right[r * rr + e * re] * scale;
  constexpr int64_t ROWS = 8 * MR;
#pragma omp parallel for schedule(static) num_threads(threads) if (N * E > SMALL)
  for (int64_t block = 0; block < (N + ROWS - 1) / ROWS; ++block)
    for (int64_t e = 0; e < E; e += PANEL) {
      const int64_t columns = std::min(PANEL, E - e), last = std::min(N, (block + 1) * ROWS);
      for (int64_t n = block * ROWS; n < last; n += MR) {
        const int64_t count = std::min(MR, last - n);
        float sums[MR * PANEL];
        for (int64_t i = 0; i < count && !overwrite; ++i)
          over(columns, [&](int64_t j, int64_t some) {
            store(sums + i * PANEL + j, load(out + (n + i) * outn + e + j, some), some);
          });
        product(count, columns, R, left + n * ln, ln, lr, &packed[e * R], PANEL, sums, PANEL, !overwrite);
        for (int64_t i = 0; i < count; ++i)
          over(columns, [&](int64_t j, int64_t some) {
            store(out + (n + i) * outn + e + j, load(sums + i * PANEL + j, some), some);
          });
      }
    }
}
